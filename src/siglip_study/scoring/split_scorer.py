"""The clips of a split, a captioner's captions of them as the models see them, and their scores.

:func:`score_captioner` needs no model: it can work in another process, while the scorer embeds the
next captioner's captions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from siglip_study.config.study import BertScoreConfig, RuntimeConfig, ScorerConfig
from siglip_study.metrics import grounding, siglip
from siglip_study.metrics.ids import check_same_ids
from siglip_study.metrics.tokens import Tokens, tokenize
from siglip_study.scoring.inputs import CaptionRecord, Facts, read_captions, read_losses
from siglip_study.scoring.score_captions import score_captions
from siglip_study.scoring.score_files import SplitScores, mean_losses, write_scores

if TYPE_CHECKING:
    from siglip_study.features.scorer import Scorer
    from siglip_study.metrics.bertscore import BertScore

#: Role of the human captions.
REFERENCES = "references"


# Compared by identity: equal arrays are no truth value.
@dataclass(frozen=True, eq=False)
class Split:
    """What the captions of a split are held against."""

    name: str  # of the split
    ids: list[str]  # N clips, ascending; all lists below are in their order
    groups: list[str]  # source video of each clip
    categories: list[str | None]  # of each clip, or None
    references: list[list[str]]  # captions of each clip by humans
    train: list[list[str]]  # the same of each train clip
    images: np.ndarray  # of the clips ``[N, E]``
    language: str  # of the captions
    facts: Facts | None  # id → true facts of a clip, in the demo only
    temperature: float | None  # of ``bits``
    centre: np.ndarray | None  # ``[E]`` mean of the references' vectors
    # the references' own metrics; None while they are made
    reference_values: Mapping[str, Any] | None


@dataclass(frozen=True)
class Captioner:
    """One captioner: its name, role, folder of ``captions.json``, where its scores go, and what was
    trained: label and seed.

    The human references have no such file: their captions are the clips' own first ones.
    """

    name: str
    role: str
    folder: Path
    scores: Path
    projector: str | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Embedded:
    """A captioner's captions of a split as scorer and tokenizer see them."""

    records: list[CaptionRecord]  # of ``captions.json``, one a clip
    tokens: Tokens  # of the captions
    vectors: np.ndarray  # of the captions ``[N, E]``
    empty: np.ndarray  # ``[N]`` captions that say nothing
    # ``siglip_sum``, ``siglip_sigmoid`` and ``siglip_published``, ``[N]`` each
    columns: dict[str, np.ndarray]


@dataclass(frozen=True)
class ScoreSettings:
    """What scoring depends on besides its inputs; ``version`` is that of the algorithm."""

    scorer: ScorerConfig
    bertscore: BertScoreConfig | None
    language: str
    version: int
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


class ScoreModels:
    """The models that scores need, each loaded once and only if something has to be scored."""

    def __init__(self, settings: ScoreSettings, scorer: Scorer | None = None) -> None:
        self.settings = settings
        self._scorer = scorer
        self._bert: tuple[BertScore, float] | None = None

    @property
    def scorer(self) -> Scorer:
        """The SigLIP scorer."""
        if self._scorer is None:
            from siglip_study.features.scorer import Scorer
            from siglip_study.models.devices import pick_device

            device = pick_device(self.settings.runtime.device)
            self._scorer = Scorer.from_config(self.settings.scorer, device)
        return self._scorer

    def bert(self, train: Sequence[Sequence[str]]) -> tuple[BertScore, float] | None:
        """The BERTScore model and its baseline on the train captions, if one is configured."""
        config = self.settings.bertscore
        if config is not None and self._bert is None:
            from siglip_study.metrics import bertscore

            model = bertscore.BertScore(config.model, config.layer)
            self._bert = model, model.baseline(train)
        return self._bert


