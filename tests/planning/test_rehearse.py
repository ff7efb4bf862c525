"""The whole rehearsal: timed at micro size on the CPU, estimated for the full study."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.pages import arguments, documented

from siglip_study.base.errors import StudyError
from siglip_study.base.io import read_json
from siglip_study.config import load
from siglip_study.models import devices
from siglip_study.planning.estimate import Cost, Disk, Row
from siglip_study.planning.measure import measured
from siglip_study.planning.rehearse import problems, rehearse
from siglip_study.planning.workload import Assumptions
from siglip_study.training.step import PassTooLarge

ROOT = Path(__file__).parents[2]
PARTS = {"features", "scorer images", "scorer texts", "stage 1", "stage 2", "validation"}
PARTS |= {"quick captions", "captions", "conditions", "loading"}


@pytest.fixture
def one_thread(monkeypatch):
    """Threads of a test machine's other jobs would be waited for."""
    monkeypatch.setattr(devices.torch, "set_num_threads", lambda n: None)
    torch.set_num_threads(1)


def test_a_micro_study_is_timed_on_the_cpu(study, models, tmp_path, one_thread):
    # Sizes, image settings and the tokenizer are all that a rehearsal opens.
    for path in models.glob("*/model.safetensors"):
        path.unlink()
    config = study()
    found = rehearse(config)
    assert {row.part for row in found.rows} == PARTS | {"all else"}
    timed = [row for row in found.rows if row.part not in ("loading", "all else")]
    assert all(row.measured is not None and row.measured.seconds > 0 for row in timed)
    assert all(row.units > 0 for row in found.rows)
    assert found.problems == [] and found.hours > 0
    assert found.disk.models == 0  # local folders are fetched from nowhere
    # Two projectors and the blind control, each in both stages.
    assert sum(row.part.startswith("stage") for row in found.rows) == 6
    found.write(tmp_path / "out")
    told = (tmp_path / "out" / "rehearsal.txt").read_text(encoding="utf-8")
    assert "this machine's CPU: measured with random weights" in told
    assert "as the demo will make them" in told and "Everything fits." in told
    assert re.search(r"Hours are a job's; \d+ at a time on this machine: about \d+ min", told)
    written = read_json(tmp_path / "out" / "rehearsal.json", "rehearsal/2")
    assert written["hours"] == pytest.approx(found.hours)
    assert len(written["rows"]) == len(found.rows)


def test_the_full_study_is_estimated_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = load(ROOT / "config" / "published.yaml")
    found = rehearse(config)
    text = found.text()
    assert {row.part for row in found.rows} == PARTS
    assert all(row.measured is None and row.estimated is not None for row in found.rows)
    assert "no GPU here, so estimated from FLOPs and bytes" in text
    assert "865 train, 97 held_out: assumed" in text
    steps = {(r.part, r.shape.split(",")[0]): r for r in found.rows}
    # 16 clips at 60 % of 989 TFLOP/s; measured on an H200: 4 × 1.1 to 1.3 s.
    assert steps["stage 2", "linear"].estimated.seconds == pytest.approx(4.6, rel=0.15)
    assert steps["stage 2", "query_abstractor"].estimated.seconds < 1
    # 962 clips of 9.4 MB.
    assert found.disk.features == 962 * 9_437_184
    assert found.disk.models == pytest.approx(22e9, rel=0.05)
    assert any("12 GB" in line and "does not fit" in line for line in found.elsewhere)
    slow = rehearse(config, Assumptions(gpu="rtx3090"))
    assert slow.hours > 5 * found.hours
    short = rehearse(config, Assumptions(train=100, held_out=10, caption_tokens=100))
    assert short.hours < found.hours / 4


def test_the_readmes_hours_of_the_full_study_are_the_rehearsals(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = rehearse(load(ROOT / "config" / "study.yaml"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for gpu in ("A100 80 GB", "RTX 4090"):
        (line,) = (line for line in found.elsewhere if gpu in line)
        assert f"| {gpu} | {line.split()[-2]} |" in readme


def test_what_does_not_fit_is_said():
    rows = [Row("stage 2", "linear", "step", 1, measured=Cost(None, 12.0, "does not fit"))]
    found = problems(rows, Disk(10**12, 0, 0, 0), 10**9, "results")
    assert found[0] == "stage 2, linear: does not fit"
    assert "1e+03 GB will be written and 1 GB are free" in found[1]


def test_running_out_of_memory_is_a_finding():
    def fail(error):
        raise error

    cpu = torch.device("cpu")
    for error in (torch.OutOfMemoryError("no room"), PassTooLarge("no room", is_own=True)):
        found = measured(cpu, lambda error=error: fail(error))
        assert found.seconds is None and "does not fit" in found.problem
    with pytest.raises(StudyError):
        measured(cpu, lambda: fail(StudyError("something else")))


def test_the_command_works_without_snakemake_and_tables(tmp_path):
    program = (
        "import sys\n"
        "for name in ('polars', 'snakemake', 'decord', 'av', 'evaluate', 'kiwipiepy'):\n"
        "    sys.modules[name] = None\n"
        "from siglip_study.planning import measure\n"
        "from siglip_study.planning.__main__ import main\n"
        "raise SystemExit(main(sys.argv[1:]))\n"
    )
    line = documented(
        ".venv/bin/python -m siglip_study.planning config/mine.yaml --gpu rtx4090 --train 5000"
        " --held-out 400 --caption-tokens 200",
        {"config/mine.yaml": ROOT / "config/study.yaml"},
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments(line), "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Rehearsal on" in done.stdout and "5000 train, 400 held_out" in done.stdout
    assert json.loads((tmp_path / "rehearsal.json").read_text("utf-8"))["schema"] == "rehearsal/2"


def test_a_rehearsed_step_can_be_held_against_the_trainer_s(study, one_thread):
    from benchmarks.rehearsed_step import rehearsed_and_trained

    rehearsed, trained = rehearsed_and_trained(study(), "linear", 2, 3)
    # How near they are is for a quiet machine to say: `python -m benchmarks.rehearsed_step`.
    assert rehearsed is not None and rehearsed > 0 and math.isfinite(trained)
