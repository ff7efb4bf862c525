"""Run the benchmarks, print their tables, keep their figures as JSON.

Run with: python -m benchmarks.run --size full --only training captions --out results.json
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.inputs import SIZES
from benchmarks.sides import ROUNDS, Start, compare, in_own_process
from benchmarks.tables import Result
from benchmarks.timing import describe, free
from siglip_study.base.io import read_json, write_json
from siglip_study.models.devices import pick_device

SCHEMA = "benchmarks/1"
# In this order; the last is calculated from the others.
NAMES = (
    *("training", "captions", "adapters", "tower", "decoding", "feature_job"),
    *("scoring", "scores", "data_parallel", "study"),
)
#: Those that time two sides, each in a process of its own.
COMPARED = ("training", "captions", "tower", "scoring")
# Not part of a plain run: they need several GPUs, or many minutes of a CPU.
ON_REQUEST = {"data_parallel", "scores"}
SEVERAL = {"data_parallel"}
SEVERAL_GPUS = 2


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--size", choices=sorted(SIZES), default="full")
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--out", type=Path, help="JSON file; what it holds of others stays")
    parser.add_argument(
        "--also", nargs="+", type=Path, default=[], help="other such files that the study may use"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of processes, one a side")
    given = parser.parse_args(arguments)
    run(
        given.size,
        given.only or [name for name in NAMES if name not in ON_REQUEST],
        given.device,
        given.out,
        given.also,
        rounds=given.rounds,
    )


def run(
    size: str,
    names: list[str],
    device: str,
    out: Path | None,
    also: Sequence[Path] = (),
    *,
    rounds: int = ROUNDS,
    start: Start = in_own_process,
) -> dict[str, Any]:
    """Run ``names``; each one's figures are on disk before the next begins.

    What has two sides is timed ``rounds`` times by ``start``, and all of it is kept.
    """
    where = pick_device(device, SEVERAL_GPUS if SEVERAL & set(names) else 1)
    kept = read_json(out, SCHEMA) if out is not None and out.is_file() else {"benchmarks": {}}
    found: dict[str, Any] = kept["benchmarks"]
    others = {k: v for path in also for k, v in read_json(path, SCHEMA)["benchmarks"].items()}
    for name in names:
        print(f"\n## {name} ({size}, {describe(where)})", flush=True)
        module = importlib.import_module(f"benchmarks.{name}")
        earlier = {
            key: Result.from_json(entry)
            for key, entry in {**others, **found}.items()
            if entry["size"] == size
        }
        chosen = SIZES[size]
        sides: dict[str, Any] = {}
        if name == "study":
            result: Result = module.project(chosen, earlier)
        elif name in COMPARED:
            compared = compare(name, chosen, where, rounds, start)
            sides = {"sides": compared.figures()}
            result = module.table(chosen, where, compared)
        else:
            result = module.run(chosen, where)
        free(where)
        found[name] = {"size": size, **result.as_json(), **facts(where), **sides}
        print(result.text(), flush=True)
        if out is not None:
            keep(out, name, found[name])
    return found


def keep(out: Path, name: str, entry: dict[str, Any]) -> None:
    """Add a benchmark's figures to a file; what it holds of others stays."""
    kept = read_json(out, SCHEMA) if out.is_file() else {"benchmarks": {}}
    write_json(out, {"benchmarks": {**kept["benchmarks"], name: entry}}, SCHEMA)


def facts(device: torch.device) -> dict[str, Any]:
    """Date, machine and versions that figures belong to."""
    from importlib.metadata import PackageNotFoundError, version

    versions = {}
    for package in ("torch", "transformers", "peft", "bitsandbytes"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "absent"
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": describe(device),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "versions": versions,
    }


if __name__ == "__main__":
    main()
