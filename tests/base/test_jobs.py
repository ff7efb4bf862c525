"""A user's mistake is one sentence; a defect keeps its traceback. As in a real process."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from siglip_study.base.errors import is_lost_gpu
from siglip_study.base.io import write_digest, write_json
from siglip_study.base.jobs import CONSOLE, last_sentence
from tools.fault_campaign import flip, wait


def run(tmp_path, body, **env):
    """How a job of this body ended, and its log without the line that begins each life."""
    code = (
        "import logging\nfrom siglip_study.base.errors import StudyError\n"
        f"from siglip_study.base.jobs import job\nwith job({str(tmp_path / 'logs' / 'a.log')!r}):\n"
        + "".join(f"    {line}\n" for line in body.splitlines())
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **env}
    )
    log = (tmp_path / "logs" / "a.log").read_text(encoding="utf-8")
    return done, re.sub(r"^---- [\d-]{10} [\d:]{8}\n", "", log, flags=re.M)


def test_a_mistake_is_one_sentence_and_exit_code_1(tmp_path):
    done, log = run(tmp_path, "raise StudyError('llm.model: 없음; expected one.')")
    sentence = "siglip-study: llm.model: 없음; expected one.\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", sentence)
    assert log == sentence


def test_a_defect_keeps_its_traceback_on_the_terminal_and_in_the_log(tmp_path):
    done, log = run(tmp_path, "{}['gone']")
    assert done.returncode == 1
    for text in (done.stderr, log):
        assert "Traceback" in text and "KeyError: 'gone'" in text


def test_under_a_console_the_terminal_is_left_alone_and_the_log_ends_in_the_sentence(tmp_path):
    for body, sentence in (
        ("raise StudyError('llm.model: 없음;\\nexpected one.')", "llm.model: 없음; expected one."),
        (
            "{}['gone']",
            "KeyError: 'gone' (a defect or an interruption; the traceback is in the log).",
        ),
    ):
        done, log = run(tmp_path, body, **{CONSOLE: "1"})
        assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
        assert log.splitlines()[-1] == f"siglip-study: {sentence}"
        assert last_sentence(tmp_path / "logs" / "a.log") == f"siglip-study: {sentence}"
    assert "Traceback" in log


def test_a_sentence_of_an_earlier_life_is_not_the_last(tmp_path):
    run(tmp_path, "raise StudyError('old.')")
    run(tmp_path, "import os\nos._exit(9)")
    assert last_sentence(tmp_path / "logs" / "a.log") is None
    assert last_sentence(Path("no.log")) is None


def test_a_gpu_without_room_is_one_sentence_and_a_traceback_in_the_log_alone(tmp_path):
    body = (
        "import torch\n"
        "raise torch.OutOfMemoryError('CUDA out of memory. Tried 9 GiB. GPU 0 has 8 GiB.\\nTry')"
    )
    done, log = run(tmp_path, body)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("siglip-study: a found no room in the GPU's memory (CUDA out of")
    for said in (
        "GPU 0 has 8 GiB.)",
        *("runtime.memory_gb", "runtime.checkpointing", "captions.batch_size"),
        "runtime.encode_batch_clips",
    ):
        assert said in done.stderr
    assert "Traceback" in log and log.endswith(done.stderr)


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        ("OSError(28, 'No space left on device')", "found no room on a disk ([Errno 28] No"),
        ("RuntimeError('IoError: Disk quota exceeded')", "found no room on a disk (IoError: D"),
        ("RuntimeError('Invalid thrift: transport error')", "found no room on a disk (Invalid th"),
        ("RuntimeError('CUDA error: unspecified launch failure')", "lost its GPU (CUDA error: u"),
        ("RuntimeError('No CUDA GPUs are available')", "lost its GPU (No CUDA GPUs are"),
        ("RuntimeError('NCCL Error 2: unhandled system error')", "lost its GPU (NCCL Error 2: un"),
        ("RuntimeError('Unable to determine the device handle for GPU0')", "lost its GPU (Unable"),
    ],
)
def test_what_no_config_mends_is_told_as_such(tmp_path, raised, said):
    done, log = run(tmp_path, f"raise {raised}")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith(f"siglip-study: a {said}") and "Traceback" in log


@pytest.mark.parametrize(
    "told",
    [
        "CUDA error: an illegal memory access was encountered",
        "CUDA error: invalid device ordinal",
        "NCCL Error 1: unhandled cuda error\nLast error:\nCuda failure 2 'out of memory'",
        "NCCL Error 2: unhandled system error\nLast error:\nshm: No space left on device",
    ],
)
def test_what_a_config_or_the_code_may_mend_is_no_lost_gpu(told):
    assert not is_lost_gpu(RuntimeError(told))


def test_a_log_without_room_leaves_the_sentence_to_the_terminal():
    code = "from siglip_study.base.jobs import job\nwith job('/dev/full'): pass"
    env = {**os.environ, CONSOLE: "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith("siglip-study: full found no room on a disk")


def test_outputs_have_digests_and_what_is_damaged_is_set_aside_for_the_next_run(tmp_path):
    made, page = tmp_path / "made.json", tmp_path / "page.html"
    code = (
        "from pathlib import Path\nfrom siglip_study.base.io import read_json, write_json\n"
        f"from siglip_study.base.jobs import job\nmade, page = {str(made)!r}, {str(page)!r}\n"
        f"with job({str(tmp_path / 'a.log')!r}, [made, page]):\n"
        "    if Path(made).with_name('cut').exists():\n"
        "        Path(made).write_text('{')\n        read_json(made, 'name/1')\n"
        "    write_json(made, {'x': 1}, 'name/1')\n    Path(page).write_text('')\n"
    )
    for status in (0, 1):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == status
        (tmp_path / "cut").touch()
        page.unlink(missing_ok=True)  # as Snakemake does before a job
    aside = tmp_path / ".made.json.damaged"
    assert done.stderr == (
        f"siglip-study: {made}: damaged; expected what was written, and the same command makes it "
        f"anew; what was found lies in {aside} now.\n"
    )
    assert {path.name for path in tmp_path.iterdir()} == {"a.log", "cut", aside.name}


def test_an_input_that_no_line_of_the_job_reads_is_held_against_its_digest(tmp_path):
    index = tmp_path / "index.json"
    write_json(index, {"x": 1}, "name/1")
    write_digest(index)
    code = (
        "from siglip_study.base.jobs import job\n"
        f"with job({str(tmp_path / 'a.log')!r}, [], [{str(index)!r}, 'folder']): pass"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    flip(index)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"siglip-study: {index}: damaged; expected what was written")


#: Makes its output on a line of standard input; what it does is in its log.
MAKES = """
import sys
from siglip_study.base.jobs import job
with job("logs/a.log", ["made.json"]):
    print("at work")
    sys.stdin.readline()
    open("made.json", "w").write("{}")
