"""What a study would run now, and why, in cells and steps; nothing is run.

Run with, in the folder of the workflow:

    python -m siglip_study.planning.explain config/study.yaml

Snakemake is asked, in a process of its own, for the jobs that it would run and for what of each has
changed, so that nothing here can disagree with it. A job that runs because another one does has the
causes of that one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from siglip_study.base.errors import StudyError
from siglip_study.base.jobs import exit_status
from siglip_study.config import load
from siglip_study.study.grid import Study

#: Rule → what it is called, in the order of work.
STEPS = {
    "demo": "demo clips",
    "clips": "check of clips",
    "halves": "halves",
    "manifest": "list of clips",
    "scorer_features": "scorer features",
    "scorer_check": "scorer check",
    "scorer_verdict": "scorer verdict",
    "vision_features": "vision features",
    "stage1": "stage 1",
    "stage2": "stage 2",
    "captions": "captions",
    "baselines": "baselines",
    "score": "scores",
    "select": "choice of cells",
    "tables": "ranking",
    "report": "page",
}
#: Parameters of rules that are keys of the config under another name.
_KEYS = {
    "alpha": "gate.alpha",
    "stop": "scorer.stop_if_blind",
    "language": "data.language",
    "metrics": "the metrics",
    "templates": "the folder of the page's templates",
    "templates_hash": "the page's templates",
    "run_keys": "the cell",
}
_CAUSES = {
    "missing": "not made yet, or gone",
    "cut short": "cut short",
    "inputs": "other files are read than last time",
    "no record": "nothing tells how it was made",
}


@dataclass(frozen=True)
class Due:
    """A step that would run: of a split, a phase or a cell, or of the study (``of`` is empty).

    A first stage is ``of`` its own name; ``why`` are the causes, those of earlier steps included.
    """

    rule: str
    of: str
    why: tuple[str, ...]


def ask_snakemake(config: Path) -> list[dict[str, Any]]:
    """The jobs that are due, as ``snakemake_logger_plugin_siglip.due_jobs`` gives them.

    Raises:
        StudyError: there is no workflow here, or Snakemake cannot plan the study, and why.
    """
    if not Path("Snakefile").is_file():
        raise StudyError(f"{Path.cwd()} holds no Snakefile; expected the workflow's folder.")
    module = "snakemake_logger_plugin_siglip.due_jobs"
    done = subprocess.run(
        [sys.executable, "-m", module, str(config)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["no word of Snakemake"]
        raise StudyError(said[-1].removeprefix("siglip-study: "))
    jobs: list[dict[str, Any]] = json.loads(done.stdout)["jobs"]
    return jobs


def due_steps(jobs: Sequence[Mapping[str, Any]]) -> list[Due]:
    """The jobs as steps, in the order of work, each with the causes of those before it."""
    whys: list[tuple[str, ...]] = []
    found = []
    encoders = {job["wildcards"].get("encoder") for job in jobs} - {None}
    for job in jobs:
        told = (v for k, v in job["wildcards"].items() if k != "encoder" or len(encoders) > 1)
        of = " ".join(told)
        why = dict[str, None]()
        for kind, *about in job["causes"]:
            if kind == "after":
                why |= dict.fromkeys(cause for number in about for cause in whys[number])
            else:
                why[_told(job["rule"], of, kind, about)] = None
        whys.append(tuple(why))
        if job["rule"] in STEPS:  # what only orders jobs is no step
            found.append(Due(job["rule"], of, tuple(why)))
    order = list(STEPS)
    return sorted(found, key=lambda step: (order.index(step.rule), step.of))


def _told(rule: str, of: str, kind: str, about: Sequence[str]) -> str:
    """A cause in words."""
    if kind == "newer":
        return f"{', '.join(about)} is newer than what was made of it"
    if kind != "params":
        return _CAUSES[kind]
    if "listed" in about:
        return f"clips or labels of {of} changed, or how they are checked"
    if "code" in about:
        return "the code of training or of a projector changed"
    if "version" in about:
        return f"the code of '{STEPS[rule]}' computes something else now"
    return f"{', '.join(_KEYS.get(name, f'`{name}`') for name in about)} changed"


def explained(study: Study, steps: Sequence[Due]) -> Iterator[str]:
    """What would run, step by step, with numbered causes."""
    first = {cell.label: cell.name for cell in reversed(study.tuning)}
    n = len(study.tuning) + len(study.controls) + len(study.reported(first.values()))
    busy = {step.of for step in steps if step.rule in ("stage2", "captions")}
    if not steps:
        yield "Nothing would run: everything is as the config, the clips and the code ask for it."
        return
    trained = {step.of for step in steps if step.rule == "stage2"}
    yield (
        f"{len(busy)} of {n} cells would run: {len(trained)} trained, {len(busy - trained)} "
        "captioned anew."
    )
    number = {why: i for i, why in enumerate(dict.fromkeys(w for s in steps for w in s.why), 1)}
    yield ""
    yield "Why:"
    for why, i in number.items():
        yield f"{i:>4}. {why}"
    yield ""
    yield "What, and by which of these:"
    for rule, whys in dict.fromkeys((step.rule, step.why) for step in steps):
        told = ", ".join(str(number[why]) for why in whys)
        of = ", ".join(step.of for step in steps if (step.rule, step.why) == (rule, whys))
        yield f"  {told:<8} {STEPS[rule]:<16} {of}".rstrip()
    if any(step.rule == "select" for step in steps):
        yield ""
        yield (
            "Which cells are trained afresh and reported is known once they are chosen; those that "
            "are not there yet come on top."
        )


def main(arguments: list[str] | None = None) -> int:
    """Print what would run; 1 on a user's mistake."""
    parser = argparse.ArgumentParser(
        prog="python -m siglip_study.planning.explain", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("config", type=Path, help="the study's config")
    given = parser.parse_args(arguments)

    def tell() -> None:
        study = Study(load(given.config))
        print("\n".join(explained(study, due_steps(ask_snakemake(given.config)))))

    return exit_status(tell)


if __name__ == "__main__":
    raise SystemExit(main())
