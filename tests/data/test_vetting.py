import io
import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from siglip_study.base.errors import ClipError
from siglip_study.data import vetting, vetting_processes
from siglip_study.data.clips import ClipFile
from siglip_study.data.vetting import vet
from siglip_study.data.vetting_processes import VetProcess, vet_clips

# A worker that dies on one clip, hangs on another and works long on a third, as decoders may; its
# first word comes late, since it imports nothing.
FAKE = """
import json, os, sys, time
for line in sys.stdin:
    asked = json.loads(line)
    name = asked["path"]
    if name == "crash" or name == asked["decoder"]: os.abort()
    if name == "hang": sys.stdin.read()
    if name == "long":
        for _ in range(8):
            print(0.6, flush=True)
            time.sleep(0.15)
    print(json.dumps([{"pid": os.getpid()} for _ in asked["segments"]]), flush=True)
"""


def fake(no_progress_s: float = 30.0) -> VetProcess:
    process = VetProcess([2], no_progress_s)
    process.command = [sys.executable, "-c", FAKE]
    return process


def test_a_crash_costs_one_clip():
    process = fake()
    before = process.vet(Path("good"))[0]["pid"]
    assert process.vet(Path("good"))[0]["pid"] == before
    assert "crashed (exit status -6)" in process.vet(Path("crash"))[0]["reason"]
    assert process.vet(Path("good"))[0]["pid"] != before
    process.close()
    process.close()


def test_a_worker_that_is_killed_from_outside_costs_no_clip():
    process = fake()
    pid = process.vet(Path("good"))[0]["pid"]
    os.kill(pid, signal.SIGKILL)
    assert process.vet(Path("good"))[0]["pid"] != pid
    process.close()


def test_a_hang_costs_one_clip():
    process = fake(no_progress_s=0.3)
    reason = "unreadable: the decoder hung, no progress for 0.3 s"
    assert process.vet(Path("hang"), [(0, 1), (1, 2)]) == 2 * [{"reason": reason}]
    process.no_progress_s = 30.0
    assert "pid" in process.vet(Path("good"))[0]
    process.close()


def test_a_clip_may_take_as_long_as_it_makes_progress():
    """More than any one of its limits: each word sets a new one."""
    process = fake()
    assert "pid" in process.vet(Path("long"))[0]
    process.close()


def test_what_crashes_decord_is_read_without_it():
    process = fake()
    assert "pid" in process.vet(Path("decord"), decoder="decord")[0]
    process.close()


def test_answers_keep_the_order_of_the_clips(clips):
    names = ["plain", "one", "vfr", "one", "trimmed"]
    answers = vet_clips([ClipFile(clips[name]) for name in names], "pyav", [4], 3)
    assert [answer["n_frames"] for answer in answers] == [30, 1, 30, 1, 27]
    assert vet_clips([], "pyav", [4], 3) == []


def test_segments_are_clips_of_their_own(clips):
    spans = [(0.0, 0.5), (0.51, None), (3.0, 4.0)]
    parts = [ClipFile(clips["plain"], *span) for span in spans]
    first, second, outside = vet_clips(parts, "pyav", [4], 1)
    assert (first["n_frames"], first["duration_s"]) == (15, 0.5)
    assert (second["n_frames"], second["duration_s"]) == (15, pytest.approx(0.49))
    assert first["sha256"] == second["sha256"]
    assert outside["reason"].startswith("outside: the segment is 3 to 4 s of a file of 1 s")


def test_the_worker_answers_line_by_line(clips, broken, monkeypatch, capfd):
    asked = [
        {"path": str(path), "segments": [[None, None]], "decoder": "pyav"}
        for path in (clips["plain"], broken["text"][0])
    ]
    lines = "".join(json.dumps(one) + "\n" for one in asked)
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    kept = os.dup(1)
    try:
        vetting_processes.main([2])
    finally:
        os.dup2(kept, 1)
        os.close(kept)
    told = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    # Numbers are seconds until there will be word again.
    assert min(answer for answer in told if not isinstance(answer, list)) >= 1.0
    good, bad = (answer for answer in told if isinstance(answer, list))
    assert good == vet(clips["plain"], [(None, None)], "pyav", [2])
    assert bad[0]["reason"].startswith("unreadable: ")


# ---- How a clip is read.


def reading(path: Path, decoder: str) -> str:
    (found,) = vet(path, [(None, None)], decoder, [4, 8])
    return str(found["reading"])


@pytest.mark.parametrize(
    ("kind", "decoder", "expected"),
    [
        ("plain", "pyav", "packets"),
        ("plain", "decord", "decord"),
        ("clockwise", "decord", "decord"),
        ("mirrored", "decord", "packets"),  # decord is not asked
        ("trimmed", "decord", "packets"),
        ("trimmed_b", "pyav", "packets"),
    ],
)
def test_the_quickest_way_that_is_right(clips, kind, decoder, expected):
    assert reading(clips[kind], decoder) == expected


@pytest.mark.parametrize(
    ("wrong", "expected"), [(["decord"], "packets"), (["decord", "packets"], "whole")]
)
def test_a_way_that_gives_other_frames_is_not_taken(clips, monkeypatch, wrong, expected):
    def read(clip: ClipFile, n: int) -> np.ndarray:
        frames = vetting_reads(clip, n)
        if clip.reading in wrong:
            frames[-1, 0, 0, 0] ^= 1
        return frames

    vetting_reads = vetting.read_frames
    monkeypatch.setattr(vetting, "read_frames", read)
    assert reading(clips["plain"], "decord") == expected


def test_a_way_that_fails_is_not_taken(clips, monkeypatch):
    def read(clip: ClipFile, n: int) -> np.ndarray:
        raise ClipError("unreadable: decord finds 29 frames where 30 are stored")

    monkeypatch.setattr(vetting, "read_frames", read)
    assert reading(clips["plain"], "decord") == "whole"
