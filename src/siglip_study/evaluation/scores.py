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

from siglip_study.cells import BASELINES
from siglip_study.choice import Scoring, read_choice
from siglip_study.config_sections import BertScoreConfig, RuntimeConfig, ScorerConfig
from siglip_study.errors import StudyError
from siglip_study.evaluation import score_processes
from siglip_study.evaluation.cell_scores import (
    REFERENCES,
    Captioner,
    Embedded,
    Split,
    write_scores,
)
from siglip_study.grid import Study
from siglip_study.io import atomic_path, read_json, write_json
from siglip_study.metrics import grounding, morphemes, siglip
from siglip_study.metrics.ids import check_same_ids
from siglip_study.metrics.tokens import tokenizer_for

if TYPE_CHECKING:
    from siglip_study.features.scorer import Scorer
    from siglip_study.metrics.bertscore import BertScore

log = logging.getLogger(__name__)


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

    def embed(self, captioner: Captioner, key: str) -> Embedded:
        """What the models make of a captioner's captions; the references come first."""
        records = self._records(captioner)
        captions = [record["caption"] for record in records]
        made = siglip.Chunks(*self._embed(captions))
        vectors = siglip.caption_vectors(made, None, self.images.shape[1])
        if captioner.role == REFERENCES:
            self.centre = vectors.mean(axis=0)
            if self.temperature is None:
                matrix = siglip.cosine_matrix(vectors, made.empty, self.images)
                self.temperature = float(grounding.fit_temperature(matrix))
        tokens = tokenizer_for(self.settings.language)(captions)
        columns = self._siglip_columns(captions, made, vectors)
        return Embedded(captioner, key, records, tokens, vectors, made.empty, columns)

    def score(self, captioner: Captioner, key: str) -> None:
        """Write ``metrics.json`` and ``clips.parquet`` of one captioner; references come first."""
        made = self.embed(captioner, key)
        found = write_scores(self.described(), made, self.bert)
        if captioner.role == REFERENCES:
            self.reference_values = found.values
            matrix = siglip.cosine_matrix(made.vectors, made.empty, self.images)
            _write_matrix(captioner.scored / "matrix.safetensors", matrix)

    def described(self) -> Split:
        """The split without the models."""
        return Split(
            self.split,
            self.ids,
            self.groups,
            self.categories,
            self.references,
            self.train,
            self.images,
            self.settings.language,
            self.facts,
            self.temperature,
            self.centre,
            self.reference_values,
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
        vectors: np.ndarray,
    ) -> dict[str, np.ndarray]:
        scale, bias = self.scorer.logit_scale, self.scorer.logit_bias
        own = siglip.own_cosines(vectors, made.empty, self.images)
        cut = self.scorer.published_embeddings(list(captions)).numpy()
        return {
            "siglip_sum": siglip.siglip_sum(made, self.images),
            "siglip_sigmoid": siglip.siglip_sigmoid(own, scale, bias),
            "siglip_published": siglip.siglip_published(cut, self.frames, scale, bias, made.empty),
        }


def captioners_of(study: Study, scoring: Scoring) -> list[Captioner]:
    """Everything that a scoring job scores, and where it lies; fresh cells as ``selection.json``
    chose them."""
    paths = study.paths
    choice = None if scoring.tunes else read_choice(paths.selection)
    return [
        Captioner(
            name,
            BASELINES[name] if name in BASELINES else study.cells[name].role,
            paths.run(name),
            paths.captions(name),
            paths.scored(name, scoring.split) if scoring.other else None,
        )
        for name in study.captioners(scoring, choice)
    ]


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
        workers: threads for the analysis of sentences, and processes where there is much to score.
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
    keys = {captioner.name: _digest(common, _bytes_of(captioner)) for captioner in ordered}
    fresh = [captioner for captioner in ordered if _scored_key(captioner) != keys[captioner.name]]
    _score_all(scorer, fresh, keys, ordered[0], workers)
    analyser.save()
    told = len(fresh), len(keys) - len(fresh)
    log.info("%s: scored %d captioners, %d were up to date", out.name, *told)
    write_json(out, {"split": scorer.split, "cells": keys}, "scores/1")


def _score_all(
    scorer: SplitScorer,
    fresh: list[Captioner],
    keys: Mapping[str, str],
    references: Captioner,
    workers: int,
) -> None:
    """Score the references if they are fresh, then the others, on several processes if many."""
    if references in fresh:
        scorer.score(references, keys[references.name])
    elif fresh:
        scorer.remember_references(references.scored)
    others = [captioner for captioner in fresh if captioner != references]
    many = len(others) * len(scorer.ids) >= score_processes.WORTHWHILE
    if workers < 2 or not many or scorer.settings.bertscore is not None:
        for captioner in others:
            scorer.score(captioner, keys[captioner.name])
        return
    embedded = (scorer.embed(captioner, keys[captioner.name]) for captioner in others)
    score_processes.write_in_processes(scorer.described(), embedded, workers)


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


def _write_matrix(path: Path, matrix: np.ndarray) -> None:
    from safetensors.numpy import save_file

    with atomic_path(path) as partial:
        save_file({"matrix": np.ascontiguousarray(matrix)}, partial)
