from support.virtual.fixtures import (  # noqa: F401 - pytest finds fixtures by their names
    _quiet,
    anyio_backend,
    kubeconfig,
    ollama_op,
    run,
    spans,
    w,
)
