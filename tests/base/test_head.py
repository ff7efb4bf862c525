"""Who leads a study, what a dead head leaves, and what a job asks before it begins."""

import fcntl
import os
import re
import shutil
import signal
import threading
from contextlib import ExitStack

import pytest

from siglip_study.base import head
from siglip_study.base.errors import StudyError
from siglip_study.base.head import StartedWith, begin, follow, following, held_alone, take_lead

HERE = os.uname().nodename


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Folders of a study and of Snakemake's locks; this process leads nothing before and after."""
    lead, exits = ExitStack(), ExitStack()
    monkeypatch.setattr(head, "_lead", lead)
    monkeypatch.setattr(head.atexit, "register", exits.callback)
    for variable in ("SIGLIP_STUDY_HEAD", "SIGLIP_STUDY_RECORD"):
        monkeypatch.setenv(variable, "")  # undone with the rest of the environment
        monkeypatch.delenv(variable)
    code = tmp_path / "code"
    for folder in (code, tmp_path / "locks", tmp_path / "results/.resume"):
        folder.mkdir(parents=True)
    (code / "a.py").write_text("A = 1\n")
    (tmp_path / "locks/0.output.lock").write_text(f"{tmp_path}/results/report.html\n")
    (tmp_path / "locks/1.output.lock").write_text(f"{tmp_path}/results2/report.html\n")
    yield tmp_path
    lead.close()
    exits.close()


def lead(study):
    return take_lead(study / "results/.resume", study / "locks")


def locks(study):
    return sorted(path.name for path in (study / "locks").iterdir())


def started_with(study, **config):
    return StartedWith.now(config, [study / "code"])


# ---- Locks


def test_a_second_holder_is_refused_in_one_sentence(tmp_path):
    path = tmp_path / "a.lock"
    sentence = rf"process {os.getpid()} on {HERE} is working; expected [^\n]+\.$"
    with held_alone(path, "working"), pytest.raises(StudyError, match=sentence):
        held_alone(path, "working", patience_s=0).__enter__()
    with held_alone(path, "working", patience_s=0):
        pass
    assert not path.exists()


def test_a_holder_that_ends_is_waited_for(tmp_path):
    path, held, order = tmp_path / "a.lock", threading.Event(), []

    def first():
        with held_alone(path, "working"):
            held.set()
            order.append(1)

    thread = threading.Thread(target=first)
    thread.start()
    held.wait()
    with held_alone(path, "working", patience_s=60):
        order.append(2)
    thread.join()
    assert order == [1, 2]


def test_a_file_system_without_locks_is_told_and_used(tmp_path, monkeypatch, caplog):
    def flock(file, operation):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    with held_alone(tmp_path / "a.lock", "working"):
        assert "locks no files (Function not implemented)" in caplog.text


# ---- The head


def test_locks_that_no_living_head_can_have_made_go_and_those_of_another_study_stay(study):
    assert lead(study) is None
    assert locks(study) == ["1.output.lock"]


def test_nobody_leads_beside_a_living_head(study, monkeypatch):
    assert lead(study) is None
    (study / "locks/0.output.lock").write_text(f"{study}/results/report.html\n")
    monkeypatch.setattr(head, "_lead", ExitStack())
    assert f"process {os.getpid()} on {HERE} is running this study" in lead(study)
    assert locks(study) == ["0.output.lock", "1.output.lock"]


def test_what_a_head_of_another_host_left_is_left_to_the_user(study):
    record = study / "results/.resume/head.json"
    begin(record, started_with(study))
    record.write_text(record.read_text().replace(HERE, "login2"))
    assert "a run on login2 did not end well" in lead(study)
    assert locks(study) == ["0.output.lock", "1.output.lock"]
    (study / "locks/0.output.lock").unlink()  # --unlock
    assert lead(study) is None


def test_a_living_head_is_seen_where_the_disk_locks_no_files(study, monkeypatch):
    def flock(file, operation):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    record = study / "results/.resume/head.json"
    begin(record, started_with(study))
    other = head._name(os.getppid())  # a process that lives
    record.write_text(record.read_text().replace(os.environ["SIGLIP_STUDY_HEAD"], other))
    assert f"process {os.getppid()} on {HERE} is running this study" in lead(study)
    assert locks(study) == ["0.output.lock", "1.output.lock"]


