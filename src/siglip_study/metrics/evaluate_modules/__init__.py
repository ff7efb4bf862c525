"""Metric modules in the layout that ``evaluate.load(folder)`` reads without a network."""
