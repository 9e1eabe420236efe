"""What may enter the cluster: the rules, who is asked about them over TLS, and the certificates."""
