"""An embedded Kubernetes API: discovery, schema, storage, watches, server-side rules."""
