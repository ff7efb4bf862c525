"""Rehearse a study without Snakemake.

Run with:

    python -m siglip_study.rehearsal config/study.yaml
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from siglip_study.config import load_config
from siglip_study.errors import StudyError
from siglip_study.rehearsal.dataset import assumed_from_arguments
from siglip_study.rehearsal.gpus import GPUS
from siglip_study.rehearsal.run import Assumptions, rehearse


def main(arguments: list[str] | None = None) -> int:
    """Rehearse, print the table, write it; 1 on a user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m siglip_study.rehearsal", description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--gpu", choices=GPUS, default="h200", help="to estimate for without one")
    parser.add_argument("--train", type=int, help="training clips to assume")
    parser.add_argument("--held-out", type=int, help="held-out clips to assume")
    parser.add_argument("--caption-tokens", type=int, help="mean caption length to assume")
    parser.add_argument("--presets", action="store_true", help="count the published runs too")
    parser.add_argument("--out", type=Path, help="folder of the two files; default: output_dir")
    given = parser.parse_args(arguments)
    log = logging.getLogger("siglip_study")
    log.setLevel(logging.INFO)
    log.addHandler(logging.StreamHandler(sys.stderr))
    try:
        config = load_config(given.config)
        found = rehearse(
            config,
            Assumptions(
                clips=assumed_from_arguments(given.train, given.held_out),
                caption_tokens=given.caption_tokens,
                gpu=given.gpu,
                presets=given.presets,
            ),
        )
        found.write(given.out or Path(config.output_dir))
    except StudyError as error:
        print(f"siglip-study: {error}", file=sys.stderr)
        return 1
    print(found.text())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
