"""A script that hands itself over runs in a fork as it would by itself."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks are Linux's")

SCRIPT = """
import os, sys, time
from siglip_study.base import forkserver
forkserver.run_in_fork({keep}, ["json"])
{body}
"""


@pytest.fixture
def run(start_script):
    """Start a script of a body with a server of its own."""

    def start(body: str, *arguments: str, keep: float = 3, **variables: str) -> subprocess.Popen:
        return start_script(SCRIPT.format(keep=keep, body=body), *arguments, **variables)

    return start


def test_it_has_the_callers_arguments_streams_folder_and_status(run, tmp_path):
    body = (
        "print(sys.argv[1:], os.getcwd(), os.environ['COLOUR'], sys.stdin.read());"
        "print('beside', file=sys.stderr); sys.exit(7)"
    )
    job = run(body, "a", "b c", COLOUR="red")
    out, beside = job.communicate("given")
    assert out.strip() == f"['a', 'b c'] {tmp_path} red given"
    assert (beside.strip(), job.returncode) == ("beside", 7)


def test_jobs_share_a_parent_that_is_none_of_them(run):
    told = [run("print(os.getppid())").communicate()[0] for _ in range(2)]
    assert told[0] == told[1] != str(os.getpid())


def test_a_server_that_was_started_ahead_is_the_one_that_jobs_find(run, tmp_path):
    run("forkserver.import_ahead(10, ['json'])", keep=0).communicate()
    [place] = tmp_path.glob("siglip-study-*/*.sock")
    server = place.stat().st_ino
    assert run("print('ran')").communicate()[0] == "ran\n"
    assert place.stat().st_ino == server


def test_without_time_to_keep_the_script_runs_by_itself(run):
    job = run("print(os.getpid())", keep=0)
    assert job.communicate()[0].strip() == str(job.pid)


def test_what_one_job_changes_no_other_sees(run):
    assert run("import json; json.mine = 1; print('set')").communicate()[0] == "set\n"
    assert run("import json; print(hasattr(json, 'mine'))").communicate()[0] == "False\n"


def test_an_exception_ends_with_its_traceback_and_status_1(run):
    job = run("1 / 0")
    assert "ZeroDivisionError" in job.communicate()[1]
    assert job.returncode == 1


def test_a_fork_that_is_killed_ends_its_job_by_the_same_signal(run):
    job = run("import signal; os.kill(os.getpid(), signal.SIGKILL)")
    job.communicate()
    assert job.returncode == -signal.SIGKILL


def test_a_killed_job_takes_its_fork_along_before_another_begins(run):
    job = run("print(os.getpid(), flush=True); time.sleep(600)")
    fork = int(job.stdout.readline())
    job.kill()
    job.communicate()
    assert run("print('next')").communicate()[0] == "next\n"
    with pytest.raises(ProcessLookupError):
        os.kill(fork, 0)


def test_changed_variables_of_a_library_get_a_server_of_their_own(run):
    one = run("print(os.getppid(), os.environ.get('OMP_NUM_THREADS'))", OMP_NUM_THREADS="1")
    two = run("print(os.getppid(), os.environ.get('OMP_NUM_THREADS'))", OMP_NUM_THREADS="2")
    (first, n), (second, m) = (job.communicate()[0].split() for job in (one, two))
    assert first != second and (n, m) == ("1", "2")


def test_jobs_that_start_together_find_one_server(run):
    jobs = [run("print(os.getppid())") for _ in range(5)]
    assert len({job.communicate()[0] for job in jobs}) == 1


def test_an_idle_server_ends_and_the_next_job_starts_another(run):
    server = int(run("print(os.getppid())", keep=0.2).communicate()[0])
    until = time.monotonic() + 60
    while Path(f"/proc/{server}").exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not Path(f"/proc/{server}").exists()
    assert int(run("print(os.getppid())", keep=0.2).communicate()[0]) != server


def test_a_folder_that_others_can_enter_is_refused(run, tmp_path):
    (tmp_path / f"siglip-study-{os.getuid()}").mkdir(mode=0o755)
    (tmp_path / f"siglip-study-{os.getuid()}").chmod(0o755)
    assert "expected nobody else to enter it" in run("print(1)").communicate()[1]
