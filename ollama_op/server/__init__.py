"""One Ollama server: what is known of it, who may change what on it, and when."""
