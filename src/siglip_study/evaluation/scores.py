"""Score every captioner of a split; cells whose inputs did not change are left as they are."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from siglip_study.config import BertScoreConfig, RuntimeConfig, ScorerConfig
from siglip_study.errors import StudyError
from siglip_study.evaluation.truth import truth_of
from siglip_study.io import atomic_path, read_json, write_json, write_parquet
from siglip_study.metrics import grounding, morphemes, siglip
from siglip_study.metrics.ids import check_same_ids
from siglip_study.metrics.score import score_captions

if TYPE_CHECKING:
    from siglip_study.features.scorer import Scorer
    from siglip_study.metrics.bertscore import BertScore

log = logging.getLogger(__name__)

REFERENCES = "references"


@dataclass(frozen=True)
class Captioner:
    """One captioner of a split: its name, role, folder, captions file and where scores go.

    ``scored`` is the run's folder itself, but for a half of a held-out split.
    """

    name: str
    role: str
    folder: Path
    captions: Path
    scored_in: Path | None = None

    @property
    def scored(self) -> Path:
        """Folder of ``metrics.json`` and ``clips.parquet``."""
        return self.scored_in or self.folder


@dataclass(frozen=True)
class ScoreSettings:
    """What scoring depends on besides its inputs; ``code`` is the algorithm's hash."""

    scorer: ScorerConfig
    bertscore: BertScoreConfig | None
    language: str
    code: str
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


