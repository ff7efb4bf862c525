"""METEOR on token lists, for ``evaluate.load(folder)``."""
