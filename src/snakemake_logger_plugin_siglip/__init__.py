"""The study's console: a line a job, a failure's sentence last.

Snakemake finds this package by its name and uses it where ``--logger siglip`` is set, as in
``profiles/``. Its own console prints some ten lines a job, and a mistake first, then a dozen lines
of what followed from it; no choice of ``--quiet`` leaves the one without the other. A dry run, and
``--verbose``, show everything: job table, reasons, files. ``.snakemake/log/`` keeps all of a run.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from logging import ERROR, WARNING, LogRecord
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from siglip_study.base.errors import StudyError
from siglip_study.base.jobs import CONSOLE, last_sentence

#: Rules whose jobs tell by themselves that they work, where they have work at all.
_TELL_THEMSELVES = {"all", "presets", "captions", "manifest", "training_may_begin"}


@dataclass(frozen=True)
class Failure:
    """A job that failed: what it was doing, its logs, and what Snakemake knows of its end."""

    what: str
    logs: tuple[str, ...]
    cause: str

    def sentence(self) -> str:
        """What the job says itself, or that it ended without a word."""
        said = [found for log in self.logs if (found := last_sentence(Path(log)))]
        if said:
            return said[-1]
        full = [log for log in self.logs if _has_no_room(Path(log).parent)]
        if full:
            return (
                f"siglip-study: the disk of {full[0]} is full; expected room for logs and results."
            )
        return f"siglip-study: it ended without a word ({self.cause})."


class LogHandler(LogHandlerBase):
    """Snakemake's events as lines; see the module."""

    def __post_init__(self) -> None:
        settings = self.common_settings
        self._shows_all = settings.dryrun or settings.verbose
        self._stream = sys.stdout if settings.stdout else sys.stderr
        self._jobs: dict[int, Any] = {}
        self._failures: dict[int, Failure] = {}
        self._untold: list[str] = []
        self._errors: list[str] = []
        self._remarks: list[str] = []
        if not self._shows_all:
            os.environ[CONSOLE] = "1"  # jobs inherit it, and leave their sentence to the end

    # Snakemake's own filter and format are used, for what --quiet names and for a dry run.
    writes_to_stream = True
    writes_to_file = False
    has_filter = False
    has_formatter = False
    needs_rulegraph = False

    def filter(self, record: LogRecord) -> bool:
        """What --quiet leaves, and every job that failed."""
        return _event(record) is LogEvent.JOB_ERROR or bool(super().filter(record))

    def emit(self, record: LogRecord) -> None:
        event = _event(record)
        failed = getattr(record, "exception", None) in _UNREAD
        if failed and (sentence := _unread_config(sys.argv)):
            self._errors.append(sentence)
        elif self._shows_all:
            if event is not LogEvent.WORKFLOW_STARTED and (text := self.format(record)):
                self._print(f"\n{text}" if event is LogEvent.JOB_INFO else text)
        elif event is LogEvent.JOB_INFO:
            self._begins(record)
        elif event is LogEvent.JOB_FINISHED:
            self._ends(getattr(record, "job_id", -1))
        elif event is LogEvent.JOB_ERROR:
            self._fails(record)
        elif record.levelno >= ERROR:
            # What follows from a job that failed is not told; what does not, is told at the end.
            self._errors.append(self.format(record))
        elif record.levelno >= WARNING:
            self._print(self.format(record))
        elif event is None and not self._jobs:
            self._remarks.append(self.format(record))

    def _begins(self, record: Any) -> None:
        self._jobs[record.jobid] = record
        for what in self._untold:
            self._print(f"failed: {what}; more at the end")
        self._untold.clear()
        self._tell("", record)

    def _ends(self, job: int) -> None:
        """Of jobs elsewhere, whose own lines do not come here, the end is told as well."""
        self._failures.pop(job, None)  # tried again, with success
        begun = self._jobs.get(job)
        if begun is not None and not begun.local:
            self._tell("done: ", begun)

    def _tell(self, prefix: str, record: Any) -> None:
        if record.rule_name not in _TELL_THEMSELVES:
            self._print(prefix + _what(record))

    def _fails(self, record: Any) -> None:
        what = _what(self._jobs.get(record.jobid, record))
        cause = self._errors[-1].strip().splitlines()[-1] if self._errors else "no exit status"
        self._errors.clear()
        self._failures[record.jobid] = Failure(what, tuple(record.log), cause)
        self._untold.append(what)

    def close(self) -> None:
        """Say how to go on and, last, why the study stopped. Called once more at exit."""
        if not self._jobs:
            # Nothing to be done, or another command (--unlock, --lint): Snakemake's own words.
            for text in self._remarks:
                self._print(text)
        if self._failures:
            same: dict[str, list[Failure]] = {}
            for failure in self._failures.values():
                same.setdefault(failure.sentence(), []).append(failure)
            self._print(
                "\nThe study stopped; nothing finished is lost. Once mended, it goes on with:\n"
                f"    {_command(sys.argv)}"
            )
            for sentence, failures in same.items():
                for failure in failures:
                    self._print(f"{failure.what}: failed, see {', '.join(failure.logs)}")
                self._print(sentence)
        else:
            for text in self._errors:
                self._print(text)
        for kept in (self._failures, self._errors, self._remarks):
            kept.clear()
        super().close()

    def _print(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


def _has_no_room(folder: Path) -> bool:
    return folder.is_dir() and shutil.disk_usage(folder).free < 2**20


def _event(record: LogRecord) -> LogEvent | None:
    return getattr(record, "event", None)


def _what(record: Any) -> str:
    """What a job does, in the words of its rule."""
    return str(getattr(record, "rule_msg", None) or record.rule_name)


#: What Snakemake ends with on a config of another encoding, a number or a nesting past all limits.
_UNREAD = (UnicodeDecodeError.__name__, ValueError.__name__, RecursionError.__name__)


def _unread_config(argv: list[str]) -> str | None:
    """What is wrong with the config that Snakemake, which reads it first, could not read.

    Snakemake itself names no file, only where it was in its own code.
    """
    from siglip_study.config import load

    for path in [*(Path(word.rpartition("=")[2]) for word in argv[1:]), Path("config/config.yaml")]:
        if path.suffix in (".yaml", ".yml") and path.is_file():
            try:
                load(path)
            except StudyError as error:
                return f"siglip-study: {error}"
    return None


def _command(argv: list[str]) -> str:
    """The command as it was typed, ready to be typed again."""
    program = Path(argv[0])
    called = ["python", "-m", "snakemake"] if program.name == "__main__.py" else [argv[0]]
    return shlex.join([*called, *argv[1:]])
