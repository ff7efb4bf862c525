"""The embedded demo: a procedural world of captioned clips, and its micro models."""
