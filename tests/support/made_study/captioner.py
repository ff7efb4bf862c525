"""One made-up captioner: its captions, its scores and, if it was trained, its history."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from siglip_study.base.io import write_json, write_parquet
from siglip_study.study.paths import Paths
from support.made_study.figures import metric_facts, metric_values, truth_values
from support.made_study.history import write_history
from support.made_study.texts import HOSTILE, caption


@dataclass(frozen=True)
class Bench:
    """What all captioners of a study share."""

    root: Path
    ids: list[str]
    rng: np.random.Generator
    steps: int
    words: int


@dataclass(frozen=True)
class Captioner:
    """A cell, or one of the baselines, which have no projector and no seed."""

    name: str
    role: str
    skill: float
    label: str | None = None
    seed: int | None = None
    lr: float | None = None
    epochs: int | None = None
    collapsed: bool = False
    truth: dict[str, float] | None = None

    @property
    def split(self) -> str:
        return "selection" if self.role == "tuning" else "report"

    @property
    def trained(self) -> bool:
        return self.role not in ("references", "control_retrieval")


def write_captioner(bench: Bench, made: Captioner) -> None:
    """Every file under ``runs/<name>``, and the first stage's."""
    folder = Paths(bench.root).run(made.name)
    clips = pl.DataFrame(_clips(bench, made), infer_schema_length=None)
    write_parquet(folder / "clips.parquet", clips)
    write_json(folder / "metrics.json", _metrics(made, len(bench.ids)), "metrics/1")
    if made.trained:
        write_json(folder / "cell.json", _cell(made, bench.steps), "cell/1")
        write_history(
            bench.root, made.name, bench.rng, bench.steps, made.lr, made.role, made.collapsed
        )


def _clips(bench: Bench, made: Captioner) -> list[dict[str, Any]]:
    rng, reported = bench.rng, made.role == "report"
    template = caption(rng, bench.words)
    margins = rng.normal(made.skill, 0.03, len(bench.ids))
    rows = []
    for i, clip in enumerate(bench.ids):
        text = template if made.collapsed else caption(rng, bench.words)
        if reported and i < 2:
            text = (HOSTILE, "")[i]
        rows.append(
            {
                "cell": made.name,
                "id": clip,
                "split": made.split,
                "group": f"video_{i // 2}",
                "category": None,
                "caption": text,
                "n_tokens": 12,
                "truncated": i % 9 == 0,
                "cluster": 0 if made.collapsed else i,
                "siglip_cosine": 0.2 + margins[i],
                "siglip_sum": 0.4,
                "siglip_sigmoid": 0.1,
                "siglip_published": 0.1,
                "grounding_margin": margins[i],
                "retrieval_rank": 1.5,
                "meteor": 0.3,
                "meteor_mismatched": 0.2,
                "meteor_gain": 0.1,
                "bertscore_f1": None,
                "loss_matched": 1.5,
                "loss_shuffled": 1.5 + made.skill * 5,
                "loss_reversed": 1.5 + made.skill,
            }
        )
    return rows


def _metrics(made: Captioner, clips: int) -> dict[str, Any]:
    center = made.skill * 5
    gap = {"value": center, "low": center - 0.02, "high": center + 0.02}
    losses = {"matched": 1.5, "shuffled_gap": gap, "reversed_gap": {**gap, "value": 0.01}}
    return {
        "cell": made.name,
        "role": made.role,
        "projector": made.label,
        "seed": made.seed,
        "split": made.split,
        "n_clips": clips,
        "values": metric_values(made.skill, made.collapsed, clips),
        "metrics": metric_facts(),
        "losses": losses if made.trained else {},
        "not_computed": {"bertscore_f1": "no model configured"},
        "n_empty": 1,
        "truncated_share": 0.1,
        "truth": made.truth and truth_values(made.truth, made.skill, clips),
    }


def _cell(made: Captioner, steps: int) -> dict[str, Any]:
    return {
        "cell": made.name,
        "projector": made.label,
        "role": made.role,
        "seed": made.seed,
        "run": {
            "projector": made.label,
            "stage1": {"learning_rate": 1e-3, "epochs": 2},
            "stage2": {"learning_rate": made.lr, "epochs": made.epochs},
        },
        "stage1_cell": made.name,
        "projector_parameters": 4_198_400,
        "lora_parameters": 43_646_976,
        "tokens_per_video": 64,
        "optimizer_steps": 2 * steps,
        "samples_seen": 16 * steps,
        "device": "cpu",
        "wall_s": 75.3,
        "gpu_s": 0.0,
        "peak_gpu_gb": 0.0,
        "versions": {"torch": "2.13.0"},
        "git_commit": "0" * 40,
    }
