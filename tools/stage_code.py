"""The code behind each stage's version number, followed through imports, as one hash.

Run with:

    python -m tools.stage_code            # which stages' code differs from the record
    python -m tools.stage_code --record   # keep the hashes of today's code

A stage is what a rule's script calls. From there every function, class and constant that is
reached by name is followed, so that a new metric, a moved module, a reworded error or another
room's code changes no hash. Projectors are found by file name and so are never reached: a run
carries its own projector's hash instead.
"""

from __future__ import annotations

import argparse
import importlib
import json
from dataclasses import dataclass

from siglip_study.metrics.base import METRICS
from tools.reach import PACKAGE, ROOT, Reach

RECORD = ROOT / "tests" / "study" / "stage_code.json"
# How a job is run and where things lie, not what comes out: a rule's parameters carry the config.
PLUMBING = ("base.errors", "base.io", "base.jobs", "config", "study")


@dataclass(frozen=True)
class Stage:
    """Scripts of the workflow that share a version number, and where the number stands."""

    scripts: tuple[str, ...]
    package: str
    number: str = "VERSION"
    #: What the scripts call besides, with a number of its own.
    without: tuple[str, ...] = ()

    @property
    def version(self) -> int:
        """The number as the code has it."""
        return int(getattr(importlib.import_module(f"{PACKAGE}.{self.package}"), self.number))

    @property
    def place(self) -> str:
        """Where a person raises it."""
        return f"{self.number} in src/{PACKAGE}/{self.package}/__init__.py"


STAGES = {
    "demo": Stage(("demo",), "demo"),
    "clips": Stage(("clips", "halves", "manifest"), "data"),
    "vision features": Stage(("vision_features",), "features", "VISION_VERSION"),
    "scorer features": Stage(("scorer_features",), "features", "SCORER_VERSION"),
    "training": Stage(("stage1", "stage2"), "training", without=("captioning.cell",)),
    "captions": Stage(("captions",), "captioning"),
    "baselines": Stage(("baselines",), "scoring", "BASELINES_VERSION"),
    "scores": Stage(("score",), "scoring"),
    "scorer check": Stage(("scorer_check",), "ranking", "CHECK_VERSION"),
    "selection": Stage(("select_cells",), "ranking"),
    "tables": Stage(("tables",), "report", "TABLES_VERSION"),
    "page": Stage(("report",), "report"),
}


def reached(stage: Stage) -> Reach:
    """What the library functions do that the stage's scripts import."""
    reach = Reach((*PLUMBING, *stage.without))
    for script in stage.scripts:
        reach.script(ROOT / "workflow" / "scripts" / f"{script}.py")
    return reach


def today() -> dict[str, dict[str, int | str]]:
    """Version number and code hash of every stage, and of every metric."""
    stages: dict[str, dict[str, int | str]] = {
        name: {"version": stage.version, "code": reached(stage).hash()}
        for name, stage in STAGES.items()
    }
    for name, metric in METRICS.items():
        reach = Reach(PLUMBING)
        reach.name(f"{metric.function.__module__}.{name}")
        stages[f"metric {name}"] = {"version": metric.version, "code": reach.hash()}
    return stages


def place(name: str) -> str:
    """Where a person raises the number of a stage or metric."""
    if name in STAGES:
        return STAGES[name].place
    return f"version= above {name.removeprefix('metric ')} in src/{PACKAGE}/metrics/"


def complaints(
    recorded: dict[str, dict[str, int | str]], found: dict[str, dict[str, int | str]]
) -> list[str]:
    """What to do about every stage whose code or number is not the recorded one."""
    record = "python -m tools.stage_code --record"
    said = []
    for name, now in found.items():
        before = recorded.get(name)
        if before == now:
            continue
        if before is None:
            said.append(f"'{name}' is new. Note its code: {record}")
        elif before["version"] == now["version"]:
            said.append(
                f"The code behind '{name}' changed, its version did not. If it computes something "
                f"else, raise {place(name)}: finished studies make those results again. If "
                f"its results stay the same, leave the number. Then, either way: {record}"
            )
        else:
            said.append(f"The version of '{name}' is not the recorded one. Keep it: {record}")
    return said


def main() -> int:
    """Print what differs from the record, or keep it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--record", action="store_true", help="keep the hashes of today's code")
    found = today()
    if parser.parse_args().record:
        RECORD.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        return 0
    said = complaints(json.loads(RECORD.read_text(encoding="utf-8")), found)
    print("\n".join(said) or "Every stage's code is the recorded one.")
    return 1 if said else 0


if __name__ == "__main__":
    raise SystemExit(main())
