"""A results folder as the pipeline would leave it, small or large, with hostile text in it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from siglip_study.grid import Paths
from siglip_study.io import write_json, write_parquet

HOSTILE = "</script><img src=x onerror=alert(1)>"
HOSTILE_ID = "clip-<b>&\"'</b>"
_REASON = {
    True: "Grounded: D is 0.1200 (one-sided bounds 0.1080 and 0.1320, Holm p 0.0001).",
    False: "Collapsed: effective captions are 0.04 (limit 0.46), the top cluster holds 100% "
    "(limit 10%), and D is 0.0040, not shown to be above 0.",
}
PROJECTORS = (
    "linear",
    "mlp_2l",
    "c_abstractor",
    "query_perceiver",
    "perceiver",
    "query_abstractor",
)
TRUTH = {"shape": 0.8, "colour": 0.7, "place": 0.6, "weather": 0.3, "motion_direction": 0.25}
_WORDS = [
    "파란",
    "빨간",
    "노란",
    "공이",
    "상자가",
    "별이",
    "왼쪽으로",
    "오른쪽으로",
    "천천히",
    "빠르게",
    "들판에서",
    "바닷가에서",
    "비",
    "오는",
    "날",
    "움직인다",
    "멈춘다",
]
_SKILL = {"linear": 0.10, "mlp_2l": 0.12, "c_abstractor": 0.06, "query_perceiver": 0.004}
_METRICS = {
    "grounding_margin": ("cosine", -2.0, 2.0, True, None),
    "auc": ("probability", 0.0, 1.0, True, None),
    "siglip_cosine": ("cosine", -1.0, 1.0, True, None),
    "siglip_published": ("probability", 0.0, 1.0, True, None),
    "retrieval_r1": ("share", 0.0, 1.0, True, None),
    "meteor": ("score", 0.0, 1.0, True, "kiwi content morphemes"),
    "meteor_gain": ("score", -1.0, 1.0, True, "kiwi content morphemes"),
    "effective_captions": ("share", 0.0, 1.0, True, None),
    "distinct_ratio": ("share", 0.0, 1.0, True, None),
    "top_cluster_share": ("share", 0.0, 1.0, False, None),
}
_REFERENCE = {
    "grounding_margin": 0.18,
    "auc": 0.97,
    "siglip_cosine": 0.31,
    "siglip_published": 0.4,
    "retrieval_r1": 0.72,
    "meteor": 0.6,
    "meteor_gain": 0.42,
    "effective_captions": 0.93,
    "distinct_ratio": 1.0,
    "top_cluster_share": 0.03,
}


def caption(rng: np.random.Generator, words: int = 9) -> str:
    return " ".join(rng.choice(_WORDS, words)) + "."


def jpeg(index: int, size: int = 96) -> bytes:
    """A small picture that differs by clip."""
    from PIL import Image

    ramp = np.add.outer(np.arange(size), np.arange(size)) % 256
    pixels = np.stack([ramp, np.roll(ramp, index * 7, 0), np.full_like(ramp, index * 31 % 256)], -1)
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "JPEG", quality=60)
    return buffer.getvalue()


def write_fake_results(
    root: Path,
    projectors: int = 4,
    clips: int = 24,
    seeds: int = 2,
    rates: tuple[float, ...] = (1e-3, 3e-3),
    budgets: tuple[int, ...] = (2, 4),
    steps: int = 60,
    truth: bool = True,
    words: int = 9,
) -> dict[str, list[str]]:
    """Write every file the report reads under ``root``; returns role → cells."""
    rng = np.random.default_rng(0)
    ids = [HOSTILE_ID, *(f"clip_{i:04d}" for i in range(1, clips))]
    _write_data(root, ids, rng, words)
    cells: dict[str, list[str]] = {"references": ["references"], "control_retrieval": ["retrieval"]}
    common = {"root": root, "ids": ids, "rng": rng, "steps": steps, "words": words}
    selection = {}
    for p, label in enumerate(PROJECTORS[:projectors]):
        tuned = []
        skill = _SKILL.get(label, 0.05)
        for i, lr in enumerate(rates):
            for j, epochs in enumerate(budgets):
                name = f"{label}_{p:02x}{i:03x}{j:03x}"
                hot = i == len(rates) - 1 and p >= 2
                tuned.append(
                    {
                        "cell": name,
                        "mean_margin": 0.0 if hot else skill * (1 + 0.1 * j),
                        "collapsed": hot,
                        "learning_rate": lr,
                        "epochs": epochs,
                    }
                )
                _write_cell(
                    name=name,
                    label=label,
                    role="tuning",
                    seed=0,
                    lr=lr,
                    epochs=epochs,
                    skill=0.0 if hot else skill,
                    collapsed=hot,
                    truth=None,
                    **common,
                )
                cells.setdefault("tuning", []).append(name)
        best = max((c for c in tuned if not c["collapsed"]), key=lambda c: c["mean_margin"])
        selection[label] = {
            "chosen": best["cell"],
            "mean_margin": best["mean_margin"],
            "n_cells": len(tuned),
            "n_collapsed": sum(c["collapsed"] for c in tuned),
            "cells": tuned,
        }
        for seed in range(1, seeds + 1):
            name = f"{label}_{p:02x}5eed{seed:02x}"
            _write_cell(
                name=name,
                label=label,
                role="report",
                seed=seed,
                lr=best["learning_rate"],
                epochs=best["epochs"],
                skill=skill,
                collapsed=False,
                truth=TRUTH if truth else None,
                **common,
            )
            cells.setdefault("report", []).append(name)
    for role, label, skill, collapsed in (
        ("control_hot", "query_perceiver", 0.0, True),
        ("control_blind", "constant_prefix", 0.0, True),
        ("control_noise", "linear", 0.0, False),
    ):
        name = f"{label}_{role[8:].encode().hex()[:8]}"
        _write_cell(
            name=name,
            label=label,
            role=role,
            seed=1,
            lr=1e-2,
            epochs=2,
            skill=skill,
            collapsed=collapsed,
            truth=None,
            **common,
        )
        cells[role] = [name]
    for name, role, skill in (
        ("references", "references", 0.18),
        ("retrieval", "control_retrieval", 0.09),
    ):
        _write_cell(
            name=name,
            label=None,
            role=role,
            seed=None,
            lr=None,
            epochs=None,
            skill=skill,
            collapsed=False,
            truth=None,
            **common,
        )
    write_json(root / "tables/selection.json", {"projectors": selection}, "selection/1")
    write_json(root / "tables/ranking.json", _ranking(list(selection), seeds), "ranking/1")
    return cells


def _write_data(root: Path, ids: list[str], rng: np.random.Generator, words: int) -> None:
    rows = []
    for i, clip in enumerate(ids):
        rows.append(
            {
                "id": clip,
                "split": "report",
                "group": f"video_{i // 2}",
                "category": "들판" if i % 2 else None,
                "path": f"videos/{clip}.mp4",
                "captions": [HOSTILE if i == 0 else caption(rng, words)],
                "duration_s": 2.0,
                "fps": 12.0,
                "n_frames": 24,
                "width": 96,
                "height": 96,
                "sha256": f"{i:064x}",
            }
        )
    write_parquet(root / "data/manifest.parquet", pl.DataFrame(rows))
    rejected = [{"id": "broken<i>", "path": "videos/broken.mp4", "reason": f"zero bytes {HOSTILE}"}]
    write_parquet(root / "data/rejected.parquet", pl.DataFrame(rejected))


def _write_cell(
    *,
    root: Path,
    ids: list[str],
    rng: np.random.Generator,
    steps: int,
    words: int,
    name: str,
    label: str | None,
    role: str,
    seed: int | None,
    lr: float | None,
    epochs: int | None,
    skill: float,
    collapsed: bool,
    truth: dict[str, float] | None,
) -> None:
    folder = Paths(root).run(name)
    split = "selection" if role == "tuning" else "report"
    template = caption(rng, words)
    margins = rng.normal(skill, 0.03, len(ids))
    rows = []
    for i, clip in enumerate(ids):
        text = template if collapsed else caption(rng, words)
        text = (
            HOSTILE if i == 0 and role == "report" else "" if i == 1 and role == "report" else text
        )
        rows.append(
            {
                "cell": name,
                "id": clip,
                "split": split,
                "group": f"video_{i // 2}",
                "category": None,
                "caption": text,
                "n_tokens": 12,
                "truncated": i % 9 == 0,
                "cluster": 0 if collapsed else i,
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
                "loss_shuffled": 1.5 + skill * 5,
                "loss_reversed": 1.5 + skill,
            }
        )
    write_parquet(folder / "clips.parquet", pl.DataFrame(rows, infer_schema_length=None))
    values: dict[str, Any] = {}
    for metric, reference in _REFERENCE.items():
        share = min(1.0, skill / 0.18)
        value = reference * (0.3 + 0.7 * share) if metric != "grounding_margin" else skill
        if metric == "effective_captions":
            value = 1 / len(ids) if collapsed else 0.8
        if metric == "top_cluster_share":
            value = 1.0 if collapsed else 0.05
        values[metric] = {
            "value": value,
            "low": value - 0.012,
            "high": value + 0.012,
            "reference": reference,
            "chance": 1 / len(ids) if metric == "retrieval_r1" else None,
        }
    trained = role not in ("references", "control_retrieval")
    gap = {"value": skill * 5, "low": skill * 5 - 0.02, "high": skill * 5 + 0.02}
    write_json(
        folder / "metrics.json",
        {
            "cell": name,
            "role": role,
            "projector": label,
            "seed": seed,
            "split": split,
            "n_clips": len(ids),
            "values": values,
            "metrics": {
                m: {
                    "version": "1",
                    "unit": u,
                    "min": lo,
                    "max": hi,
                    "higher_is_better": up,
                    "tokenizer": tok,
                }
                for m, (u, lo, hi, up, tok) in _METRICS.items()
            },
            "losses": {"matched": 1.5, "shuffled_gap": gap, "reversed_gap": {**gap, "value": 0.01}}
            if trained
            else {},
            "not_computed": {"bertscore_f1": "no model configured"},
            "n_empty": 1,
            "truncated_share": 0.1,
            "truth": None
            if truth is None
            else {
                a: {
                    "kappa": k * share,
                    "low": k * share - 0.08,
                    "high": k * share + 0.08,
                    "accuracy": 0.5 + k * share / 2,
                    "majority": 0.4,
                    "n": len(ids),
                }
                for a, k in truth.items()
            },
        },
        "metrics/1",
    )
    if not trained:
        return
    write_json(
        folder / "cell.json",
        {
            "cell": name,
            "projector": label,
            "role": role,
            "seed": seed,
            "run": {
                "projector": label,
                "stage1": {"learning_rate": 1e-3, "epochs": 2},
                "stage2": {"learning_rate": lr, "epochs": epochs},
            },
            "stage1_cell": name,
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
        },
        "cell/1",
    )
    write_json(
        Paths(root).stage1(name) / "stage.json",
        {"wall_s": 31.0, "gpu_s": 0.0, "optimizer_steps": steps, "samples_seen": 16 * steps},
        "stage/1",
    )
    for stage, where in ((1, Paths(root).stage1(name)), (2, folder)):
        curve = 3 * np.exp(-np.arange(steps) / (steps / 3)) + (0.8 if stage == 2 else 1.4)
        write_parquet(
            where / "steps.parquet",
            pl.DataFrame(
                {
                    "stage": [stage] * steps,
                    "step": list(range(1, steps + 1)),
                    "epoch": [1 + i * 2 // steps for i in range(steps)],
                    "loss": curve + rng.normal(0, 0.05, steps),
                    "lr_projector": [lr] * steps,
                    "lr_lora": [lr] * steps,
                    "grad_norm": [0.5] * steps,
                    "target_tokens": [300] * steps,
                    "samples": [16] * steps,
                    "seconds": [0.2] * steps,
                    "gpu_gb": [0.0] * steps,
                }
            ),
        )
        write_parquet(
            where / "epochs.parquet",
            pl.DataFrame(
                {
                    "stage": [stage] * 2,
                    "epoch": [1, 2],
                    "step": [steps // 2, steps],
                    "train_loss": [2.0, 1.2],
                    "val_loss": [2.1, 1.3],
                    "quick_effective_captions": [0.1, 0.02 if collapsed else 0.7],
                    "quick_distinct_ratio": [0.2, 0.9],
                    "quick_n": [16, 16],
                    "is_best": [False, True],
                    "seconds": [4.0, 4.0],
                    **_diagnosis(stage, collapsed, role),
                }
            ),
        )


def _diagnosis(stage: int, collapsed: bool, role: str) -> dict[str, list[Any]]:
    """A projector that keeps the video, or loses it in the second epoch of stage 1."""
    blind = role == "control_blind"
    kept = [0.0, 0.0] if blind else [0.4, 0.004] if collapsed else [0.4, 0.38]
    shares = kept if stage == 1 else [kept[1], kept[1]]
    return {
        "diag_n": [32, 32],
        "diag_start_video_share_after": [0.0 if blind else 0.41 if stage == 1 else kept[1]] * 2,
        "diag_start_cosine_after": [0.6, 0.6],
        "diag_start_rank_clips": [26.0, 26.0],
        "diag_rank_clips": [1 + 60 * share for share in shares],
        "diag_rank_tokens": [90.0, 80.0],
        "diag_cosine_before": [0.62, 0.62],
        "diag_cosine_after": [1 - share for share in shares],
        "diag_video_share_before": [0.5, 0.5],
        "diag_video_share_after": shares,
        "diag_neighbour_overlap": [None if blind else 0.6, None if blind else 0.58],
        "diag_attention_entropy": [None, None],
        "grad_share_projector": [1.0, 1.0] if stage == 1 else [0.6, 0.5],
        "grad_share_lora": [0.0, 0.0] if stage == 1 else [0.4, 0.5],
    }


def _ranking(labels: list[str], seeds: int) -> dict[str, Any]:
    can_rank = seeds >= 2
    ranked = [label for label in labels if label != "query_perceiver"]
    rows = []
    for label in labels:
        skill = _SKILL.get(label, 0.05)
        grounded = label in ranked
        rows.append(
            {
                "projector": label,
                "mean_margin": skill,
                "low": skill - 0.015,
                "high": skill + 0.015,
                "rank_low": 1 if skill >= 0.1 else 3,
                "rank_high": 2 if skill >= 0.1 else len(ranked),
                "interval_basis": "clips and seeds",
                "gate": "grounded" if grounded else "collapsed",
                "gate_reason": _REASON[grounded],
                "stamps": ["templated"] if label == "c_abstractor" else [],
                "ranked": grounded,
                "numbers": {
                    "lower_bound": skill - 0.012,
                    "effective_captions": 0.8,
                    "reference": 0.93,
                },
                "seed_sd": 0.004,
            }
        )
    pairs = []
    for i, a in enumerate(labels):
        for b in labels[i + 1 :]:
            difference = _SKILL.get(a, 0.05) - _SKILL.get(b, 0.05)
            p = 0.0004 if abs(difference) > 0.03 else 0.31
            pairs.append(
                {
                    "a": a,
                    "b": b,
                    "difference": difference,
                    "low": difference - 0.02,
                    "high": difference + 0.02,
                    "p": p / 3,
                    "p_holm": p,
                    "df": 11.4,
                    "smallest_detectable": 0.031,
                    "significant": p < 0.05,
                    "seed_sd_to_undo": None,
                }
            )
    return {
        "alpha": 0.05,
        "seeds": seeds,
        "n_groups": 12,
        "can_rank": can_rank,
        "why_not": None if can_rank else "one run each: the variance of seeds is unknown",
        "verdict": "mlp_2l and linear lead and cannot be told apart; query_perceiver collapsed.",
        "scorer": {
            "mean_margin": 0.18,
            "low": 0.17,
            "high": 0.19,
            "p": 1e-9,
            "auc": 0.97,
            "auc_within_category": 0.9,
            "n_clips": 24,
            "n_groups": 12,
            "can_tell": True,
            "human_scale": True,
            "sentence": "The scorer can tell: D of the human captions is 0.18.",
            "swapped": [
                {
                    "share": s,
                    "n_swapped": 0,
                    "mean": 0.18 * (1 - s),
                    "low": 0.17 * (1 - s),
                    "high": 0.19 * (1 - s),
                }
                for s in (0.0, 0.1, 0.25, 0.5, 1.0)
            ],
        },
        "scorer_can_tell": True,
        "projectors": rows,
        "pairs": pairs,
        "retrieval": {
            "mean_margin": 0.09,
            "cleared_by": ["mlp_2l"],
            "comparisons": [
                {
                    "projector": label,
                    "difference": _SKILL.get(label, 0.05) - 0.09,
                    "low": _SKILL.get(label, 0.05) - 0.11,
                    "high": _SKILL.get(label, 0.05) - 0.07,
                    "p_holm": 0.04,
                }
                for label in labels
            ],
        },
        "caveats": ["SigLIP does not see the order of frames.", f"Only two seeds {HOSTILE}."],
    }
