"""Frames of a clip as pixels: one small interface, two decoders that agree to the last bit.

decord is wrong about some clips: one whose edit list trims frames comes out shifted after a
sequential read, a mirrored one is not mirrored, more than eight bits a channel are converted
differently, some widths under 96 pixels come out scrambled, because it takes a row's padding for
channels, and one whose keyframes are recovery points is grey after a jump. What a clip is follows
from its packets (``ClipInfo.is_plain``), never from a failure, so such clips are read by PyAV under
both names and the frames do not depend on the choice. A resized frame is resized by Pillow for
both.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from siglip_study.base.errors import StudyError
from siglip_study.data.probing import (
    DAMAGE,
    ClipError,
    ClipInfo,
    describe,
    open_clip,
    probe_clip,
    probe_container,
    video_stream,
)
from siglip_study.data.sampling import frame_indices
from siglip_study.data.selective_decode import decode_sparingly

Frames = NDArray[np.uint8]


class Decoder(Protocol):
    """Reads clips on the calling thread; an instance may be used by several threads at once."""

    @property
    def name(self) -> str:
        """The exact name in the registry."""

    def probe(self, path: str | Path) -> ClipInfo:
        """Timestamps, size and length of a clip.

        Raises:
            ClipError: the clip cannot be used, and why.
        """

    def read(self, path: str | Path, n_frames: int, size: int | None = None) -> Frames:
        """``n_frames`` frames, uniform in time, upright: uint8 RGB ``[F, H, W, 3]``.

        Args:
            path: the clip.
            n_frames: how many; a shorter clip gives frames again.
            size: length of the shorter side in pixels; None: as stored.

        Raises:
            ClipError: the clip cannot be used, and why.
        """


class PyavDecoder:
    """FFmpeg through PyAV; reads every clip that FFmpeg can."""

    name = "pyav"

    def probe(self, path: str | Path) -> ClipInfo:
        """See :class:`Decoder`."""
        return probe_clip(path)

    def read(self, path: str | Path, n_frames: int, size: int | None = None) -> Frames:
        """See :class:`Decoder`."""
        container = open_clip(Path(path))
        try:
            info = probe_container(container)
            wanted = frame_indices(info.pts, n_frames, info.duration_s)
            frames = _pick_from(container, Path(path), info, [int(i) for i in wanted])
            return _resized(frames, size)
        finally:
            container.close()


class DecordDecoder:
    """decord for plain clips, PyAV for the ones that decord gets wrong (see the module)."""

    name = "decord"

    def __init__(self) -> None:
        """Raises StudyError where decord is not installed."""
        if importlib.util.find_spec("decord") is None:
            raise StudyError(
                "data.decoder is 'decord', which is not installed (it has no wheel for this "
                "platform); expected decord to be installed or data.decoder: pyav."
            )

    def probe(self, path: str | Path) -> ClipInfo:
        """See :class:`Decoder`."""
        return probe_clip(path)

    def read(self, path: str | Path, n_frames: int, size: int | None = None) -> Frames:
        """See :class:`Decoder`."""
        info = self.probe(path)
        wanted = [int(i) for i in frame_indices(info.pts, n_frames, info.duration_s)]
        if not info.is_plain:
            return _resized(_pick(Path(path), info, wanted), size)
        return _resized(_pick_with_decord(Path(path), info, wanted), size)


def _pick_with_decord(path: Path, info: ClipInfo, wanted: list[int]) -> Frames:
    import decord

    try:
        reader = decord.VideoReader(str(path.resolve()), num_threads=1)
        if len(reader) != info.n_frames:
            raise ClipError(
                f"unreadable: decord finds {len(reader)} frames where {info.n_frames} are stored"
            )
        frames: Frames = reader.get_batch(wanted).asnumpy()
    except decord.DECORDError as error:
        line = next((s for s in reversed(str(error).splitlines()) if s.strip()), "no message")
        raise ClipError(f"unreadable: decord cannot decode it ({line[-120:]})") from error
    return frames


def _pick(path: Path, info: ClipInfo, wanted: list[int]) -> Frames:
    container = open_clip(path)
    try:
        return _pick_from(container, path, info, wanted)
    finally:
        container.close()


def _pick_from(container: Any, path: Path, info: ClipInfo, wanted: list[int]) -> Frames:
    """The wanted frames of a clip that is open, upright."""
    targets = sorted({info.ticks[i] for i in wanted})
    try:
        stream = video_stream(container)
        found = decode_sparingly(container, stream, info, targets)
        if len(found) < len(targets):
            found = _decode_forward(path, info, targets)
        frames = {tick: frame.to_ndarray(format="rgb24") for tick, frame in found.items()}
    except DAMAGE as error:
        raise ClipError(f"unreadable: damaged ({describe(error)})") from error
    turned = [info.orientation.apply(frames[info.ticks[i]]) for i in wanted]
    if len({frame.shape for frame in turned}) != 1:
        raise ClipError("unreadable: the frame size changes within the clip")
    return np.stack(turned)


def _decode_forward(path: Path, info: ClipInfo, targets: list[int]) -> dict[int, Any]:
    """The plain way: every frame from the clip's start on, until the last target."""
    found: dict[int, Any] = {}
    container = open_clip(path)
    try:
        for frame in container.decode(video_stream(container)):
            if frame.pts in targets:
                found[frame.pts] = frame
            if frame.pts is not None and frame.pts >= targets[-1]:
                break
    finally:
        container.close()
    missing = next((target for target in targets if target not in found), None)
    if missing is not None:
        at = float((missing - info.ticks[0]) * info.time_base)
        raise ClipError(f"unreadable: the frame at {at:.3f} s cannot be decoded")
    return found


def check_every_frame(path: str | Path) -> ClipInfo:
    """Probe a clip and decode it from end to end.

    Damage can lie between the frames that a study samples today; a decoder may then conceal it.

    Raises:
        ClipError: the clip cannot be used, and why.
    """
    info = probe_clip(path)
    container = open_clip(Path(path))
    try:
        stream = video_stream(container)
        found = {f.pts for f in container.decode(stream) if not f.is_corrupt}
    except DAMAGE as error:
        raise ClipError(f"unreadable: damaged ({describe(error)})") from error
    finally:
        container.close()
    missing = len(set(info.ticks) - found)
    if missing:
        raise ClipError(f"unreadable: {missing} of {info.n_frames} frames cannot be decoded")
    return info


def _resized(frames: Frames, size: int | None) -> Frames:
    height, width = frames.shape[1:3]
    if size is None or min(height, width) == size:
        return frames
    from PIL import Image

    scale = size / min(height, width)
    shape = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.stack(
        [np.asarray(Image.fromarray(f).resize(shape, Image.Resampling.BICUBIC)) for f in frames]
    )


_DECODERS: dict[str, Callable[[], Decoder]] = {"decord": DecordDecoder, "pyav": PyavDecoder}


def get_decoder(name: str) -> Decoder:
    """The decoder of exactly this name.

    Raises:
        StudyError: there is none, or its library is not installed.
    """
    if name not in _DECODERS:
        known = ", ".join(_DECODERS)
        raise StudyError(f"data.decoder is '{name}'; expected one of {known}.")
    return _DECODERS[name]()
