"""From a captioner's embedded captions to its ``metrics.json`` and ``clips.parquet``.

Nothing here needs a model: it can be done in another process, while the scorer embeds the next
captioner's captions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from siglip_study.base.io import read_json, write_json, write_parquet
from siglip_study.metrics import grounding, siglip
from siglip_study.metrics.ids import check_same_ids
from siglip_study.metrics.tokens import Tokens
from siglip_study.scoring.collect import Scores
from siglip_study.scoring.score_captions import score_captions

if TYPE_CHECKING:
    from siglip_study.metrics.bertscore import BertScore


# ---- Truth in the demo: what captions say of the facts of a world that is known.


def truth_of(captions: Sequence[str], facts: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """κ per attribute with its interval: ``{attribute: {kappa, low, high, accuracy, …}}``."""
    from siglip_study.demo.facts import kappa, parse_facts

    said = [parse_facts(caption) for caption in captions]
    true = [dict(row) for row in facts]
    return {attribute: asdict(kappa(said, true, attribute)) for attribute in true[0]}


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
class Embedded:
    """A captioner's captions as scorer and tokenizer see them.

    Attributes:
        captioner: whose.
        key: of the inputs.
        records: of ``captions.json``, one a clip.
        tokens: of the captions.
        vectors: of the captions ``[N, E]``.
        empty: ``[N]`` captions that say nothing.
        columns: ``siglip_sum``, ``siglip_sigmoid`` and ``siglip_published``, ``[N]`` each.
    """

    captioner: Captioner
    key: str
    records: list[dict[str, Any]]
    tokens: Tokens
    vectors: np.ndarray
    empty: np.ndarray
    columns: dict[str, np.ndarray]


def write_scores(
    split: Split, made: Embedded, bert: tuple[BertScore, float] | None = None
) -> Scores:
    """Write both files of one captioner.

    ``metrics.json``, which holds the key, goes first and comes last: killed in between, the
    captioner has no key, and never that of other clips.
    """
    captioner, records = made.captioner, made.records
    (captioner.scored / "metrics.json").unlink(missing_ok=True)
    captions = [record["caption"] for record in records]
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
        truncated=None if are_references else [record["truncated"] for record in records],
        are_references=are_references,
        reference_values=split.reference_values,
    )
    losses, loss_columns = _losses(captioner.folder / "losses.parquet", split)
    run = _run_facts(captioner)
    clips = found.clips.select(
        pl.lit(captioner.name).alias("cell"),
        "id",
        pl.lit(split.name).alias("split"),
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
            "split": split.name,
            "inputs": made.key,
            "n_clips": len(split.ids),
            "values": found.values,
            "metrics": found.metrics,
            "losses": losses,
            "not_computed": found.not_computed,
            "notes": found.notes,
            "n_empty": found.n_empty,
            "truncated_share": float(np.mean([record["truncated"] for record in records])),
            "temperature": split.temperature,
            "truth": split.facts and truth_of(captions, [split.facts[i] for i in split.ids]),
        },
        "metrics/1",
    )
    return found


def _losses(path: Path, split: Split) -> tuple[dict[str, Any] | None, dict[str, pl.Series]]:
    """Mean losses with the gaps' intervals, and one column a condition."""
    if not path.is_file():
        empty = pl.Series([None] * len(split.ids), dtype=pl.Float64)
        return None, {f"loss_{c}": empty for c in ("matched", "shuffled", "reversed")}
    table = pl.read_parquet(path).filter(pl.col("split") == split.name)
    by_condition: dict[str, np.ndarray] = {}
    for condition in ("matched", "shuffled", "reversed"):
        rows = table.filter(pl.col("condition") == condition)
        values = dict(zip(rows["id"].to_list(), rows["loss"].to_list(), strict=True))
        check_same_ids(split.ids, values, "the manifest", str(path))
        by_condition[condition] = np.array([values[clip] for clip in split.ids])

    def gap(condition: str) -> dict[str, float | None]:
        difference = by_condition[condition] - by_condition["matched"]
        bounds = grounding.mean_interval(difference, split.groups)
        value, low, high = (float(x) if np.isfinite(x) else None for x in bounds)
        return {"value": value, "low": low, "high": high}

    summary = {
        "matched": float(by_condition["matched"].mean()),
        "shuffled_gap": gap("shuffled"),
        "reversed_gap": gap("reversed"),
    }
    return summary, {f"loss_{name}": pl.Series(v) for name, v in by_condition.items()}


def _run_facts(captioner: Captioner) -> dict[str, Any]:
    path = captioner.folder / "cell.json"
    return read_json(path, "cell/1") if path.is_file() else {}
