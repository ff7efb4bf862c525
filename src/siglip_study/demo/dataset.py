"""The demo's data set: scenes as H.264 clips with Korean captions, in AI-Hub's layout."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import av
import numpy as np

from siglip_study.base.errors import StudyError
from siglip_study.base.head import end_with_parent
from siglip_study.base.io import atomic_path, write_json
from siglip_study.demo.captions import caption
from siglip_study.demo.render import render_frames
from siglip_study.demo.world import ATTRIBUTES, Scene, category, facts, sample_scene
from siglip_study.study.cells import SPLITS

FACTS_SCHEMA = "facts/1"
LABEL_SCHEMA = "label/1"
#: Side of the square frames in pixels, frames a second, seconds of the shortest and longest clip.
SIDE, FPS, SECONDS = 96, 8, (2.0, 4.0)
#: Candidates drawn per clip, of which the one with the rarest values is taken.
_CANDIDATES = 16
#: Far fewer than the 12,800 fact tuples of the clips, none of which is used twice.
MAX_CLIPS = 5000


@dataclass(frozen=True)
class Clip:
    """One clip before it is written."""

    id: str
    split: str
    scene: Scene
    caption: str
    n_frames: int


def _balanced_scenes(n: int, used: set[tuple[str, ...]], rng: np.random.Generator) -> list[Scene]:
    """``n`` scenes whose attribute values are about equally frequent; adds their facts to used."""
    seen: dict[str, Counter[str]] = {attribute: Counter() for attribute in ATTRIBUTES}

    def crowding(scene: Scene) -> float:
        # Counts are scaled by the number of values, so that attributes weigh alike.
        return sum(seen[a][v] * len(ATTRIBUTES[a]) for a, v in facts(scene).items())

    scenes: list[Scene] = []
    while len(scenes) < n:
        drawn = [sample_scene(rng, "clips") for _ in range(_CANDIDATES)]
        fresh = [scene for scene in drawn if tuple(facts(scene).values()) not in used]
        if not fresh:
            continue
        scene = min(fresh, key=crowding)
        for attribute, value in facts(scene).items():
            seen[attribute][value] += 1
        used.add(tuple(facts(scene).values()))
        scenes.append(scene)
    return scenes


def plan_dataset(sizes: dict[str, int], seed: int) -> list[Clip]:
    """The clips of a data set, without rendering; no two share a fact tuple.

    ``sizes`` are clips of each split, which are drawn in the order of :data:`SPLITS`; ``seed``
    decides scenes, captions and durations.

    Raises:
        StudyError: a split is unknown, a size negative, or the clips are too many for the world.
    """
    for split, size in sizes.items():
        if split not in SPLITS or size < 0:
            raise StudyError(f"demo.{split} is {size}; expected a number of clips in {SPLITS}.")
    if sum(sizes.values()) > MAX_CLIPS:
        raise StudyError(
            f"demo asks for {sum(sizes.values())} clips; expected at most {MAX_CLIPS}, since no"
            " two clips may show the same facts."
        )
    rng = np.random.default_rng(seed)
    used: set[tuple[str, ...]] = set()
    clips = []
    for split in SPLITS:
        for i, scene in enumerate(_balanced_scenes(sizes.get(split, 0), used, rng)):
            n_frames = round(FPS * float(rng.uniform(*SECONDS)))
            text = caption(scene, rng, style="clips")
            clips.append(Clip(f"{split}_{i:04d}", split, scene, text, n_frames))
    return clips


def _write_video(path: Path, frames: np.ndarray) -> None:
    """Encode uint8 [F, H, W, 3] RGB frames as H.264 in mp4 (yuv420p); whole or not at all."""
    with atomic_path(path) as partial, av.open(str(partial), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        # With several threads the bits depend on how many cores there are. With its lookahead,
        # which "zerolatency" switches off, x264 reads past the edges of pictures this small, and
        # the bits depend on what lay in memory.
        repeatable = {"tune": "zerolatency", "threads": "1"}
        stream.options = {"crf": "18", "preset": "veryfast", **repeatable}
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def _label(clip: Clip) -> dict[str, Any]:
    size = {"width": SIDE, "height": SIDE, "fps": FPS, "frames": clip.n_frames}
    return {
        "info": {"filename": f"{clip.id}.mp4", **size},
        "annotation": {"description_kr": clip.caption, "language": "ko"},
        "meta": {"source": f"scene_{clip.id}", "category": category(clip.scene)},
    }


def _write_clip(root: Path, clip: Clip) -> None:
    frames = render_frames(clip.scene, clip.n_frames, SIDE)
    _write_video(root / clip.split / "videos" / f"{clip.id}.mp4", frames)
    write_json(root / clip.split / "labels" / f"{clip.id}.json", _label(clip), LABEL_SCHEMA)


def write_dataset(root: Path, sizes: dict[str, int], seed: int, processes: int = 2) -> None:
    """Write ``<split>/videos/<id>.mp4``, ``<split>/labels/<id>.json`` and ``facts.json``.

    ``facts.json`` (schema ``facts/1``: id → facts) stands outside the labels, so that no reader of
    the layout can see the answers; it is written last, and its presence means that all is there.

    ``sizes`` and ``seed`` are those of :func:`plan_dataset`, whose errors are raised; the same seed
    gives the same labels and the same frames, in however many ``processes``.
    """
    clips = plan_dataset(sizes, seed)
    own = {clip.id for clip in clips}
    for split in SPLITS:
        for left in (root / split).glob("*/[!.]*"):  # of an earlier demo of more clips
            if left.stem not in own:
                left.unlink(missing_ok=True)
    # Forked, so that a job's script is not run again; threads would wait for each other in Python.
    fork = get_context("fork")
    with ProcessPoolExecutor(processes, fork, end_with_parent) as pool:
        list(pool.map(partial(_write_clip, root), clips, chunksize=8))
    write_json(root / "facts.json", {clip.id: facts(clip.scene) for clip in clips}, FACTS_SCHEMA)