def test_an_output_folder_that_cannot_be_written_is_told(study):
    shutil.rmtree(study / "results")
    (study / "results").write_text("notes")
    sentence = r"results/\.resume: cannot be written \(.+\); expected output_dir to be [^\n]+\.$"
    assert re.search(sentence, lead(study))
    with pytest.raises(StudyError, match=r"head\.json: cannot be written"):
        begin(study / "results/.resume/head.json", started_with(study))


# ---- Jobs


def test_a_job_begins_with_the_code_and_config_that_its_head_has(study):
    record = study / "head.json"
    begin(record, started_with(study, grid=1))
    follow(record, started_with(study, grid=1))
    with following():
        pass


def test_other_code_is_refused(study):
    record = study / "head.json"
    begin(record, started_with(study))
    (study / "code/a.py").write_text("A = 2\n")
    sentence = r"^the code of this study has changed since it was started; expected [^\n]+\.$"
    with pytest.raises(StudyError, match=sentence):
        following().__enter__()
    with pytest.raises(StudyError, match=sentence):
        follow(record, started_with(study))


@pytest.mark.parametrize("edited", ["my_projector.py", "rules/Snakefile"])
def test_code_of_ones_own_and_rules_are_code_too(study, edited):
    (study / "rules").mkdir()
    for name in ("my_projector.py", "rules/Snakefile"):
        (study / name).write_text("A = 1\n")
    sources = [study / "my_projector.py", study / "rules"]
    begin(study / "head.json", StartedWith.now({}, sources))
    (study / edited).write_text("A = 2\n")
    with pytest.raises(StudyError, match="the code of this study has changed"):
        following().__enter__()


def test_a_job_whose_head_has_ended_is_refused(study):
    record = study / "head.json"
    begin(record, started_with(study))
    record.unlink()
    sentence = r"head\.json: gone, so the run that started this job has ended; expected [^\n]+\.$"
    with pytest.raises(StudyError, match=sentence):
        following().__enter__()
    with pytest.raises(StudyError, match=sentence):
        follow(record, started_with(study))


def test_another_config_is_refused(study):
    record = study / "head.json"
    begin(record, started_with(study, grid=1))
    with pytest.raises(StudyError, match="the config of this study has changed"):
        follow(record, started_with(study, grid=2))


def test_a_job_of_a_head_that_was_followed_by_another_is_refused(study, monkeypatch):
    record = study / "head.json"
    begin(record, started_with(study))
    monkeypatch.setenv("SIGLIP_STUDY_HEAD", "1:1:login2")
    with pytest.raises(StudyError, match="another run has begun since this job was started"):
        follow(record, started_with(study))


@pytest.mark.parametrize("loss", ["its record is gone", "another has taken its place"])
def test_a_job_ends_with_its_head(study, start_script, loss):
    record = study / "head.json"
    begin(record, started_with(study))
    body = "import time\nfrom siglip_study.base.head import following\n"
    job = start_script(body + "with following():\n    print(flush=True)\n    time.sleep(600)\n")
    job.stdout.readline()
    if loss == "its record is gone":
        record.unlink()
    else:
        record.write_text(
            record.read_text().replace(f'"process": "{os.getpid()}:', '"process": "1:')
        )
    job.communicate(timeout=60)
    assert job.returncode == -signal.SIGKILL


GIVE_UP = """
import sys
from pathlib import Path
from siglip_study.base.io import remove_dir
sys.stdin.readline()
for folder in sys.argv[1:]:
    remove_dir(Path(folder))
"""


def test_jobs_may_give_up_one_folder_together(tmp_path, start_script):
    folders = [tmp_path / f"resume/{i}" for i in range(60)]
    for folder in folders:
        (folder / "step-1").mkdir(parents=True)
        (folder / "step-1/state.json").touch()
    jobs = [start_script(GIVE_UP, *map(str, folders)) for _ in range(4)]
    for job in jobs:
        job.stdin.write("\n")
        job.stdin.flush()
    assert [job.communicate()[1] for job in jobs] == [""] * 4
    assert not list((tmp_path / "resume").iterdir())
