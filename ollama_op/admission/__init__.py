"""What may enter the cluster: the rules, the webhook over TLS, and its certificates."""
