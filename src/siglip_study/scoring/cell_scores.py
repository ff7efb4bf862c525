"""From a captioner's embedded captions to its ``metrics.json`` and ``clips.parquet``.

Nothing here needs a model: it can be done in another process, while the scorer embeds the next
captioner's captions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from siglip_study.base.io import read_json
from siglip_study.metrics import siglip
from siglip_study.metrics.ids import check_same_ids
from siglip_study.metrics.tokens import Tokens
from siglip_study.scoring.score_captions import score_captions
from siglip_study.scoring.score_files import SplitScores, mean_losses, write_scores

if TYPE_CHECKING:
    from siglip_study.metrics.bertscore import BertScore

#: Role of the human captions.
REFERENCES = "references"


# Compared by identity: equal arrays are no truth value.
@dataclass(frozen=True, eq=False)
class Split:
    """What the captions of a split are held against.

    Attributes:
        name: of the split.
        ids: N clips, ascending; all lists below are in their order.
        groups: source video of each clip.
        categories: of each clip, or None.
        references: captions of each clip by humans.
        train: the same of each train clip.
        images: of the clips ``[N, E]``.
        language: of the captions.
        facts: id → true facts of a clip, in the demo only.
        temperature: of ``bits``.
        centre: ``[E]`` mean of the references' vectors.
        reference_values: the references' own metrics; None while they are made.
    """

    name: str
    ids: list[str]
    groups: list[str]
    categories: list[str | None]
    references: list[list[str]]
    train: list[list[str]]
    images: np.ndarray
    language: str
    facts: Mapping[str, Mapping[str, str]] | None
    temperature: float | None
    centre: np.ndarray | None
    reference_values: Mapping[str, Any] | None


@dataclass(frozen=True)
class Captioner:
    """One captioner: its name, role, folder of ``captions.json``, and where its scores go."""

    name: str
    role: str
    folder: Path
    scores: Path


@dataclass(frozen=True)
class Embedded:
    """A captioner's captions of a split as scorer and tokenizer see them.

    Attributes:
        records: of ``captions.json``, one a clip.
        tokens: of the captions.
        vectors: of the captions ``[N, E]``.
        empty: ``[N]`` captions that say nothing.
        columns: ``siglip_sum``, ``siglip_sigmoid`` and ``siglip_published``, ``[N]`` each.
    """

    records: list[dict[str, Any]]
    tokens: Tokens
    vectors: np.ndarray
    empty: np.ndarray
    columns: dict[str, np.ndarray]


def score_captioner(
    captioner: Captioner,
    key: str,
    splits: Sequence[Split],
    made: Sequence[Embedded],
    bert: tuple[BertScore, float] | None = None,
) -> list[SplitScores]:
    """Score a captioner on every split of a job and write its files.

    Args:
        captioner: whose captions.
        key: of all inputs, kept in ``metrics.json``.
        splits: one, or the halves of a held-out split.
        made: the captions of each.
        bert: the BERTScore model and its baseline.
    """
    path = captioner.folder / "cell.json"
    run = read_json(path, "cell/1") if path.is_file() else {}
    about = {
        "cell": captioner.name,
        "role": captioner.role,
        "projector": run.get("projector"),
        "seed": run.get("seed"),
        "inputs": key,
    }
    scored = [_score(captioner, *pair, bert) for pair in zip(splits, made, strict=True)]
    facts = {clip: said for split in splits for clip, said in (split.facts or {}).items()}
    write_scores(captioner.scores, about, scored, facts)
    return scored


def _score(
    captioner: Captioner, split: Split, made: Embedded, bert: tuple[BertScore, float] | None
) -> SplitScores:
    captions = [record["caption"] for record in made.records]
    truncated = [record["truncated"] for record in made.records]
    are_references = captioner.role == REFERENCES
    found = score_captions(
        captions,
        split.references,
        split.ids,
        language=split.language,
        tokens=made.tokens,
        train_references=split.train,
        groups=split.groups,
        categories=split.categories,
        matrix=siglip.cosine_matrix(made.vectors, made.empty, split.images),
        siglip=made.columns,
        temperature=split.temperature,
        caption_vectors=made.vectors,
        vector_centre=split.centre,
        bertscore=bert and bert[0],
        bertscore_baseline=bert and bert[1],
        truncated=None if are_references else truncated,
        are_references=are_references,
        reference_values=split.reference_values,
    )
    clips = found.clips.select(
        pl.lit(captioner.name).alias("cell"),
        "id",
        pl.lit(split.name).alias("split"),
        pl.exclude("id"),
    ).with_columns(
        n_tokens=pl.Series([record["n_tokens"] for record in made.records], dtype=pl.Int64),
        truncated=pl.Series(truncated, dtype=pl.Boolean),
        **_losses(captioner.folder / "losses.parquet", split),
    )
    figures = {
        "n_clips": len(split.ids),
        "values": found.values,
        "metrics": found.metrics,
        "losses": mean_losses(clips),
        "not_computed": found.not_computed,
        "notes": found.notes,
        "n_empty": found.n_empty,
        "truncated_share": float(np.mean(truncated)),
        "temperature": split.temperature,
    }
    return SplitScores(split.name, figures, clips)


def _losses(path: Path, split: Split) -> dict[str, pl.Series]:
    """One column a condition; without values for a captioner that has no model."""
    conditions = ("matched", "shuffled", "reversed")
    if not path.is_file():
        return dict.fromkeys(
            (f"loss_{name}" for name in conditions),
            pl.Series([None] * len(split.ids), dtype=pl.Float64),
        )
    table = pl.read_parquet(path).filter(pl.col("split") == split.name)
    columns = {}
    for condition in conditions:
        rows = table.filter(pl.col("condition") == condition)
        values = dict(zip(rows["id"].to_list(), rows["loss"].to_list(), strict=True))
        check_same_ids(split.ids, values, "the manifest", str(path))
        columns[f"loss_{condition}"] = pl.Series([values[clip] for clip in split.ids])
    return columns
