import io
import json
import os
import sys
from pathlib import Path

from siglip_study.data import vetting
from siglip_study.data.decoding import Decoder
from siglip_study.data.vetting import VetProcess, vet_clips

# A worker that dies on one clip and hangs on another, as a decoder may on garbage.
FAKE = """
import json, os, sys
for line in sys.stdin:
    name = json.loads(line)
    if name == "crash": os.abort()
    if name == "hang": sys.stdin.read()
    print(json.dumps({"pid": os.getpid()}), flush=True)
"""


def fake(timeout_s: float = 30.0) -> VetProcess:
    process = VetProcess("pyav", 2, timeout_s)
    process.command = [sys.executable, "-c", FAKE]
    return process


def test_a_crash_costs_one_clip():
    process = fake()
    before = process.vet(Path("good"))["pid"]
    assert process.vet(Path("good"))["pid"] == before
    assert "crashed (exit status -6)" in process.vet(Path("crash"))["reason"]
    assert process.vet(Path("good"))["pid"] != before
    process.close()
    process.close()


def test_a_hang_costs_one_clip():
    process = fake(timeout_s=0.3)
    assert process.vet(Path("hang"))["reason"] == "unreadable: the decoder hung for 0.3 s"
    process.timeout_s = 30.0
    assert "pid" in process.vet(Path("good"))
    process.close()


def test_answers_keep_the_order_of_the_clips(clips):
    names = ["plain", "one", "vfr", "one", "trimmed"]
    answers = vet_clips([clips[name] for name in names], "pyav", 4, 3)
    assert [answer["n_frames"] for answer in answers] == [30, 1, 30, 1, 27]
    assert vet_clips([], "pyav", 4, 3) == []


def test_the_worker_answers_line_by_line(clips, broken, monkeypatch, capfd):
    lines = "".join(json.dumps(str(p)) + "\n" for p in (clips["plain"], broken["text"][0]))
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    kept = os.dup(1)
    try:
        vetting.main("pyav", 2)
    finally:
        os.dup2(kept, 1)
        os.close(kept)
    good, bad = (json.loads(line) for line in capfd.readouterr().out.splitlines())
    assert good == vetting.vet(clips["plain"], Decoder("pyav"), 2)
    assert bad["reason"].startswith("unreadable: ")
