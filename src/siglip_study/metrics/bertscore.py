"""BERTScore (Zhang et al., 2020) through the ``bert-score`` package, for a local or named model.

What the package leaves to trip over is settled here: a model it does not know needs its layer
named; a tokenizer without a length limit overflows; a folder whose path contains "t5" is taken for
T5; an empty caption raises; and rescaling silently does nothing for Korean, for which it ships no
baseline. The baseline is therefore measured: the mean F of mismatched train references.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from siglip_study.base.errors import StudyError
from siglip_study.metrics.base import PerClip, metric
from siglip_study.metrics.tokens import normalise
from siglip_study.models.hub import FETCH_HINT

BASELINE_PAIRS = 500


@metric(bounds=(None, 1), higher_is_better=True, tokens="model", chance=0.0, with_reference=True)
def bertscore_f1(
    captions: Sequence[str],
    references: Sequence[Sequence[str]],
    bertscore: BertScore,
    baseline: float,
) -> PerClip:
    """BERTScore (F − b) / (1 − b), b of mismatched train references.

    ``[N]``, 0 for what mismatched references reach and 1 for equality.
    """
    if baseline >= 1:
        raise StudyError(
            "metrics.bertscore: mismatched train references score 1; nothing to scale."
        )
    return (bertscore.f1(captions, references) - baseline) / (1 - baseline)


class BertScore:
    """A loaded model; load once, score every cell."""

    def __init__(self, model: str, num_layers: int) -> None:
        """Load the model and its tokenizer.

        Args:
            model: a local folder, or a hub id that is in the local cache.
            num_layers: hidden layer that is compared, counted from 1; 0 is the embeddings.

        Raises:
            StudyError: the folder is missing, or ``num_layers`` is not one of the model's.
        """
        self._alias: tempfile.TemporaryDirectory[str] | None = None
        self._scorer = self._load(model, num_layers)
        self.max_tokens = self._limit()

    def _load(self, model: str, num_layers: int) -> Any:
        named = model
        local = Path(model).expanduser()
        if local.is_dir():
            model = str(local.resolve())
        elif local.is_absolute() or model.startswith((".", "~")):
            raise StudyError(
                f"metrics.bertscore: no folder {model}; expected a saved transformers model."
            )
        from bert_score import BERTScorer

        try:
            _forbid_own_code(model)
            if local.is_dir():
                model = self._neutral_path(Path(model))
            return BERTScorer(
                model_type=model, num_layers=num_layers, device="cpu", use_fast_tokenizer=True
            )
        except AssertionError as error:
            raise StudyError(
                f"metrics.bertscore: {num_layers} layers of {named} cannot be used ({error})."
            ) from None
        except (OSError, ValueError) as error:
            first_line = str(error).strip().splitlines()[0]
            raise StudyError(
                f"metrics.bertscore: {named} cannot be loaded ({first_line}); "
                f"expected a local folder or a cached model; {FETCH_HINT}"
            ) from None

    def _neutral_path(self, folder: Path) -> str:
        """A path that bert-score's substring tests do not mistake for another architecture."""
        path = str(folder)
        if "t5" not in path and not path.startswith("scibert"):
            return path
        from transformers import AutoConfig

        if "t5" in AutoConfig.from_pretrained(path, trust_remote_code=False).model_type:
            return path
        # Random folder names could hold "t5" again.
        while self._alias is None or "t5" in self._alias.name:
            self._alias = tempfile.TemporaryDirectory(prefix="siglip-study-bert-")
        link = Path(self._alias.name) / "model"
        link.symlink_to(folder, target_is_directory=True)
        return str(link)

    def _limit(self) -> int:
        """Tokens the model reads at most, special ones included; set on the tokenizer."""
        tokenizer, config = self._scorer._tokenizer, self._scorer._model.config
        positions = getattr(config, "max_position_embeddings", None) or 512
        if config.model_type in {"roberta", "xlm-roberta", "camembert"}:
            # Their positions start behind the padding index.
            positions -= (config.pad_token_id or 0) + 1
        tokenizer.model_max_length = min(tokenizer.model_max_length, positions)
        return int(tokenizer.model_max_length)

    def n_truncated(self, texts: Iterable[str]) -> int:
        """How many texts are longer than the model reads."""
        filled = [text for text in map(normalise, texts) if text]
        if not filled:
            return 0
        encoded = self._scorer._tokenizer(filled, truncation=False)["input_ids"]
        return sum(len(tokens) > self.max_tokens for tokens in encoded)

    def f1(self, captions: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
        """F of each caption against its references, the best one counting: ``[N]``.

        Args:
            captions: N captions; an empty one scores 0.
            references: N lists of at least one reference that is not empty.
        """
        texts = [normalise(caption) for caption in captions]
        wanted = [[t for r in refs if (t := normalise(r))] for refs in references]
        filled = [i for i, text in enumerate(texts) if text and wanted[i]]
        f1 = np.zeros(len(texts))
        if filled:
            _, _, scores = self._scorer.score(
                [texts[i] for i in filled], [wanted[i] for i in filled]
            )
            # Rounding gives equal texts up to 1 + 1e-7.
            f1[filled] = np.minimum(scores.double().numpy(), 1.0)
        return f1

    def baseline(
        self, train_references: Sequence[Sequence[str]], pairs: int = BASELINE_PAIRS, seed: int = 0
    ) -> float:
        """Mean F of references of *different* train clips: what any two captions share.

        At most ``pairs`` pairs are drawn.

        Raises:
            StudyError: fewer than two train clips.
        """
        first = [refs[0] for refs in train_references if refs and normalise(refs[0])]
        if len(first) < 2:
            raise StudyError(
                f"metrics.bertscore: {len(first)} train references; the baseline needs two."
            )
        order = list(range(len(first)))
        random.Random(seed).shuffle(order)
        # Neighbours on a random circle: every text is used once on either side, never with itself.
        drawn = list(zip(order, order[1:] + order[:1], strict=True))[:pairs]
        return float(self.f1([first[a] for a, _ in drawn], [[first[b]] for _, b in drawn]).mean())


def _forbid_own_code(model: str) -> None:
    """Raise ValueError for a model that needs code of its own: bert-score would let it ask and run.

    bert-score passes no ``trust_remote_code``, so what it opens is opened here first, without.
    """
    from transformers import MODEL_MAPPING, AutoConfig, AutoTokenizer

    config = AutoConfig.from_pretrained(model, trust_remote_code=False)
    AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    if "AutoModel" in (getattr(config, "auto_map", None) or {}) and (
        type(config) not in MODEL_MAPPING
    ):
        raise ValueError("it needs code that it brings along, which is never run")
