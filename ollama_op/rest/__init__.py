"""What the REST API asks of the operator and of Kubernetes, and how it is served."""
