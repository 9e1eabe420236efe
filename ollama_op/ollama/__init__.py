"""One Ollama server: how it is called, and what its answers mean."""
