"""What everything may use: errors, settings, tracing, logs, HTTP tools. Knows no object and no server."""
