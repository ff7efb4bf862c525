"""The shipped status command of profiles/cluster-generic, asked with a scheduler of our own."""

import subprocess
from pathlib import Path

import pytest

STATUS = Path(__file__).parents[2] / "profiles" / "cluster-generic" / "status.sh"
_TOLD = "JobId=7 JobName=snakejob UserId=me(1) JobState={} Reason=None Requeue=1"


def status(folder: Path, scontrol: str | None) -> subprocess.CompletedProcess[str]:
    """What the command says of job 7 where ``scontrol`` is this script; None: there is none."""
    (folder / "sed").symlink_to("/usr/bin/sed" if Path("/usr/bin/sed").exists() else "/bin/sed")
    if scontrol is not None:
        asked = '[ "$*" = "--oneliner show job 7" ] || exit 9'
        (folder / "scontrol").write_text(f"#!/bin/sh\n{asked}\n{scontrol}\n")
        (folder / "scontrol").chmod(0o755)
    return subprocess.run(
        ["/bin/sh", STATUS, "7"], env={"PATH": str(folder)}, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("COMPLETED", "success"),
        *((state, "running") for state in ("PENDING", "RUNNING", "COMPLETING", "SUSPENDED")),
        # Taken from a job that is then queued again by Slurm itself.
        *((state, "running") for state in ("PREEMPTED", "REQUEUED", "CONFIGURING")),
        *((state, "failed") for state in ("FAILED", "TIMEOUT", "NODE_FAIL", "CANCELLED")),
        *((state, "failed") for state in ("OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE")),
    ],
)
def test_a_state_that_the_scheduler_tells(tmp_path, state, expected):
    done = status(tmp_path, f"echo '{_TOLD.format(state)}'")
    assert (done.stdout, done.returncode) == (f"{expected}\n", 0)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ("slurm_load_jobs error: Unable to contact slurm controller (connect failure)", "running"),
        ("slurm_load_jobs error: Socket timed out on send/recv operation", "running"),
        ("slurm_load_jobs error: Invalid job id specified", "failed"),
    ],
)
def test_a_scheduler_that_does_not_answer_is_no_failure_of_the_job(tmp_path, error, expected):
    done = status(tmp_path, f"echo '{error}' >&2; exit 1")
    assert (done.stdout, done.returncode) == (f"{expected}\n", 0)


def test_a_machine_without_the_scheduler_is_told_as_that(tmp_path):
    """Snakemake ends with what it says; a job that "runs" would be waited for without end."""
    done = status(tmp_path, None)
    assert done.returncode != 0 and "no scontrol" in done.stderr and not done.stdout
