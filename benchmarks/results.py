"""Kept figures → RESULTS.md.

Run with: python -m benchmarks.results
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.run import NAMES, SCHEMA
from benchmarks.sides import Found
from benchmarks.tables import Result
from siglip_study.base.io import atomic_path, read_json

HERE = Path(__file__).parent
TITLES = {"fp8": "FP8", "start_up": "Start-up"}
# Kept by commands of their own.
OTHERS = ("fp8", "start_up")
MEASURED = HERE / "measured"
#: The file whose figures README and docs repeat.
CLAIMED = MEASURED / "h200.json"
_HEAD = """# Speed, measured

Written by `python -m benchmarks.results` from the files of `benchmarks/measured/`; how to measure
again: [README.md](README.md). Both sides have the same weights and inputs. *Published* is this
repository's own implementation of the published study's method (`benchmarks/published/`).
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
    for name in (*NAMES, *OTHERS):
        for kept in files:
            entry = kept["benchmarks"].get(name)
            if entry is None:
                continue
            versions = ", ".join(f"{key} {value}" for key, value in entry["versions"].items())
            sections.append(
                f"## {TITLES.get(name, name.replace('_', ' ').capitalize())}\n\n{entry['date']}, "
                f"{entry['machine']}, {entry['cores']} CPU cores, {entry['size']} size; "
                f"Python {entry['python']}, {versions}.\n\n"
                f"{Result.from_json(entry).text()}"
            )
    return "\n".join(sections)


def claim(kept: dict[str, Any]) -> str:
    """What README and docs say of a file's figures, word for word; a test holds them to it."""
    training = kept["benchmarks"]["training"]["parts"]
    captions = Found(kept["benchmarks"]["captions"]["sides"])

    def step(stage: int, side: str) -> float:
        key = f"training/linear/{stage}/120 to 400"
        return float(training[f"{key}/published/step"] / training[f"{key}/{side}/step"])

    def caption(budget: int) -> str:
        seconds = ["linear", "seconds", str(budget)]
        seen = captions.ratio(seconds, seconds)
        return f"{seen.lowest:.0f} to {seen.highest:.0f} times"

    return (
        f"stage-1 steps {step(1, 'ours'):.1f} times as fast as the published method's "
        f"({step(1, 'fp8'):.1f} with `llm.matmul: fp8`), stage-2 steps {step(2, 'ours'):.1f} times "
        f"({step(2, 'fp8'):.1f}), captions of 128 tokens {caption(128)}, "
        f"of 512 tokens {caption(512)}"
    )


def claim_of_jobs(kept: dict[str, Any]) -> str:
    """What the docs say of a file's start-ups, word for word."""
    parts = kept["benchmarks"]["start_up"]["parts"]

    def overheads(llm: str, way: str) -> str:
        job = f"start_up/{llm}/query_abstractor, stage"
        return " and ".join(f"{parts[f'{job} {stage}/{way}/overhead']:.1f}" for stage in (1, 2))

    return (
        f"stage 1 and 2 of a second cell spend {overheads('0.6b', 'kept')} s on start-up with the "
        f"0.6 B model (alone {overheads('0.6b', 'alone')} s), {overheads('8b', 'kept')} s with 8 B"
    )


if __name__ == "__main__":
    main()
