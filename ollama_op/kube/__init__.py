"""The one seam to Kubernetes: connection, list and watch, store, writes, events, lease."""
