"""Score the captioners of one split with the models that its scores need, each loaded once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from siglip_study.base.io import atomic_path, read_json
from siglip_study.config.study import BertScoreConfig, RuntimeConfig, ScorerConfig
from siglip_study.metrics import grounding, morphemes, siglip
from siglip_study.metrics.ids import check_same_ids
from siglip_study.metrics.tokens import morphemes_by_sentence, tokenizer_for
from siglip_study.scoring.cell_scores import REFERENCES, Captioner, Embedded, Split, write_scores

if TYPE_CHECKING:
    from siglip_study.features.scorer import Scorer
    from siglip_study.metrics.bertscore import BertScore


# ---- The metrics of many captioners, several at once, each in a process of its own.
#
# Only what needs no model is done there: this process goes on embedding captions meanwhile. The
# processes are joblib's, which do not run the calling script again, as those of ``multiprocessing``
# would do with a job's script.

#: Captions below which other processes, which take seconds to start, save no time.
WORTHWHILE = 20_000
#: Captioners embedded ahead of each process: 20 MB each for 1,000 clips.
AHEAD = 2

_split: Split | None = None


def write_in_processes(split: Split, captioners: Iterable[Embedded], processes: int) -> None:
    """Write the scores of each captioner.

    Args:
        split: with the references' values.
        captioners: embedded one after the other, as processes come free.
        processes: how many, each with one thread.
    """
    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky import get_reusable_executor

    texts = [text for refs in (*split.references, *split.train) for text in refs]
    known = morphemes_by_sentence(texts) if split.language == "ko" else {}
    with parallel_config(
        "loky", inner_max_num_threads=1, initializer=_take, initargs=(split, known)
    ):
        # Arrays go through the pipe: joblib's files of them would stay until the last captioner.
        pool = Parallel(n_jobs=processes, pre_dispatch=(1 + AHEAD) * processes, max_nbytes=None)
        try:
            pool(delayed(_write)(made) for made in captioners)
        finally:
            # joblib would keep them waiting for more.
            get_reusable_executor(reuse=True).shutdown()


def _take(split: Split, known: Mapping[str, Sequence[str]]) -> None:
    """Keep what all captioners of the split share, the analysed references among it."""
    global _split
    _split = split
    morphemes.use(morphemes.Morphemes(known=known))


def _write(made: Embedded) -> None:
    assert _split is not None
    write_scores(_split, made)


@dataclass(frozen=True)
class ScoreSettings:
    """What scoring depends on besides its inputs."""

    scorer: ScorerConfig
    bertscore: BertScoreConfig | None
    language: str
    version: int
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
            from siglip_study.features.scorer import Scorer
            from siglip_study.models.devices import pick_device

            device = pick_device(self.settings.runtime.device)
            self._scorer = Scorer.from_config(self.settings.scorer, device)
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


def _write_matrix(path: Path, matrix: np.ndarray) -> None:
    from safetensors.numpy import save_file

    with atomic_path(path) as partial:
        save_file({"matrix": np.ascontiguousarray(matrix)}, partial)
