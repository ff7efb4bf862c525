"""Metrics on captions and embeddings: pure functions, with direction and range in ``registry``.

Importing this package loads numpy and polars at most; tokenizers and models load when first used.
"""
