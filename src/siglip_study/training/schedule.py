"""Learning rate by optimizer step, and the seeds that make every step repeatable."""

from __future__ import annotations

import hashlib
import math


def lr_factor(step: int, total: int, warmup_ratio: float, floor: float) -> float:
    """Linear warm-up, then cosine to ``floor``; counted in optimizer steps.

    Args:
        step: optimizer step, 0 ≤ step < total.
        total: optimizer steps of the stage.
        warmup_ratio: share of the steps spent rising; the last warm-up step reaches 1.
        floor: value of the last step, as a share of the peak.

    Returns:
        A factor in [0, 1]. The last step of a schedule longer than its warm-up has ``floor``.
    """
    warmup = math.ceil(total * warmup_ratio)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup + 1) / max(total - warmup, 1)
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * progress))


def derived_seed(*parts: object) -> int:
    """A 63-bit seed from named parts, stable across processes and Python versions.

    Every random draw of a run comes from such a seed, so nothing depends on how often a generator
    was used before: a resumed run needs no generator state to repeat the undisturbed one.
    """
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
