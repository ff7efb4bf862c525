"""Frozen encoders, the feature store, and the scorer that compares captions with frames."""
