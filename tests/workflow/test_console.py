"""The console, from the events that Snakemake gives it: no run is needed."""

import logging
import shutil
import sys
from types import SimpleNamespace

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from siglip_study.base.jobs import CONSOLE
from snakemake_logger_plugin_siglip import LogHandler

CAUSE = "RuleException:\nCalledProcessError in file a.smk:\nCommand 'x' died with SIGKILL."


@pytest.fixture
def console(monkeypatch, tmp_path, capsys):
    """A console, and ``told()``: the lines it printed so far."""
    monkeypatch.setenv(CONSOLE, "")  # undone with the rest of the environment
    monkeypatch.setattr(sys, "argv", ["snakemake", "--configfile", "my study.yaml"])
    printed = []

    def start(**settings):
        common = {"dryrun": False, "verbose": False, "stdout": True} | settings
        handler = LogHandler(SimpleNamespace(**common), None)

        def event(kind, level=logging.INFO, message="", **facts):
            record = logging.LogRecord("snakemake", level, "", 0, message, None, None)
            record.__dict__.update({"event": kind} if kind else {}, **facts)
            handler.handle(record)

        def job(number, does, local=True):
            facts = {"rule_msg": does, "rule_name": "stage2", "local": local}
            event(LogEvent.JOB_INFO, jobid=number, **facts)

        def fails(number, said=None):
            log = tmp_path / f"{number}.log"
            log.write_text("---- now\n" + (f"siglip-study: {said}\n" if said else ""), "utf-8")
            event(LogEvent.ERROR, logging.ERROR, CAUSE, exception="RuleException")
            event(LogEvent.JOB_ERROR, logging.ERROR, jobid=number, rule_msg=None, log=[str(log)])

        def told():
            printed.extend(capsys.readouterr().out.splitlines())
            return printed

        return SimpleNamespace(close=handler.close, event=event, job=job, fails=fails, told=told)

    return start


def test_a_job_is_a_line_and_what_surrounds_it_is_not_told(console):
    run = console()
    run.event(None, message="Building DAG of jobs...")
    run.event(LogEvent.RUN_INFO, message="Job stats:")
    run.event(None, message="Select jobs to execute...")
    run.job(1, "stage 2 of linear_1: projector and LoRA")
    run.event(LogEvent.JOB_FINISHED, message="Finished jobid: 1", job_id=1)
    run.event(LogEvent.PROGRESS, message="1 of 2 steps", done=1, total=2)
    run.event(None, logging.WARNING, "a warning")
    run.close()
    assert run.told() == ["stage 2 of linear_1: projector and LoRA", "a warning"]


def test_a_failure_ends_with_how_to_go_on_its_log_and_its_sentence(console, tmp_path):
    run = console()
    run.job(1, "stage 2 of linear_1")
    run.fails(1, "llm.model: none; expected one.")
    run.event(None, logging.ERROR, "Exiting because a job execution failed.")
    run.event(LogEvent.ERROR, logging.ERROR, "WorkflowError:\nAt least one job did not complete.")
    run.close()
    run.close()  # Snakemake, and then Python at its exit
    assert run.told() == [
        "stage 2 of linear_1",
        "",
        "The study stopped; nothing finished is lost. Once mended, it goes on with:",
        "    snakemake --configfile 'my study.yaml'",
        f"stage 2 of linear_1: failed, see {tmp_path / '1.log'}",
        "siglip-study: llm.model: none; expected one.",
    ]


def test_jobs_that_fail_alike_share_a_sentence_and_later_jobs_do_not_hide_them(console):
    run = console()
    for number in (1, 2):
        run.job(number, f"stage 2 of linear_{number}")
        run.fails(number, "no room.")
    run.job(3, "stage 2 of linear_3")
    assert run.told()[-2:] == [
        "failed: stage 2 of linear_2; more at the end",
        "stage 2 of linear_3",
    ]
    run.close()
    assert [line.split(", see")[0] for line in run.told()[-3:]] == [
        "stage 2 of linear_1: failed",
        "stage 2 of linear_2: failed",
        "siglip-study: no room.",
    ]


def test_a_killed_job_is_told_with_how_it_ended(console):
    run = console()
    run.job(1, "stage 2 of linear_1")
    run.fails(1)
    run.close()
    assert run.told()[-1] == (
        "siglip-study: it ended without a word (Command 'x' died with SIGKILL.)."
    )


def test_a_job_that_had_no_room_for_its_log_is_told_with_the_disk(console, monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=0))
    run = console()
    run.job(1, "stage 2 of linear_1")
    run.fails(1)
    run.close()
    assert run.told()[-1] == (
        f"siglip-study: the disk of {tmp_path / '1.log'} is full; expected room for "
        "logs and results."
    )


def test_a_job_that_succeeds_when_tried_again_did_not_fail_and_ends_elsewhere_are_told(console):
    run = console()
    run.job(1, "stage 2 of linear_1", local=False)
    run.fails(1, "preempted.")
    run.job(1, "stage 2 of linear_1", local=False)
    run.event(LogEvent.JOB_FINISHED, job_id=1)
    run.close()
    assert run.told()[-2:] == ["stage 2 of linear_1", "done: stage 2 of linear_1"]


def test_an_error_of_no_job_is_told(console):
    run = console()
    run.event(LogEvent.ERROR, logging.ERROR, "LockException: locked", exception="LockException")
    run.close()
    assert run.told() == ["LockException: locked"]


@pytest.mark.parametrize("setting", [{}, {"dryrun": True}])
def test_a_config_of_another_encoding_is_named(console, tmp_path, monkeypatch, setting):
    """Snakemake decodes it before the study does, and tells where in its own code it failed."""
    config = tmp_path / "mine.yaml"
    config.write_text("output_dir: 결과\n", "cp949")
    monkeypatch.setattr(sys, "argv", ["snakemake", f"--configfile={config}"])
    run = console(**setting)
    trace = "Traceback: …\nUnicodeDecodeError: 'utf-8' codec can't decode byte 0xb0"
    run.event(LogEvent.ERROR, logging.ERROR, trace, exception="UnicodeDecodeError")
    run.close()
    found = "not UTF-8 (byte 0xb0 at 12; CP949, perhaps); expected YAML saved as UTF-8."
    assert run.told() == [f"siglip-study: {config}: {found}"]


def test_where_no_job_ran_snakemake_has_the_word(console):
    run = console()
    run.event(None, message="Nothing to be done.")
    run.close()
    assert run.told() == ["Nothing to be done."]


@pytest.mark.parametrize("setting", ["dryrun", "verbose"])
def test_all_is_shown_when_asked(console, setting):
    run = console(**{setting: True})
    run.event(None, message="Select jobs to execute...")
    run.event(LogEvent.RUN_INFO, message="Job stats:")
    run.close()
    assert run.told() == ["Select jobs to execute...", "Job stats:"]
