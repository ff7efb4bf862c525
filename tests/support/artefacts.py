"""One artefact of every kind that is read again, small, and how it is read."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import torch

from siglip_study.base.io import digest_of, read_parquet, write_json, write_parquet
from siglip_study.captioning.exported import read_run
from siglip_study.captioning.handover import hand_over, take_handover
from siglip_study.config import parse
from siglip_study.config.study import Config
from siglip_study.data.fingerprint import split_digests, write_listing
from siglip_study.data.labels import Rejection
from siglip_study.data.summary import Unused, read_unused
from siglip_study.features.store import (
    FeatureStore,
    read_frame_embeddings,
    write_frame_embeddings,
)
from siglip_study.ranking.from_scores import _hours
from siglip_study.ranking.procedure import rank, read_ranking, write_ranking
from siglip_study.ranking.scorer_check import CHECK_SCHEMA, StudyCheck, check_scorer, read_check
from siglip_study.ranking.selection import (
    Selection,
    StudySelection,
    read_selection,
    write_selection,
)
from siglip_study.report.runs import read_curve
from siglip_study.runs.run import check_checkpoint, save_checkpoint
from siglip_study.scoring.inputs import read_captions, read_facts, read_losses
from siglip_study.scoring.score_files import read_scores
from siglip_study.study import Study
from siglip_study.study.grid import read_choice
from siglip_study.study.paths import Paths
from siglip_study.training.resume import Position, ResumePoint
from support.features import write_features
from support.scored import split_scores, write_captioner

SAID = {"id": "a", "split": "report", "condition": "matched", "caption": "빨간 공이 구른다."}
SAID |= {"n_tokens": 7, "truncated": False}
KINDS = (
    *("table", "unused", "metrics", "clips", "index", "shard", "embeddings"),
    *("captions", "losses", "facts", "selection", "choice", "ranking", "check", "steps", "epochs"),
    *("cell", "stage", "took", "resume", "generated", "digests"),
    *("handover", "projector", "checkpoint"),
)


def artefacts(folder: Path) -> dict[str, tuple[Path, object]]:
    """Kind → one of its files, and how it is read."""
    table, unused = folder / "table.parquet", folder / "unused.json"
    write_parquet(table, pl.DataFrame({"id": ["a", "b"] * 20, "captions": [["x"], ["y"]] * 20}))
    Unused.of([Rejection("a", "a.mp4", "broken label: x")], {}).write(unused)
    scored = write_captioner(folder / "scored", split_scores([0.1, 0.2, 0.3]))
    features = folder / "features"
    encode = lambda ids: torch.ones(len(ids), 2, 4, 3)  # noqa: E731
    write_features(features, folder / "work", ["a", "b"], encode, 1, {"grid": (2, 2)})
    write_frame_embeddings(folder / "frames.safetensors", ["a"], torch.ones(1, 2, 4), {})
    write_json(folder / "captions.json", {"cell": "x", "records": [SAID]}, "captions/1")
    row = {"id": ["a", "b"], "split": "report", "loss": [1.5, 2.0]}
    losses = [pl.DataFrame({**row, "condition": c}) for c in ("matched", "shuffled", "reversed")]
    write_parquet(folder / "losses.parquet", pl.concat(losses))
    write_json(folder / "facts.json", {"a": {"count": "2"}, "b": {"count": "3"}}, "facts/1")
    chosen = Selection("x", 0.2, "grounded", 1, 0, 0, (), (), {"report": "x", "selection": "y"})
    write_selection(folder / "selection.json", StudySelection({"linear": chosen}))
    rng = np.random.default_rng(0)
    write_ranking(folder / "ranking.json", rank({p: rng.normal(size=(2, 9)) for p in "ab"}))
    check = StudyCheck(
        "siglip", None, "report", {"report": check_scorer(rng.normal(size=(6, 6)), list("abcdef"))}
    )
    write_json(folder / "scorer_check.json", asdict(check), CHECK_SCHEMA)
    curve = {"step": [1, 2, 3], "loss": [3.0, 2.5, 2.0], "val_loss": [None, 2.5, 2.0]}
    for name in ("steps", "epochs"):
        write_parquet(folder / f"{name}.parquet", pl.DataFrame(curve))
    cell = Study(parse({"data": {"root": "x"}, "projectors": {"linear": {}}})).tuning[0]
    study = folder / "study"
    run = Paths(study).run(cell.name)
    stage1 = Paths(study).stage1(cell.stage1_name) / "stage.json"
    told = {"cell": cell.name, "stage1_cell": cell.stage1_name, "wall_s": 9.5, "gpu_s": 9.0}
    for path in (run, stage1.parent):
        path.mkdir(parents=True)
    write_json(run / "cell.json", {**told, "run": cell.run.model_dump(mode="json")}, "cell/1")
    write_json(run / "captions.json", {**told, "records": []}, "captions/1")
    write_json(stage1, {"wall_s": 3.0, "gpu_s": None}, "stage/1")

    def take(path):
        with hand_over(folder / "copy") as made:
            for name in ("captions.json", "losses.parquet"):
                (made / name).write_bytes((folder / name).read_bytes())
        if path.name == "handover.json":
            shutil.copy(path, folder / "copy" / path.name)
        take_handover(folder / "copy", folder / "taken")

    with hand_over(folder / "handed") as made:
        for name in ("captions.json", "losses.parquet"):
            (made / name).write_bytes((folder / name).read_bytes())
    model = SimpleNamespace(state_dict=lambda: {"projector.w": torch.ones(3)}, llm=None)
    save_checkpoint(folder / "checkpoint", model, {"stage": 1})

    weights = {"w": torch.nn.Parameter(torch.ones(3))}
    resume = ResumePoint(folder / "resume", "clips of then")
    resume.save(Position(step=3, steps=[{"step": 3, "loss": 2.5}]), weights, {})
    (point,) = (folder / "resume").iterdir()
    made = _generated(folder / "demo")
    digests = Paths(made.output_dir).data / "digests.json"

    def read_digests(path):
        digest_of(digests).unlink(missing_ok=True)  # each call writes both anew
        return split_digests(made)

    def read_features(path):
        store = FeatureStore(features)
        return [store[clip] for clip in ("a", "b")]

    return {
        "table": (table, read_parquet),
        "unused": (unused, read_unused),
        "metrics": (scored / "metrics.json", lambda path: read_scores(scored)),
        "clips": (scored / "clips.parquet", lambda path: read_scores(scored)),
        "index": (features / "index.json", read_features),
        "shard": (features / "shard-00000.safetensors", read_features),
        "embeddings": (folder / "frames.safetensors", read_frame_embeddings),
        "captions": (folder / "captions.json", read_captions),
        "losses": (folder / "losses.parquet", lambda path: read_losses(path, "report", ["a", "b"])),
        "facts": (folder / "facts.json", read_facts),
        "selection": (folder / "selection.json", read_selection),
        "choice": (folder / "selection.json", read_choice),
        "ranking": (folder / "ranking.json", read_ranking),
        "check": (folder / "scorer_check.json", read_check),
        "steps": (folder / "steps.parquet", lambda path: read_curve(folder)),
        "epochs": (folder / "epochs.parquet", lambda path: read_curve(folder)),
        "cell": (run / "cell.json", lambda path: (read_run(run), _hours({"linear": [run]}))),
        "stage": (stage1, lambda path: _hours({"linear": [run]})),
        "took": (run / "captions.json", lambda path: _hours({"linear": [run]})),
        "resume": (point / "state.json", lambda path: resume._read(point)),
        "generated": (folder / "demo/files.json", lambda path: split_digests(made)),
        "digests": (digests, read_digests),
        "handover": (folder / "handed" / "handover.json", take),
        "projector": (
            folder / "checkpoint" / "projector.safetensors",
            lambda path: check_checkpoint(folder / "checkpoint"),
        ),
        "checkpoint": (
            folder / "checkpoint" / "checkpoint.json",
            lambda path: check_checkpoint(folder / "checkpoint"),
        ),
    }


def _generated(root: Path) -> Config:
    """A dataset of a clip a split with the list that its maker leaves; the study that reads it."""
    data = {"root": str(root), "layout": "jsonl"}
    study = parse({"data": data, "projectors": {"linear": {}}, "output_dir": f"{root}_results"})
    root.mkdir()
    for split in study.data.splits:
        (root / f"{split}.mp4").write_bytes(split.encode())
        line = json.dumps({"path": f"{split}.mp4", "caption": "빨간 공"})
        (root / f"{split}.jsonl").write_text(line, "utf-8")
    write_listing(study, root)
    split_digests(study)
    return study
