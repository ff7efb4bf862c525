"""Rehearse a study without Snakemake.

Run with:

    python -m siglip_study.planning config/study.yaml
"""

from __future__ import annotations

import argparse
from pathlib import Path

from siglip_study.base.jobs import exit_status
from siglip_study.config import load
from siglip_study.planning.rehearse import add_assumptions, rehearse_and_write


def main(arguments: list[str] | None = None) -> int:
    """Rehearse, print the table, write it; 1 on a user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m siglip_study.planning", description=__doc__)
    add_assumptions(parser)
    parser.add_argument("--presets", action="store_true", help="count the published runs too")
    parser.add_argument("--out", type=Path, help="folder of the two files; default: output_dir")
    given = parser.parse_args(arguments)
    return exit_status(
        lambda: print(rehearse_and_write(load(given.config), given, given.out).text())
    )


if __name__ == "__main__":
    raise SystemExit(main())
