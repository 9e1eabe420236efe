"""An embedded Kubernetes API and a scripted Ollama, for the demo and for fast tests.

Both are plain ASGI applications on anyio alone, so that they run behind a socket as well as in
process and in virtual time. They are held to the real things by the contract tests.
"""
