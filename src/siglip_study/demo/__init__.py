"""The embedded demo: a procedural world of clips and captions, and the micro models that live in it."""
