"""Why a clip cannot be used; apart from what reads clips, which needs a video library."""

from __future__ import annotations


class ClipError(Exception):
    """A clip cannot be used; the message is the reason, ``kind: detail``."""
