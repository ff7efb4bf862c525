"""Rehearse a study without Snakemake.

Run with:

    python -m siglip_study.planning config/study.yaml
"""

from __future__ import annotations

import argparse
from pathlib import Path

from siglip_study.base.jobs import exit_status
from siglip_study.config import load
from siglip_study.planning.rehearse import (
    add_assumptions,
    given_assumptions,
    rehearse,
    show_progress,
)


def main(arguments: list[str] | None = None) -> int:
    """Rehearse, print the table, write it; 1 on a user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m siglip_study.planning", description=__doc__)
    parser.add_argument("config", type=Path)
    add_assumptions(parser)
    parser.add_argument("--presets", action="store_true", help="count the published runs too")
    parser.add_argument("--out", type=Path, help="folder of the two files; default: output_dir")
    given = parser.parse_args(arguments)
    show_progress()
    return exit_status(lambda: _run(given))


def _run(given: argparse.Namespace) -> None:
    config = load(given.config)
    found = rehearse(config, given_assumptions(given, given.presets))
    found.write(given.out or Path(config.output_dir))
    print(found.text())


if __name__ == "__main__":
    raise SystemExit(main())
