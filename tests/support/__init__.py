"""What the tests stand on: real parts run as processes, and a model registry on loopback."""
