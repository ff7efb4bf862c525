"""The embedded demo: a procedural world of captioned clips, and its micro models."""

#: Raise it when the same settings give other clips, captions or facts.
VERSION = 1
