"""Untrusted text inside a page: JSON islands, inline scripts, and the policy that holds them."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Iterable
from typing import Any

# Every character that could end the script element, open a comment, or (in old parsers) a line.
_ESCAPES = {
    ord("<"): "\\u003c",
    ord(">"): "\\u003e",
    ord("&"): "\\u0026",
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}


def json_island(obj: Any) -> str:
    """JSON that is inert inside ``<script type="application/json">`` and parses back to ``obj``.

    Floats that JSON cannot hold become null.
    """
    text = json.dumps(_finite(obj), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # A lone surrogate cannot be encoded as UTF-8; JSON can still spell it.
    text = re.sub("[\ud800-\udfff]", lambda m: f"\\u{ord(m.group()):04x}", text)
    return text.translate(_ESCAPES)


def inline_script(source: str) -> str:
    """Trusted script text that no HTML parser can take for the end of its element."""
    return re.sub(r"<(?=/script|!--|script)", r"\\x3c", source, flags=re.IGNORECASE)


def content_policy(scripts: Iterable[str]) -> str:
    """Content-Security-Policy that lets the page's own scripts run and nothing reach the network.

    Scripts are allowed by hash alone, so text that slipped into the page would still not run, and
    ``eval`` stays forbidden: charts use Vega's expression interpreter. Styles need
    ``'unsafe-inline'`` because Vega sets style attributes on the elements that it draws.
    """
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for text in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; "
        "img-src data:; font-src data:; base-uri 'none'; form-action 'none'"
    )


def _finite(obj: Any) -> Any:
    if isinstance(obj, float):
        return obj if math.isfinite(obj) else None
    if isinstance(obj, dict):
        return {str(key): _finite(value) for key, value in obj.items()}
    if isinstance(obj, list | tuple):
        return [_finite(value) for value in obj]
    return obj
