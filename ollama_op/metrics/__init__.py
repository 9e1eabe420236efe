"""What is measured: events as they happen, the state when it is asked for, and /metrics."""