"""


def both_at_once(tmp_path, start_script):
    """Two processes of one job, of which the first is at work and the second has begun."""
    log = tmp_path / "logs/a.log"
    first = start_script(MAKES)
    wait(lambda: log.is_file() and "at work" in log.read_text("utf-8"))
    second = start_script(MAKES)
    wait(lambda: log.read_text("utf-8").count("---- ") == 2)
    return first, second


def test_a_second_process_of_a_job_leaves_what_the_first_has_made(tmp_path, start_script):
    first, second = both_at_once(tmp_path, start_script)
    first.communicate("\n")
    made = (tmp_path / "made.json").stat()
    second.communicate("\n")
    assert (first.returncode, second.returncode) == (0, 0)
    assert (tmp_path / "made.json").stat().st_mtime_ns == made.st_mtime_ns
    log = (tmp_path / "logs/a.log").read_text("utf-8")
    assert log.count("at work") == 1
    assert log.endswith("done: another process of this job has made what it makes\n")


def test_a_second_process_of_a_job_does_it_if_the_first_is_killed(tmp_path, start_script):
    first, second = both_at_once(tmp_path, start_script)
    first.kill()
    first.communicate()
    second.communicate("\n")
    assert second.returncode == 0
    assert (tmp_path / "made.json").read_text() == "{}"
    assert (tmp_path / "logs/a.log").read_text("utf-8").count("at work") == 2


def test_a_second_process_of_a_long_job_is_refused_and_no_lock_stays(tmp_path, start_script):
    first, second = both_at_once(tmp_path, start_script)
    second.kill()
    second.communicate()
    at_once = "jobs.held_alone = partial(jobs.held_alone, patience_s=0)\n"
    imports = "from functools import partial\nfrom siglip_study.base import jobs\n"
    _, said = start_script(imports + at_once + MAKES).communicate("\n")
    assert re.fullmatch(
        rf"siglip-study: logs/a\.lock: process {first.pid} on {os.uname().nodename} is doing this "
        r"job; expected it to end before another starts\.\n",
        said,
    )
    first.communicate("\n")
    assert {path.name for path in (tmp_path / "logs").iterdir()} == {"a.log"}


def test_chatter_and_details_go_to_the_log_and_progress_to_both(tmp_path):
    body = (
        "import sys\nprint('chatter')\nprint('warning', file=sys.stderr)\n"
        "log = logging.getLogger('siglip_study.training.stages')\n"
        "log.debug('details')\nlog.info('epoch 1')"
    )
    done, log = run(tmp_path, body)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "epoch 1\n")
    for text in ("chatter", "warning", "details", "epoch 1"):
        assert text in log


def test_a_second_run_adds_to_the_log_and_leaving_early_is_not_a_success(tmp_path):
    run(tmp_path, "print('first')")
    done, log = run(tmp_path, "raise SystemExit(3)")
    assert done.returncode == 3 and "first" in log


def test_threads_soon_wait_asleep_unless_the_user_says_otherwise(tmp_path, monkeypatch):
    body = (
        "import os, sys\nassert 'torch' not in sys.modules\n"
        "logging.getLogger('siglip_study').info(os.environ.get('GOMP_SPINCOUNT'))"
    )
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    assert run(tmp_path, body)[0].stderr == "20000\n"
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    assert run(tmp_path, body)[0].stderr == "7\n"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    assert run(tmp_path, body)[0].stderr == "None\n"
