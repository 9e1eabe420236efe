"""A typed client of Ollama's HTTP API: whose word an answer is, and what it means."""
