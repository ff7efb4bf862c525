"""The scoring job: captioners whose inputs did not change are left as they are."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from siglip_study.base.errors import StudyError
from siglip_study.base.io import write_json
from siglip_study.metrics import morphemes
from siglip_study.metrics.base import metric_versions
from siglip_study.metrics.tokens import folded
from siglip_study.scoring.inputs import Facts
from siglip_study.scoring.score_files import join_halves, of_half, read_clips, read_metrics
from siglip_study.scoring.split_scorer import (
    REFERENCES,
    Captioner,
    Embedded,
    ScoreModels,
    Split,
    SplitScorer,
    score_captioner,
)
from siglip_study.study.cells import BASELINES
from siglip_study.study.grid import Phase, Study, read_choice

log = logging.getLogger(__name__)

#: Captions below which other processes, which take seconds to start, save no time.
WORTHWHILE = 5_000
#: Captioners embedded ahead of each process: 20 MB each for 1,000 clips.
AHEAD = 2


def score_study(
    study: Study,
    phase: Phase,
    manifest: pl.DataFrame,
    frames: Mapping[Path, Mapping[str, Any]],
    models: ScoreModels,
    facts: Facts | None,
    out: Path,
    workers: int,
) -> None:
    """Score all captioners of a phase; fresh cells as ``selection.json`` chose them.

    Args:
        study: whose captions lie in its folder.
        phase: ``tuning``: of what chooses; ``report``: of what is reported.
        manifest: all splits.
        frames: file of each scored split → the scorer's embeddings, id → tensor ``[F, E]``.
        models: with the settings of scoring.
        facts: id → true facts of a clip, in the demo only.
        out: the index.
        workers: threads and processes.
    """
    paths = study.paths
    choice = {} if phase == "tuning" else read_choice(paths.selection)
    captioners = []
    for name in study.captioners(phase, choice):
        folder, scores = paths.run(name), paths.run(name)
        if name == REFERENCES:
            scores = study.references(phase)
        if name in BASELINES:
            captioners.append(Captioner(name, BASELINES[name], folder, scores))
        else:
            cell = study.cells[name]
            captioners.append(Captioner(name, cell.role, folder, scores, cell.label, cell.run.seed))
    # Fitted in this job on clips that only choose, and where halves do so for each other.
    temperature = None
    if phase == "report" and not study.cross_fit:
        temperature = float(read_metrics(study.references("tuning"))["temperature"])
    scorers = [
        SplitScorer(
            split,
            manifest,
            {clip: rows.numpy() for clip, rows in embedded.items()},
            models,
            facts,
            temperature,
        )
        for split, embedded in zip(study.scored_splits(phase), frames.values(), strict=True)
    ]
    score_captioners(
        captioners, scorers, [*frames], out, cache=paths.root / ".cache", workers=workers
    )
    for entrant in study.entrants(choice):
        if entrant.is_joined:
            parts = {half: paths.run(cell) for half, cell in entrant.parts.items()}
            join_halves(entrant.name, parts, paths.run(entrant.name), facts)


def score_captioners(
    captioners: Sequence[Captioner],
    scorers: Sequence[SplitScorer],
    frames: Sequence[Path],
    out: Path,
    *,
    cache: Path | None = None,
    workers: int = 1,
) -> None:
    """Score what changed, references first; write the index of the job.

    Args:
        captioners: the references among them.
        scorers: of the split, or of the halves of a held-out split.
        frames: each split's frame embeddings by the scorer, for the key alone.
        out: the index.
        cache: folder where analysed sentences are kept between runs.
        workers: threads for the analysis of sentences, and processes where there is much to score.
    """
    analyser = morphemes.Morphemes(workers, cache and cache / "morphemes")
    morphemes.use(analyser)
    references = next((one for one in captioners if one.role == REFERENCES), None)
    if references is None:
        raise StudyError(f"{out}: the human references are not among the captioners of the split.")
    others = [one for one in captioners if one is not references]
    # Their values stand beside everybody's.
    common = _digest(_bytes_of(references), [*map(_inputs, scorers, frames)])
    keys = {one.name: _digest(common, _bytes_of(one)) for one in (references, *others)}
    fresh = [one for one in others if _scored_key(one) != keys[one.name]]
    n_scored = len(fresh)
    if _scored_key(references) != keys[references.name]:
        _score_references(references, keys[references.name], scorers)
        n_scored += 1
    elif fresh:
        metrics = read_metrics(references.scores)
        for one in scorers:
            halved = len(scorers) > 1
            own = of_half(metrics, one.split.name, references.scores) if halved else metrics
            one.hold_against(one.reference_vectors(), own["temperature"], own["values"])

    splits = [one.split for one in scorers]
    bert = scorers[0].models.bert(splits[0].train) if fresh else None
    embedded = ((who, keys[who.name], [one.embed(who) for one in scorers]) for who in fresh)
    captions = len(fresh) * sum(len(split.ids) for split in splits)
    if workers > 1 and captions >= WORTHWHILE and bert is None:
        _in_processes(splits, embedded, workers)
    else:
        for captioner, key, made in embedded:
            score_captioner(captioner, key, splits, made, bert)
    analyser.save()
    n_kept = len(keys) - n_scored
    log.info("%s: scored %d captioners, %d were up to date", out.name, n_scored, n_kept)
    write_json(out, {"splits": [split.name for split in splits], "cells": keys}, "scores/2")


def _score_references(references: Captioner, key: str, scorers: Sequence[SplitScorer]) -> None:
    """Score them, and remember what everybody is held against."""
    made = [one.embed(references) for one in scorers]
    fitted = [one.fitted_temperature(own) for one, own in zip(scorers, made, strict=True)]
    # Halves exchange: the references that fit a temperature are not those that it scales.
    temperatures = [
        exchanged if one.temperature is None else one.temperature
        for one, exchanged in zip(scorers, reversed(fitted), strict=True)
    ]
    for one, own, temperature in zip(scorers, made, temperatures, strict=True):
        one.hold_against(own.vectors, temperature)
    splits = [one.split for one in scorers]
    found = score_captioner(references, key, splits, made, scorers[0].models.bert(splits[0].train))
    for one, own, temperature, scored in zip(scorers, made, temperatures, found, strict=True):
        one.hold_against(own.vectors, temperature, scored.figures["values"])


# ---- The metrics of many captioners, several at once, each in a process of its own.
#
# Only what needs no model is done there: this process goes on embedding captions meanwhile. The
# processes are joblib's, which do not run the calling script again, as those of ``multiprocessing``
# would do with a job's script.

_splits: list[Split] = []


def _in_processes(
    splits: list[Split],
    captioners: Iterable[tuple[Captioner, str, list[Embedded]]],
    processes: int,
) -> None:
    """Write the scores of each captioner, embedded one after the other as processes come free."""
    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky import get_reusable_executor

    known: dict[str, str] = {}
    for split in splits:
        texts = [folded(text) for refs in (*split.references, *split.train) for text in refs]
        known |= morphemes.current().sentences(texts) if split.language == "ko" else {}
    with parallel_config(
        "loky", inner_max_num_threads=1, initializer=_take, initargs=(splits, known)
    ):
        # Arrays go through the pipe: joblib's files of them would stay until the last captioner.
        pool = Parallel(n_jobs=processes, pre_dispatch=(1 + AHEAD) * processes, max_nbytes=None)
        try:
            pool(delayed(_write)(*one) for one in captioners)
        finally:
            # joblib would keep them waiting for more.
            get_reusable_executor(reuse=True).shutdown()


def _take(splits: list[Split], known: Mapping[str, str]) -> None:
    """Keep what all captioners of the job share, the analysed references among it."""
    _splits[:] = splits
    morphemes.use(morphemes.Morphemes(known=known))


def _write(captioner: Captioner, key: str, made: list[Embedded]) -> None:
    score_captioner(captioner, key, _splits, made)


# ---- Keys of what was scored: a captioner whose inputs did not change keeps its files.


def _inputs(scorer: SplitScorer, frames: Path) -> str:
    """Of all that the scores of a split depend on, besides captions."""
    split, settings = scorer.split, scorer.models.settings
    return _digest(
        split.ids,
        split.references,
        split.groups,
        split.categories,
        split.train,
        settings.scorer.scoring_keys(),
        settings.bertscore and settings.bertscore.model_dump(),
        settings.language,
        settings.version,
        metric_versions(),
        # One that is fitted here follows from the rest.
        scorer.temperature,
        split.facts,
        hashlib.sha256(frames.read_bytes()).hexdigest(),
    )


def _bytes_of(captioner: Captioner) -> list[str]:
    files = [captioner.folder / name for name in ("captions.json", "losses.parquet")]
    return [hashlib.sha256(f.read_bytes()).hexdigest() if f.is_file() else "" for f in files]


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode()).hexdigest()[:16]


def _scored_key(captioner: Captioner) -> str | None:
    """The key under which it was scored; none where its files are missing or damaged."""
    try:
        metrics = read_metrics(captioner.scores)
        read_clips(captioner.scores, metrics)
    except StudyError:
        return None
    return str(metrics.get("inputs"))
