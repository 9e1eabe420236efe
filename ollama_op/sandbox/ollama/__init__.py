"""A scripted Ollama: its disk, its downloads, and the troubles that it can have."""
