"""The Kubernetes API: how it is watched, written to, and told of events."""