class SplitScorer:
    """The clips of a split, their references and the models that score captions of them.

    Args:
        split: ``selection`` or ``report``.
        manifest: all splits.
        frames: the scorer's frame embeddings of the split, id → ``[F, E]``.
        facts: id → true facts of a clip, in the demo only.
        temperature: of ``bits``, fitted on references of other clips; None: fitted here.
    """

    def __init__(
        self,
        split: str,
        manifest: pl.DataFrame,
        frames: Mapping[str, np.ndarray],
        settings: ScoreSettings,
        facts: Mapping[str, Mapping[str, str]] | None,
        temperature: float | None,
    ) -> None:
        clips = manifest.filter(pl.col("split") == split).sort("id")
        self.split = split
        self.ids: list[str] = clips["id"].to_list()
        check_same_ids(self.ids, frames, "the manifest", "the scorer's features")
        self.groups: list[str] = clips["group"].to_list()
        self.categories: list[str | None] = clips["category"].to_list()
        self.references: list[list[str]] = clips["captions"].to_list()
        self.train = manifest.filter(pl.col("split") == "train")["captions"].to_list()
        shown = [frames[clip] for clip in self.ids]
        self.frames = siglip.Frames(shown)
        self.images = siglip.clip_vectors(shown)
        self.settings = settings
        self.facts = facts
        self.temperature = temperature
        self.reference_values: dict[str, Any] | None = None
        self.centre: np.ndarray | None = None
        self._scorer: Scorer | None = None
        self._bert: tuple[BertScore, float] | None = None

    @property
    def scorer(self) -> Scorer:
        """Loaded once, and only if a cell has to be scored."""
        if self._scorer is None:
            from siglip_study.devices import pick_device
            from siglip_study.features.scorer import Scorer

            config = self.settings.scorer
            self._scorer = Scorer(
                config.model,
                revision=config.revision,
                lowercase=config.lowercase,
                weights=config.weights,
                device=pick_device(self.settings.runtime.device),
            )
        return self._scorer

    @property
    def bert(self) -> tuple[BertScore, float] | None:
        """The BERTScore model and its baseline, if one is configured."""
        config = self.settings.bertscore
        if config is not None and self._bert is None:
            from siglip_study.metrics import bertscore

            model = bertscore.BertScore(bertscore.BertScoreConfig(config.model, config.layer))
            self._bert = model, model.baseline(self.train)
        return self._bert

    def score(self, captioner: Captioner, key: str) -> None:
        """Write ``metrics.json`` and ``clips.parquet`` of one captioner; references come first.

        ``metrics.json``, which holds the key, goes first and comes last: killed in between, the
        captioner has no key, and never that of other clips.
        """
        (captioner.scored / "metrics.json").unlink(missing_ok=True)
        records = self._records(captioner)
        captions = [record["caption"] for record in records]
        are_references = captioner.role == REFERENCES
        chunks, weights = self._embed(captions)
        made = siglip.Chunks(chunks, weights)
        matrix = siglip.score_matrix(made, None, self.images)
        vectors = siglip.caption_vectors(made, None, self.images.shape[1])
        if are_references:
            self.centre = vectors.mean(axis=0)
            if self.temperature is None:
                self.temperature = float(grounding.fit_temperature(matrix))
        bert = self.bert
        found = score_captions(
            captions,
            self.references,
            self.ids,
            language=self.settings.language,
            train_references=self.train,
            groups=self.groups,
            categories=self.categories,
            matrix=matrix,
            siglip=self._siglip_columns(captions, made, chunks, matrix),
            temperature=self.temperature,
            caption_vectors=vectors,
            vector_centre=self.centre,
            bertscore=bert and bert[0],
            bertscore_baseline=bert and bert[1],
            truncated=None if are_references else [record["truncated"] for record in records],
            are_references=are_references,
            reference_values=self.reference_values,
        )
        if are_references:
            self.reference_values = found.values
            _write_matrix(captioner.scored / "matrix.safetensors", matrix)
        losses, loss_columns = self._losses(captioner.folder / "losses.parquet")
        run = _run_facts(captioner)
        clips = found.clips.select(
            pl.lit(captioner.name).alias("cell"),
            "id",
            pl.lit(self.split).alias("split"),
            pl.exclude("id"),
        ).with_columns(
            n_tokens=pl.Series([record["n_tokens"] for record in records], dtype=pl.Int64),
            truncated=pl.Series([record["truncated"] for record in records], dtype=pl.Boolean),
            **loss_columns,
        )
        write_parquet(captioner.scored / "clips.parquet", clips)
        write_json(
            captioner.scored / "metrics.json",
            {
                "cell": captioner.name,
                "role": captioner.role,
                "projector": run.get("projector"),
                "seed": run.get("seed"),
                "split": self.split,
                "inputs": key,
                "n_clips": len(self.ids),
                "values": found.values,
                "metrics": found.metrics,
                "losses": losses,
                "not_computed": found.not_computed,
                "notes": found.notes,
                "n_empty": found.n_empty,
                "truncated_share": float(np.mean([record["truncated"] for record in records])),
                "temperature": self.temperature,
                "truth": self.facts and truth_of(captions, [self.facts[i] for i in self.ids]),
            },
            "metrics/1",
        )

    def remember_references(self, folder: Path) -> None:
        """Take the references' values from an earlier scoring of the same inputs."""
        metrics = read_json(folder / "metrics.json", "metrics/1")
        self.reference_values = metrics["values"]
        self.temperature = metrics["temperature"]
        captions = [texts[0] for texts in self.references]
        self.centre = siglip.caption_vectors(*self._embed(captions), self.images.shape[1]).mean(0)

    def _records(self, captioner: Captioner) -> list[dict[str, Any]]:
        every = read_json(captioner.captions, "captions/1")["records"]
        records = [
            record
            for record in every
            if record["split"] == self.split and record["condition"] == "matched"
        ]
        names = [record["id"] for record in records]
        check_same_ids(self.ids, names, "the manifest", str(captioner.captions))
        by_id = dict(zip(names, records, strict=True))
        return [by_id[clip] for clip in self.ids]

    def _embed(self, captions: Sequence[str]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        pairs = self.scorer.caption_embeddings(list(captions))
        return [chunks.numpy() for chunks, _ in pairs], [weights.numpy() for _, weights in pairs]

    def _siglip_columns(
        self,
        captions: Sequence[str],
        made: siglip.Chunks,
        chunks: list[np.ndarray],
        matrix: np.ndarray,
    ) -> dict[str, np.ndarray]:
        scale, bias = self.scorer.logit_scale, self.scorer.logit_bias
        empty = np.array([len(rows) == 0 for rows in chunks])
        cut = self.scorer.published_embeddings(list(captions)).numpy()
        return {
            "siglip_sum": siglip.siglip_sum(made, self.images),
            "siglip_sigmoid": siglip.siglip_sigmoid(np.diag(matrix), scale, bias),
            "siglip_published": siglip.siglip_published(cut, self.frames, scale, bias, empty),
        }

    def _losses(self, path: Path) -> tuple[dict[str, Any] | None, dict[str, pl.Series]]:
        """Mean losses with the gaps' intervals, and one column a condition."""
        if not path.is_file():
            empty = pl.Series([None] * len(self.ids), dtype=pl.Float64)
            return None, {f"loss_{c}": empty for c in ("matched", "shuffled", "reversed")}
        table = pl.read_parquet(path).filter(pl.col("split") == self.split)
        by_condition: dict[str, np.ndarray] = {}
        for condition in ("matched", "shuffled", "reversed"):
            rows = table.filter(pl.col("condition") == condition)
            values = dict(zip(rows["id"].to_list(), rows["loss"].to_list(), strict=True))
            check_same_ids(self.ids, values, "the manifest", str(path))
            by_condition[condition] = np.array([values[clip] for clip in self.ids])

        def gap(condition: str) -> dict[str, float | None]:
            difference = by_condition[condition] - by_condition["matched"]
            bounds = grounding.mean_interval(difference, self.groups)
            value, low, high = (float(x) if np.isfinite(x) else None for x in bounds)
            return {"value": value, "low": low, "high": high}

        summary = {
            "matched": float(by_condition["matched"].mean()),
            "shuffled_gap": gap("shuffled"),
            "reversed_gap": gap("reversed"),
        }
        return summary, {f"loss_{name}": pl.Series(v) for name, v in by_condition.items()}


def reference_temperature(folder: Path, split: str) -> float | None:
    """Temperature fitted on the selection references; None on that split, where it is fitted."""
    if split == "selection":
        return None
    return float(read_json(folder / "metrics.json", "metrics/1")["temperature"])


def score_split(
    captioners: Sequence[Captioner],
    scorer: SplitScorer,
    frames_path: Path,
    out: Path,
    *,
    cache: Path | None = None,
    workers: int = 1,
) -> None:
    """Score what changed, references first; write the index of the split.

    Args:
        captioners: of the split, the references among them.
        scorer: of the split.
        frames_path: the scorer's frame embeddings, for the key alone.
        out: the index.
        cache: folder where analysed sentences are kept between runs.
        workers: threads for the analysis of sentences.
    """
    analyser = morphemes.Morphemes(workers, cache and cache / "morphemes")
    morphemes.use(analyser)
    ordered = sorted(captioners, key=lambda captioner: captioner.role != REFERENCES)
    if not ordered or ordered[0].role != REFERENCES:
        raise StudyError(f"{out}: the human references are not among the captioners of the split.")
    common = _digest(
        scorer.ids,
        scorer.references,
        scorer.groups,
        scorer.categories,
        scorer.train,
        scorer.settings.scorer.scoring_keys(),
        scorer.settings.bertscore and scorer.settings.bertscore.model_dump(),
        scorer.settings.language,
        scorer.settings.code,
        scorer.temperature,
        scorer.facts and [scorer.facts[clip] for clip in scorer.ids],
        hashlib.sha256(frames_path.read_bytes()).hexdigest(),
        # Their values stand beside everybody's.
        _bytes_of(ordered[0]),
    )
    keys, fresh = {}, 0
    for captioner in ordered:
        keys[captioner.name] = key = _digest(common, _bytes_of(captioner))
        if _scored_key(captioner) != key:
            if captioner.role != REFERENCES and scorer.reference_values is None:
                scorer.remember_references(ordered[0].scored)
            scorer.score(captioner, key)
            fresh += 1
    analyser.save()
    log.info("%s: scored %d captioners, %d were up to date", out.name, fresh, len(keys) - fresh)
    write_json(out, {"split": scorer.split, "cells": keys}, "scores/1")


def _bytes_of(captioner: Captioner) -> list[str]:
    files = (captioner.captions, captioner.folder / "losses.parquet")
    return [hashlib.sha256(f.read_bytes()).hexdigest() if f.is_file() else "" for f in files]


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()[:16]


def _scored_key(captioner: Captioner) -> str | None:
    names = ["metrics.json", "clips.parquet"]
    if captioner.role == REFERENCES:
        names.append("matrix.safetensors")
    if not all((captioner.scored / name).is_file() for name in names):
        return None
    text = (captioner.scored / "metrics.json").read_text(encoding="utf-8")
    return str(json.loads(text).get("inputs"))


def _run_facts(captioner: Captioner) -> dict[str, Any]:
    path = captioner.folder / "cell.json"
    return read_json(path, "cell/1") if path.is_file() else {}


def _write_matrix(path: Path, matrix: np.ndarray) -> None:
    from safetensors.numpy import save_file

    with atomic_path(path) as partial:
        save_file({"matrix": np.ascontiguousarray(matrix)}, partial)
