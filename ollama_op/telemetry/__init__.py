"""What the operator tells of its doings: logs, spans, metrics.

The engine knows only `observer`, `tracing` and `lifetrace`; the rest is imported where it is used.
"""
