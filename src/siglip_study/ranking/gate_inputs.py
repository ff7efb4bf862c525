"""What the gate is given: its thresholds, the human captions' figures, and a projector's."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from siglip_study.base.errors import StudyError


@dataclass(frozen=True)
class GateThresholds:
    """Thresholds of the gate; the config's ``gate`` section has the same names.

    Attributes:
        min_effective_ratio: below this share of the references' effective captions: low diversity.
        top_share_floor: a top cluster over this share is low diversity, if also over …
        top_share_ratio: … this multiple of the references' top share.
        templated_reference: references under this effective value switch the diversity test off.
        ungrounded_ratio: upper bound of D under this share of the references' D: ungrounded.
        within_category: grounded asks for D within category too, where the references pass.
        alpha: level of the one-sided bounds.
    """

    min_effective_ratio: float = 0.5
    top_share_floor: float = 0.10
    top_share_ratio: float = 2.0
    templated_reference: float = 0.2
    ungrounded_ratio: float = 0.1
    within_category: bool = True
    alpha: float = 0.05

    def __post_init__(self) -> None:
        # At a level of 1 every caption would be grounded, whatever its D.
        if not 0 < self.alpha < 0.5:
            raise StudyError(f"gate.alpha is {self.alpha}; expected more than 0, less than 0.5.")


@dataclass(frozen=True)
class References:
    """The human captions: effective captions in (0, 1], top cluster share, mean D.

    ``within`` is their D within category, one a source video ``[G]``, NaN where a video has none;
    ``None`` where no clip has a category.
    """

    effective: float
    top_share: float
    mean_margin: float
    within: ArrayLike | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        # Comparisons with NaN are false: diversity would be neither low nor off.
        for name in ("effective", "top_share"):
            value, word = getattr(self, name), name.replace("_", " ")
            if not 0 <= value <= 1:
                raise StudyError(f"the human captions' {word} is {value}; expected 0 to 1.")
        if not np.isfinite(self.mean_margin):
            raise StudyError(
                f"the human captions' mean D is {self.mean_margin}; expected a number."
            )


@dataclass(frozen=True)
class Candidate:
    """What the gate sees of one projector.

    ``effective`` and ``top_share`` are one value a seed, ``margins`` is D as ``[S, G]``, and
    ``within`` is D within category likewise, NaN where a source video has none.
    """

    effective: ArrayLike
    top_share: ArrayLike
    margins: ArrayLike
    within: ArrayLike | None = field(default=None, compare=False)
