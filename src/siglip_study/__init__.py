"""siglip-study: which projector between a vision encoder and an LLM, and how sure can one be."""

__version__ = "0.1.0"
