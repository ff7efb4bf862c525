"""The clips of a split, and what the models make of a captioner's captions of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from siglip_study.base.io import read_json
from siglip_study.config.study import BertScoreConfig, RuntimeConfig, ScorerConfig
from siglip_study.metrics import grounding, siglip
from siglip_study.metrics.ids import check_same_ids
from siglip_study.metrics.tokens import tokenize
from siglip_study.scoring.cell_scores import Captioner, Embedded, Split

if TYPE_CHECKING:
    from siglip_study.features.scorer import Scorer
    from siglip_study.metrics.bertscore import BertScore


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

            model = bertscore.BertScore(bertscore.BertScoreModel(config.model, config.layer))
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
        facts: Mapping[str, Mapping[str, str]] | None = None,
        temperature: float | None = None,
    ) -> None:
        clips = manifest.filter(pl.col("split") == name).sort("id")
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
            train=manifest.filter(pl.col("split") == "train")["captions"].to_list(),
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
        captions = [record["caption"] for record in records]
        made, vectors = self._vectors(captions)
        own = siglip.own_cosines(vectors, made.empty, self.split.images)
        scorer = self.models.scorer
        scale, bias = scorer.logit_scale, scorer.logit_bias
        cut = scorer.published_embeddings(captions).numpy()
        columns = {
            "siglip_sum": siglip.siglip_sum(made, self.split.images),
            "siglip_sigmoid": siglip.siglip_sigmoid(own, scale, bias),
            "siglip_published": siglip.siglip_published(cut, self.frames, scale, bias, made.empty),
        }
        tokens = tokenize(captions, self.split.language)
        return Embedded(records, tokens, vectors, made.empty, columns)

    def fitted_temperature(self, references: Embedded) -> float:
        """Temperature at which the references of the split identify their clips best."""
        matrix = siglip.cosine_matrix(references.vectors, references.empty, self.split.images)
        return float(grounding.fit_temperature(matrix))

    @property
    def bert(self) -> tuple[BertScore, float] | None:
        """The BERTScore model and its baseline on the train captions, if one is configured."""
        return self.models.bert(self.split.train)

    def hold_against(self, references: Embedded, temperature: float) -> None:
        """Score from now on beside these references."""
        self.split = replace(
            self.split, temperature=temperature, centre=references.vectors.mean(axis=0)
        )

    def take_reference_values(self, values: Mapping[str, Any]) -> None:
        """Put the references' own values beside everybody's."""
        self.split = replace(self.split, reference_values=values)

    def remember_references(self, figures: Mapping[str, Any]) -> None:
        """Take the references' figures from an earlier scoring of the same inputs."""
        _, vectors = self._vectors([texts[0] for texts in self.split.references])
        self.split = replace(
            self.split,
            temperature=figures["temperature"],
            centre=vectors.mean(axis=0),
            reference_values=figures["values"],
        )

    def _records(self, captioner: Captioner) -> list[dict[str, Any]]:
        path = captioner.folder / "captions.json"
        records = [
            record
            for record in read_json(path, "captions/1")["records"]
            if record["split"] == self.split.name and record["condition"] == "matched"
        ]
        names = [record["id"] for record in records]
        check_same_ids(self.split.ids, names, "the manifest", str(path))
        by_id = dict(zip(names, records, strict=True))
        return [by_id[clip] for clip in self.split.ids]

    def _vectors(self, captions: Sequence[str]) -> tuple[siglip.Chunks, np.ndarray]:
        """Sentence chunks of captions, and one vector a caption ``[N, E]``."""
        pairs = self.models.scorer.caption_embeddings(list(captions))
        made = siglip.Chunks([part.numpy() for part, _ in pairs], [w.numpy() for _, w in pairs])
        return made, siglip.caption_vectors(made, None, self.split.images.shape[1])
