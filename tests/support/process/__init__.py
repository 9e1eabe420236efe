"""The operator and other programs as processes of this machine."""
