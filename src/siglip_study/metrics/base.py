"""What a metric says about itself: the decorator from which columns, tables and docs are made.

A metric is a function of data that it asks for by the names of its parameters (:data:`INPUTS`). It
returns one value a clip (``[N]``, NaN where undefined for that clip) or, if it is declared with
``per_clip=False``, one value of all captions.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from siglip_study.base.errors import StudyError

#: ``[texts]`` tokens of each text.
TokenLists = Sequence[Sequence[str]]
#: ``[clips][references of the clip]`` tokens.
ReferenceTokens = Sequence[TokenLists]
PerClip = np.ndarray
Function = TypeVar("Function", bound=Callable[..., Any])

#: What a metric can ask for by the name of a parameter; N clips, in one order throughout.
INPUTS: dict[str, str] = {
    "captions": "N captions: token lists of the kind in `tokens`; texts where that is None",
    "references": "N lists of human captions, as tokens or texts alike",
    "train": "the same of each train clip",
    "ids": "N clip ids",
    "category": "N categories; None for a clip of none, or of one with fewer than three clips",
    "others": "for each clip, the positions of clips that its caption is compared with",
    "cluster": "`[N]` number of each caption's cluster of near-duplicates",
    "empty": "`[N]` bool: captions that say nothing",
    "truncated": "`[N]` bool: captions that ran into the token budget",
    "similarity": "S `[N captions, N clips]`: the scorer's cosines, own clips on the diagonal",
    "temperature": "of a softmax over S, fitted on references of other clips",
    "vectors": "`[N, E]` one embedding a caption",
    "centre": "`[E]` mean of the references' embeddings",
    "bertscore": "a loaded BERTScore model",
    "baseline": "BERTScore of references with other clips' references",
}
TOKENS = ("content", "all", "characters", "words", "model", None)


class Undefined(StudyError):
    """A metric has no value for these captions; the sentence says why."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric's function and what it says about itself.

    Attributes:
        name: the function's own: key of ``metrics.json``, column of ``clips.parquet`` and tables.
        function: see :data:`INPUTS`.
        description: first line of the docstring, one sentence for the report.
        min_value: least value that can occur; None if unbounded.
        max_value: greatest value that can occur; None if unbounded.
        higher_is_better: None where neither direction is good (a length ratio).
        tokens: which tokens it reads: ``"content"``, ``"all"``, ``"characters"``, ``"words"``,
            ``"model"`` (a model's own), or None if it reads none.
        version: raised whenever the same captions would score differently.
        unit: unit of the value, ``"1"`` for a pure number.
        per_clip: whether the function returns a value a clip.
        chance: value of a captioner that knows nothing, or a function of inputs that gives it.
        with_reference: it compares a caption with its clip's reference, which the references
            themselves cannot be.
        least_clips: fewer have no value.
        beside_scorer: computed where the scorer's model is loaded, and handed to the scoring.
    """

    name: str
    function: Callable[..., Any]
    description: str
    min_value: float | None
    max_value: float | None
    higher_is_better: bool | None
    tokens: str | None = None
    version: str = "1"
    unit: str = "1"
    per_clip: bool = True
    chance: float | Callable[..., float] | None = None
    with_reference: bool = False
    least_clips: int = 1
    beside_scorer: bool = False

    @property
    def within_category(self) -> bool:
        """Whether a caption is compared with clips of its own category only."""
        return "category" in parameters(self.function)

    @property
    def is_share(self) -> bool:
        """Whether a clip's value is in [0, 1]: then the mean has Wilson's interval."""
        return (self.min_value, self.max_value) == (0, 1)

    def as_json(self, tokenizer: str | None) -> dict[str, Any]:
        """The metadata that ``metrics/1`` stores, with the tokenizer under its full name."""
        return {
            "version": self.version,
            "unit": self.unit,
            "min": self.min_value,
            "max": self.max_value,
            "higher_is_better": self.higher_is_better,
            "tokenizer": tokenizer,
        }

    def within_range(self, low: float, high: float) -> tuple[float, float]:
        """Bounds of an interval, which does not know that a share ends at 1, kept in the range."""
        low = low if self.min_value is None or np.isnan(low) else max(low, self.min_value)
        high = high if self.max_value is None or np.isnan(high) else min(high, self.max_value)
        return low, high


#: Every metric by its name, in the order of tables; whole once the package is imported.
METRICS: dict[str, Metric] = {}


def metric(
    *, bounds: tuple[float | None, float | None], **declared: Any
) -> Callable[[Function], Function]:
    """Make a function a metric under its own name; the report quotes its docstring's first line.

    ``bounds`` are the least and greatest value, ``declared`` further attributes of :class:`Metric`.

    Raises:
        StudyError: it asks for something that is not in :data:`INPUTS` or for unknown tokens, has
            no docstring, or another file has a metric of that name.
    """

    def register(function: Function) -> Function:
        name = function.__name__
        if not function.__doc__:
            raise StudyError(f"metric {name} has no docstring; the report quotes its first line.")
        made = Metric(
            name=name,
            function=function,
            description=function.__doc__.partition("\n")[0].strip(),
            min_value=bounds[0],
            max_value=bounds[1],
            **declared,
        )
        chance = parameters(made.chance) if callable(made.chance) else ()
        unknown = [one for one in (*parameters(function), *chance) if one not in INPUTS]
        if unknown and not made.beside_scorer:
            raise StudyError(
                f"metric {name} asks for {unknown[0]!r}; expected one of {', '.join(INPUTS)}."
            )
        if made.tokens not in TOKENS:
            raise StudyError(f"metric {name} has tokens={made.tokens!r}; expected one of {TOKENS}.")
        known = METRICS.get(name)
        if known is not None and known.function.__module__ != function.__module__:
            raise StudyError(
                f"metric {name} is in {known.function.__module__} and in {function.__module__}; "
                "expected one function of that name."
            )
        METRICS[name] = made
        return function

    return register


def metric_versions() -> str:
    """Every metric with its version: what scores are made again for."""
    return ", ".join(f"{name} {known.version}" for name, known in METRICS.items())


def parameters(function: Callable[..., Any]) -> tuple[str, ...]:
    """Names of a function's parameters."""
    return tuple(inspect.signature(function).parameters)


def frozen(lists: Sequence[Any], depth: int) -> tuple[Any, ...]:
    """Nested lists as tuples, which can be keys of a cache: 2 deep for token lists."""
    if depth == 1:
        return tuple(lists)
    return tuple(frozen(one, depth - 1) for one in lists)
