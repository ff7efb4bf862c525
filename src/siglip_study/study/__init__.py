"""The study that a config spells out: its runs and cells, their paths, and what runs again."""

from siglip_study.study.grid import Study

__all__ = ["Study"]
