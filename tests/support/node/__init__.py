"""A Kubernetes node of real parts, within this machine."""
