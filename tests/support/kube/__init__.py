"""A real Kubernetes API, and what is around it."""
