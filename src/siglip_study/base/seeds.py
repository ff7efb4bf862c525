"""Seeds from names, so that every random draw of a run can be repeated by itself."""

from __future__ import annotations

import hashlib


def derived_seed(*parts: object) -> int:
    """A 63-bit seed from named parts, stable across processes and Python versions.

    Every random draw of a run comes from such a seed, so nothing depends on how often a generator
    was used before: a resumed run needs no generator state to repeat the undisturbed one.
    """
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
