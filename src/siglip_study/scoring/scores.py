"""Score every captioner of a split; cells whose inputs did not change are left as they are."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from siglip_study.base.errors import StudyError
from siglip_study.base.io import read_json, write_json
from siglip_study.metrics import grounding, morphemes, siglip
from siglip_study.ranking.scorer_check import TextScorer
from siglip_study.scoring import split_scorer
from siglip_study.scoring.cell_scores import REFERENCES, Captioner
from siglip_study.scoring.split_scorer import SplitScorer
from siglip_study.study.cells import BASELINES
from siglip_study.study.grid import Scoring, Study, read_choice

# ---- The temperature of ``bits``, fitted on references of clips that it does not score.


def fit_on_references(
    manifest: pl.DataFrame, split: str, frames: Mapping[str, np.ndarray], scorer: TextScorer
) -> float:
    """Temperature at which the references of a split identify their clips best.

    Args:
        manifest: all splits.
        split: whose references are asked; under cross-fitting the half that is not scored.
        frames: the scorer's frame embeddings of that split, id → ``[F, E]``.
        scorer: embeds captions.
    """
    clips = manifest.filter(pl.col("split") == split).sort("id")
    pairs = scorer.caption_embeddings([texts[0] for texts in clips["captions"].to_list()])
    made = siglip.Chunks(
        [chunks.numpy() for chunks, _ in pairs], [weights.numpy() for _, weights in pairs]
    )
    images = siglip.clip_vectors([frames[clip] for clip in clips["id"].to_list()])
    return float(grounding.fit_temperature(siglip.score_matrix(made, None, images)))


log = logging.getLogger(__name__)


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
        scorer.settings.version,
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
    many = len(others) * len(scorer.ids) >= split_scorer.WORTHWHILE
    if workers < 2 or not many or scorer.settings.bertscore is not None:
        for captioner in others:
            scorer.score(captioner, keys[captioner.name])
        return
    embedded = (scorer.embed(captioner, keys[captioner.name]) for captioner in others)
    split_scorer.write_in_processes(scorer.described(), embedded, workers)


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
