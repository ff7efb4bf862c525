"""A results folder as the pipeline would leave it, small or large, with hostile text in it."""

from support.made_study.report import make_study
from support.made_study.texts import HOSTILE, HOSTILE_ID

__all__ = ["HOSTILE", "HOSTILE_ID", "make_study"]
