"""Simulated studies: how often the ranking is wrong in worlds whose truth is known."""
