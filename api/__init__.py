"""The REST API. Knows `crd` and two protocols of its own; never the engine."""
