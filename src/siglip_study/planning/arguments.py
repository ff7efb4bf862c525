"""What the rehearsal's commands have in common: assumptions, and progress on standard error."""

from __future__ import annotations

import argparse
import logging
import sys

from siglip_study.planning.dataset import assumed_from_arguments
from siglip_study.planning.gpus import GPUS
from siglip_study.planning.run import Assumptions


def add_assumptions(parser: argparse.ArgumentParser) -> None:
    """Options for what cannot be counted or timed here."""
    parser.add_argument("--gpu", choices=GPUS, default="h200", help="to estimate for without one")
    parser.add_argument("--train", type=int, help="training clips to assume")
    parser.add_argument("--held-out", type=int, help="held-out clips to assume")
    parser.add_argument("--caption-tokens", type=int, help="mean caption length to assume")


def given_assumptions(given: argparse.Namespace, presets: bool = False) -> Assumptions:
    """The options as given."""
    return Assumptions(
        clips=assumed_from_arguments(given.train, given.held_out),
        caption_tokens=given.caption_tokens,
        gpu=given.gpu,
        presets=presets,
    )


def show_progress() -> None:
    """The package's log goes to standard error."""
    log = logging.getLogger("siglip_study")
    log.setLevel(logging.INFO)
    log.addHandler(logging.StreamHandler(sys.stderr))