class SplitScorer:
    """The clips of a split, their references, and the models that embed captions of them.

    Args:
        name: of the split.
        manifest: all splits.
        frames: the scorer's frame embeddings of the split, id → ``[F, E]``.
        models: shared by all splits of a job.
        facts: id → true facts of a clip, in the demo only.
        temperature: of ``bits``, fitted on references of other clips; None: fitted in this job.
    """

    def __init__(
        self,
        name: str,
        manifest: pl.DataFrame,
        frames: Mapping[str, np.ndarray],
        models: ScoreModels,
        facts: Facts | None = None,
        temperature: float | None = None,
    ) -> None:
        clips = manifest.filter(split=name).sort("id")
        ids = clips["id"].to_list()
        check_same_ids(ids, frames, "the manifest", "the scorer's features")
        shown = [frames[clip] for clip in ids]
        self.models = models
        self.frames = siglip.Frames(shown)
        self.temperature = temperature
        self.split = Split(
            name=name,
            ids=ids,
            groups=clips["group"].to_list(),
            categories=clips["category"].to_list(),
            references=clips["captions"].to_list(),
            train=manifest.filter(split="train")["captions"].to_list(),
            images=siglip.clip_vectors(shown),
            language=models.settings.language,
            facts=facts and {clip: facts[clip] for clip in ids},
            temperature=temperature,
            centre=None,
            reference_values=None,
        )

    def embed(self, captioner: Captioner) -> Embedded:
        """What the models make of a captioner's captions of this split."""
        records = self._records(captioner)
        captions = [record.caption for record in records]
        made = self._chunks(captions)
        own = siglip.own_cosines(made.means, made.empty, self.split.images)
        scorer = self.models.scorer
        scale, bias = scorer.logit_scale, scorer.logit_bias
        cut = scorer.published_embeddings(captions).numpy()
        columns = {
            "siglip_sum": siglip.siglip_sum(made, self.split.images),
            "siglip_sigmoid": siglip.siglip_sigmoid(own, scale, bias),
            "siglip_published": siglip.siglip_published(cut, self.frames, scale, bias, made.empty),
        }
        tokens = tokenize(captions, self.split.language)
        return Embedded(records, tokens, made.means, made.empty, columns)

    def fitted_temperature(self, references: Embedded) -> float:
        """Temperature at which the references of the split identify their clips best."""
        matrix = siglip.cosine_matrix(references.vectors, references.empty, self.split.images)
        return float(grounding.fit_temperature(matrix))

    def reference_vectors(self) -> np.ndarray:
        """Vectors of the clips' first human captions ``[N, E]``."""
        return self._chunks([texts[0] for texts in self.split.references]).means

    def hold_against(
        self, vectors: np.ndarray, temperature: float, values: Mapping[str, Any] | None = None
    ) -> None:
        """Score from now on beside references of these vectors and, once they have them, values."""
        centre = vectors.mean(axis=0)
        self.split = replace(
            self.split, temperature=temperature, centre=centre, reference_values=values
        )

    def _records(self, captioner: Captioner) -> list[CaptionRecord]:
        if captioner.role == REFERENCES:
            said = zip(self.split.ids, self.split.references, strict=True)
            return [
                CaptionRecord(clip, self.split.name, "matched", texts[0], None, False)
                for clip, texts in said
            ]
        path = captioner.folder / "captions.json"
        records = [
            record
            for record in read_captions(path)
            if record.split == self.split.name and record.condition == "matched"
        ]
        names = [str(record.id) for record in records]
        check_same_ids(self.split.ids, names, "the manifest", str(path))
        by_id = dict(zip(names, records, strict=True))
        return [by_id[clip] for clip in self.split.ids]

    def _chunks(self, captions: Sequence[str]) -> siglip.Chunks:
        pairs = self.models.scorer.caption_embeddings(captions)
        return siglip.Chunks([part.numpy() for part, _ in pairs], [w.numpy() for _, w in pairs])


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
    about = {
        "cell": captioner.name,
        "role": captioner.role,
        "projector": captioner.projector,
        "seed": captioner.seed,
        "inputs": key,
    }
    scored = [_score(captioner, *pair, bert) for pair in zip(splits, made, strict=True)]
    facts = {clip: said for split in splits for clip, said in (split.facts or {}).items()}
    write_scores(captioner.scores, about, scored, facts)
    return scored


def _score(
    captioner: Captioner, split: Split, made: Embedded, bert: tuple[BertScore, float] | None
) -> SplitScores:
    captions = [record.caption for record in made.records]
    truncated = [record.truncated for record in made.records]
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
        n_tokens=pl.Series([record.n_tokens for record in made.records], dtype=pl.Int64),
        truncated=pl.Series(truncated, dtype=pl.Boolean),
        **read_losses(captioner.folder / "losses.parquet", split.name, split.ids),
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
