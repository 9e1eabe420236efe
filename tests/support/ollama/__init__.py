"""A real Ollama, its registry, and what stands before it."""
