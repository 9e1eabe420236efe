"""The REST API. Knows `crd` and two protocols of its own; never the engine.

Read `ports.py` (what it asks of the operator), `bodies.py` (what it says), `view.py` (all models,
ready to be sent), `routes.py` (what can be asked), `front.py` (who may ask), in that order.
"""
