"""What everything may use: errors, settings, tracing, logs, HTTP tools; nothing of one object."""
