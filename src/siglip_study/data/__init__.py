"""Dataset layouts → one manifest; frames sampled in time and decoded."""

#: Raise it when the same dataset gives another manifest or other rejections.
VERSION = 1
