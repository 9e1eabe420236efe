"""The nouns: what an OllamaModel is, and what a model's name means to Ollama.

No I/O, and no import from `ollama_op` or `api`: everything else stands on this package.
"""
