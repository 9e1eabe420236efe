"""The wiring: the operator as one value, the process around it, its probes."""
