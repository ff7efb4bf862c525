"""Scripts run one after the other in a process that is kept, each as it would by itself."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are told by Linux's")

SCRIPT = """
import os, sys, time
from siglip_study.base import kept
kept.run_in_kept_process({keep}, ["json"])
{body}
"""


@pytest.fixture
def run(start_script, monkeypatch):
    """Start a script of a body below this process, the workflow's head."""
    from siglip_study.base.head import mark_head

    monkeypatch.setenv("SIGLIP_STUDY_HEAD", "")  # undone with the rest of the environment
    mark_head()

    def start(body: str, *arguments: str, keep: float = 3, **variables: str) -> subprocess.Popen:
        return start_script(SCRIPT.format(keep=keep, body=body), *arguments, **variables)

    return start


def ends(pid: int) -> bool:
    """Wait until a process is gone; whether it went."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            told = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return True
        if told.rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


PID = "print(os.getpid(), flush=True)"


def test_it_has_the_callers_arguments_streams_folder_and_status(run, tmp_path):
    body = (
        "print(sys.argv[1:], os.getcwd(), os.environ['COLOUR'], sys.stdin.read());"
        "print('beside', file=sys.stderr); sys.exit(7)"
    )
    job = run(body, "a", "b c", COLOUR="red")
    out, beside = job.communicate("given")
    assert out.strip() == f"['a', 'b c'] {tmp_path} red given"
    assert (beside.strip(), job.returncode) == ("beside", 7)


def test_jobs_run_in_one_process_which_is_none_of_theirs(run):
    jobs, told = [], []
    for _ in range(2):
        jobs.append(run(PID))
        told.append(jobs[-1].communicate()[0])
    assert told[0] == told[1] and int(told[0]) not in {job.pid for job in jobs}


def test_what_is_kept_is_there_for_the_next_job(run):
    run("from siglip_study.base import kept; kept.mine = 1").communicate()
    found = run("print(kept.mine, kept.is_kept())").communicate()[0]
    assert found == "1 True\n"


def test_variables_of_a_job_are_its_own(run):
    """But for what libraries read when they are imported: the GPU that a first job took stays."""
    run("os.environ |= {'MADE': '1', 'CUDA_MADE': '1'}", GIVEN="1").communicate()
    asked = "print(*(os.environ.get(name) for name in ('GIVEN', 'MADE', 'CUDA_MADE')))"
    assert run(asked).communicate()[0] == "None None 1\n"
    assert run(asked, GIVEN="2").communicate()[0] == "2 None 1\n"


@pytest.mark.parametrize(
    ("keep", "head"), [(0, None), (3, ""), (3, f"{2**22}:1")], ids=["no time", "none", "elsewhere"]
)
def test_nothing_is_kept(run, keep, head):
    """A head that is no ancestor, as on a node of a cluster."""
    job = run(PID, keep=keep, **({} if head is None else {"SIGLIP_STUDY_HEAD": head}))
    assert int(job.communicate()[0]) == job.pid


def test_jobs_at_the_same_time_have_a_process_each(run):
    one, two = run(PID + "; sys.stdin.read()"), run(PID + "; sys.stdin.read()")
    assert one.stdout.readline() != two.stdout.readline()
    for job in (one, two):
        job.communicate("")
        assert job.returncode == 0


def test_a_killed_job_takes_the_process_along_and_the_next_one_starts_another(run):
    job = run(PID + "; time.sleep(600)")
    first = int(job.stdout.readline())
    job.kill()
    job.communicate()
    assert int(run(PID).communicate()[0]) != first
    assert ends(first)


def test_a_process_that_is_killed_fails_its_job_in_a_sentence(run):
    job = run("import signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert "start the study again to continue" in job.communicate()[1]
    assert job.returncode == 1


def test_a_job_that_fails_ends_the_process(run):
    job = run(PID + "; 1 / 0")
    out, beside = job.communicate()
    assert "ZeroDivisionError" in beside and job.returncode == 1
    assert ends(int(out))


def test_it_ends_when_idle(run):
    assert ends(int(run(PID, keep=0.2).communicate()[0]))


def test_it_ends_with_the_workflow(run, tmp_path):
    """The head is a process between this one and the job."""
    script = tmp_path / "job.py"
    script.write_text(SCRIPT.format(keep=600, body=PID), "utf-8")
    head = f"""
import subprocess, sys
from siglip_study.base.head import mark_head
mark_head()
subprocess.run([sys.executable, {str(script)!r}], check=True)
"""
    package = str(Path(__file__).parents[2] / "src")
    env = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": package}
    env.pop("SIGLIP_STUDY_HEAD")
    done = subprocess.run([sys.executable, "-c", head], env=env, capture_output=True, text=True)
    assert ends(int(done.stdout))


def test_it_ends_when_what_it_holds_is_wanted(run, tmp_path):
    flag = tmp_path / "wanted"
    body = f"from pathlib import Path; kept.given_up_if(Path({str(flag)!r}).exists); " + PID
    process = int(run(body, keep=600).communicate()[0])
    flag.touch()
    assert ends(process)


def test_the_next_job_waits_until_all_is_tidy(run, tmp_path):
    run(f"kept.tidied_by(lambda: open({str(tmp_path / 'tidy')!r}, 'w').close())").communicate()
    assert run(f"print(os.path.exists({str(tmp_path / 'tidy')!r}))").communicate()[0] == "True\n"


# ---- A GPU that a kept process holds: somebody else's as soon as it is asked for.

#: Takes all GPUs, under locks of this test's own, and more than half of the memory of one.
TAKE = """
import os, torch
from pathlib import Path
from siglip_study.models import devices
os.environ.pop("SIGLIP_STUDY_GPUS_TAKEN", None)
devices.FOLDER = Path({locks!r})
device = devices.pick_device("cuda", len(devices.gpus_of_machine()))
total = torch.cuda.mem_get_info(device)[1]
taken = torch.empty(total * 6 // 10, dtype=torch.uint8, device="cuda")
"""


@pytest.mark.gpu
@pytest.mark.parametrize("keep", [600, 0.2], ids=["wanted", "idle"])
def test_a_gpu_is_let_go_with_all_that_lies_on_it(run, start_script, tmp_path, keep):
    take = TAKE.format(locks=str(tmp_path / "locks"))
    out, beside = run(f"{take}\nkept.mine = taken\n{PID}", keep=keep).communicate()
    assert out, beside
    other = start_script(take)
    assert (other.communicate(timeout=120)[1], other.returncode) == ("", 0)
    assert ends(int(out))
