"""Frozen encoders, the feature store, and the scorer that compares captions with frames."""

#: Raise it when the same frames give other features of the vision encoder.
VISION_VERSION = 2

#: Raise it when the same frames give other embeddings of the scorer.
SCORER_VERSION = 2
