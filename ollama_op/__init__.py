"""The operator: watches OllamaModels and keeps the models they name on an Ollama server."""
