"""Captions and embeddings → one table of scores."""
