"""Kept figures → RESULTS.md.

Run with: python -m benchmarks.results
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.run import NAMES, SCHEMA
from benchmarks.tables import Result
from siglip_study.base.io import atomic_path, read_json

HERE = Path(__file__).parent
MEASURED = HERE / "measured"
_HEAD = """# Speed, measured

Written by `python -m benchmarks.results` from the files of `benchmarks/measured/`; how to measure
again: [README.md](README.md). One run each; both sides on the same weights and inputs, in one
process. *Published* is this repository's own implementation of the published study's method
(`benchmarks/published/`).
"""


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.results", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="default: all of benchmarks/measured/")
    parser.add_argument("--out", type=Path, default=HERE / "RESULTS.md")
    given = parser.parse_args(arguments)
    files = given.files or sorted(MEASURED.glob("*.json"))
    with atomic_path(given.out) as partial:
        partial.write_text(text([read_json(path, SCHEMA) for path in files]), encoding="utf-8")


def text(files: list[dict[str, Any]]) -> str:
    """All figures as Markdown, the same benchmark of several machines one below the other."""
    sections = [_HEAD]
    for name in NAMES:
        for kept in files:
            entry = kept["benchmarks"].get(name)
            if entry is None:
                continue
            versions = ", ".join(f"{key} {value}" for key, value in entry["versions"].items())
            sections.append(
                f"## {name.replace('_', ' ').capitalize()}\n\n{entry['date']}, "
                f"{entry['machine']}, {entry['cores']} CPU cores, {entry['size']} size; "
                f"Python {entry['python']}, {versions}.\n\n{Result.from_json(entry).text()}"
            )
    return "\n".join(sections)


if __name__ == "__main__":
    main()
