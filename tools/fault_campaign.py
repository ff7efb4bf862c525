"""Kill, damage and starve a small study, run through Snakemake as a user would; ask what is left.

    python -m tools.fault_campaign --kills 100 --damages 60 --twice --full-disk

*Kills*: while a job of each rule runs, its process or the head of the study is killed with -9.
*Damages*: an artefact is cut, emptied, deleted, has one bit turned (size and time kept), or holds
another's bytes, before a job that reads it. *Twice*: a job's process is started once more while it
works. *Full disk* (as root): the disk under ``results/`` fills as a job begins, but for so many
pages. Then the same command is given again, and nothing else, until it ends well; what results hold
must then be what they hold in a study that was left alone, and a further run must find nothing to
do; else the command's exit status is 1. Takes an hour on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import yaml

from siglip_study.base.errors import StudyError
from siglip_study.base.jobs import exit_status

_ROOT = Path(__file__).parents[1]
#: What of this repository a study needs beside the library.
PARTS = ("Snakefile", "config", "profiles", "workflow", "report", "resources", "environment.yml")
#: Keys of clocks, and of digests of files that have some.
_CLOCKS = re.compile(
    r"^(inputs|git_commit)$|(^|_)(s|seconds|date|created|hours|versions|min|busy|memory_gib)($|_)|per_s"
)
#: Where a rule and its script have different names.
_SCRIPTS = {"select": "select_cells"}
#: Of a job that Snakemake does not measure.
_QUICK_S = 0.3
T = TypeVar("T")


def wait(condition: Callable[[], T], seconds: float = 300) -> T:
    """Wait until a condition holds; its value.

    Raises:
        StudyError: it did not for so long.
    """
    until = time.monotonic() + seconds
    while not (met := condition()):
        if time.monotonic() > until:
            raise StudyError(f"nothing happened for {seconds:g} s; expected what was waited for.")
        time.sleep(0.02)
    return met


def job_processes(folder: Path, rule: str = "", head: int = 0) -> list[int]:
    """Processes of a rule's script, or of any, in this folder; those below a head, if one is named.

    For a moment there are others: jobs outlive a head that is killed by a second.
    """
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            inside = (entry / "cwd").resolve() == folder
        except OSError:
            continue  # it ended while we looked
        script = f".{_SCRIPTS.get(rule, rule)}.py" if rule else ""
        scripts = [word for word in words[1:] if "/scripts/" in word and script in word]
        if inside and scripts and "python" in words[0] and head in (0, *_above(int(entry.name))):
            found.append(int(entry.name))
    return found


def _above(process: int) -> Iterator[int]:
    """The processes that it descends from."""
    with suppress(OSError):
        while process > 1:
            told = Path(f"/proc/{process}/stat").read_text("utf-8", errors="replace")
            process = int(told.rpartition(")")[2].split()[1])
            yield process


@dataclass(frozen=True)
class Fault:
    """What befell the study, and how it ended."""

    kind: str
    place: str  # a rule, or an artefact
    how: str
    refused: int = 0  # how often the same command ended in a sentence before all was well
    wrong: tuple[str, ...] = ()  # results that are not those of the undisturbed study
    said: str = ""  # the last of those sentences


class Study:
    """A copy of the workflow with a config of its own, in a folder of its own."""

    def __init__(self, folder: Path, targets: Sequence[str] = ()) -> None:
        # One after the other in one folder: some results tell where they were made.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.folder, self.results, self.targets = folder.resolve(), folder / "results", targets
        for part in PARTS:
            copy = shutil.copytree if (_ROOT / part).is_dir() else shutil.copy2
            copy(_ROOT / part, folder / part)
        config = yaml.safe_load((_ROOT / "tests/workflow/two_cells.yaml").read_text("utf-8"))
        config["projectors"].pop("query_abstractor")
        config["demo"] |= {"train": 12, "selection": 6, "report": 6}
        config["training"] |= {"quick_clips": 2}
        config["runtime"]["keep_loaded_s"] = 600  # through all laps
        for stage in ("stage1", "stage2"):
            config[stage]["batch_size"] = 4
        (folder / "config/campaign.yaml").write_text(yaml.safe_dump(config), "utf-8")
        self.said = folder / "said.txt"

    def start(self, *flags: str) -> subprocess.Popen[bytes]:
        words = "-m snakemake --cores 2 --resources gpu=1 --configfile config/campaign.yaml"
        env = os.environ | {"PYTHONPATH": str(_ROOT / "src"), "HF_HUB_OFFLINE": "1"}
        with self.said.open("w") as said:
            return subprocess.Popen(
                [sys.executable, *words.split(), *flags, "--", *self.targets],
                cwd=self.folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
            )

    def sentence(self) -> str:
        """What the last run ended with.

        Raises:
            StudyError: a traceback is among it.
        """
        text = self.said.read_text("utf-8")
        if "Traceback" in text:
            raise StudyError(f"{self.folder}: it ended in a traceback: {text[-3000:]}")
        return text.splitlines()[-1] if text else ""

    def finish(self, tries: int = 1) -> int:
        """Give the command until it ends well; how often it did not.

        Raises:
            StudyError: it never did.
        """
        for refused in range(tries):
            if self.start().wait() == 0:
                return refused
        raise StudyError(f"{self.folder}: {self.said.read_text('utf-8')[-3000:]}")

    def facts(self) -> dict[str, Any]:
        """Every result by its file's name, but for clocks and what is drawn for people."""
        found: dict[str, Any] = {}
        for path in sorted(self.results.rglob("*")):
            name = path.relative_to(self.results).as_posix()
            drawn = ("logs/", "benchmarks/", "report", "figures/", "data/digests")
            hidden = any(part.startswith(".") for part in Path(name).parts)
            unread = path.suffix in (".csv", ".tex", ".svg")
            if path.is_file() and not hidden and not unread and not name.startswith(drawn):
                found[name] = _content(path)
        return found


def _content(path: Path) -> Any:
    """What a file holds, without clocks; the bytes of one that is damaged."""
    import polars as pl

    with suppress(ValueError, pl.exceptions.PolarsError, pl.exceptions.PanicException):
        if path.suffix == ".json":
            return _timeless(json.loads(path.read_text("utf-8")))
        if path.suffix == ".parquet":
            return _timeless(pl.read_parquet(path).to_dicts())
        if path.suffix == ".safetensors":
            # The names in a header come in any order.
            data = path.read_bytes()
            size = int.from_bytes(data[:8], "little")
            return json.loads(data[8 : 8 + size]), data[8 + size :]
    return path.read_bytes()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        if value.get("schema") == "scores/2":  # digests of captions, which tell what they took
            value = {**value, "cells": [*value["cells"]]}
        return {k: _timeless(v) for k, v in value.items() if not _CLOCKS.search(str(k))}
    return [_timeless(entry) for entry in value] if isinstance(value, list) else value


def rules(study: Study) -> list[str]:
    """Rules that have a script and ran, in the order in which they ended first."""
    logs = [path for path in (study.results / "logs").iterdir() if any(path.rglob("*.log"))]
    first = {path.name: min(log.stat().st_ctime_ns for log in path.rglob("*.log")) for path in logs}
    return sorted(first, key=lambda rule: first[rule])


def compare(study: Study, expected: dict[str, Any]) -> tuple[str, ...]:
    """Names of the results that are not those of the undisturbed study; what would run again."""
    found = study.facts()
    names = sorted(expected.keys() | found.keys())
    differing = [name for name in names if found.get(name) != expected.get(name)]
    for name in differing:
        print(f"{name} differs: {_difference(expected.get(name), found.get(name))}", flush=True)
    study.start("--dry-run").wait()
    if "Nothing to be done" not in (plan := study.said.read_text("utf-8")):
        print(plan, flush=True)
        differing.append("a further run would do something")
    return tuple(differing)


def _difference(one: Any, two: Any, where: str = "") -> str:
    """Where two values differ first, in words."""
    if isinstance(one, dict) and isinstance(two, dict) and one.keys() == two.keys():
        key = next(key for key in one if one[key] != two[key])
        return _difference(one[key], two[key], f"{where}.{key}")
    if isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        place = next(i for i, pair in enumerate(zip(one, two, strict=True)) if pair[0] != pair[1])
        return _difference(one[place], two[place], f"{where}[{place}]")
    return f"{where or 'as a whole'}: {one!r:.200} became {two!r:.200}"


# ---- Kills, and jobs that are started twice.


def _working(study: Study, head: subprocess.Popen[bytes], due: Iterable[str]) -> str:
    """Wait for a job of a rule that is due; the rule, or nothing if the study has ended."""
    rules = list(due)

    def seen() -> list[str]:
        ended = head.poll() is not None
        working = [rule for rule in rules if job_processes(study.folder, rule, head.pid)]
        return working or [""] * ended

    return wait(seen, 1200)[0]


def lasting(study: Study) -> dict[str, float]:
    """Seconds of each rule's shortest job, as Snakemake measured them where it does."""
    found: dict[str, float] = {}
    for path in sorted((study.results / "benchmarks").glob("*/**/*.tsv")):
        rule = path.relative_to(study.results / "benchmarks").parts[0]
        seconds = float(path.read_text("utf-8").splitlines()[1].split("\t")[0])
        found[rule] = min(seconds, found.get(rule, seconds))
    return found


def disturb(
    study: Study, due: set[tuple[str, str]], draw: random.Random, lasts: Mapping[str, float]
) -> list[tuple[str, str]]:
    """Run a study to its end with what is due; what of it happened.

    Args:
        study: a fresh one.
        due: pairs of a rule and what befalls its job: ``head`` or ``job`` is killed, or the same
            process is started ``twice``. What has happened is taken out.
        draw: of moments and of what comes first.
        lasts: seconds of a rule's job, within the first two of which the moment is.

    Raises:
        StudyError: it ended otherwise than by a kill, or a second process with a traceback.
    """
    head, done, seconds = study.start(), list[tuple[str, str]](), list[subprocess.Popen[bytes]]()
    said = study.folder / "seconds.txt"
    while rule := _working(study, head, sorted({rule for rule, _ in due})):
        how = draw.choice(sorted(how for of, how in due if of == rule))
        if how == "twice":
            own = job_processes(study.folder, rule, head.pid)[:1]
            again = [second for process in own for second in _again(process, said)]
            seconds += again
            happened = len(again)
        else:
            time.sleep(draw.uniform(0, min(2, lasts.get(rule, _QUICK_S))))
            jobs = job_processes(study.folder, rule, head.pid)
            victims = [head.pid] if how == "head" else jobs
            happened = sum(map(_killed, victims))
        if not happened:  # it was quicker
            continue
        due.remove((rule, how))
        done.append((rule, how))
        print(f"{rule}: {how}", flush=True)
        if how != "twice":
            head.wait()
            head = study.start()
    for second in seconds:
        second.wait()
    if seconds and "Traceback" in (text := said.read_text("utf-8")):
        raise StudyError(f"{study.folder}: a second process ended in a traceback: {text}")
    if head.returncode and seconds:  # of two processes one may refuse
        head = study.start()
        head.wait()
    if head.returncode:
        raise StudyError(f"{study.folder}: {study.said.read_text('utf-8')[-3000:]}")
    return done


def _killed(process: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
        return True
    return False


def _again(process: int, to: Path) -> list[subprocess.Popen[bytes]]:
    """The command of a process once more, in its folder and environment; none if it has ended.

    What it prints is added ``to`` a file.
    """
    home = Path(f"/proc/{process}")
    try:
        words = (home / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        pairs = (home / "environ").read_bytes().split(b"\0")
        folder = (home / "cwd").resolve(strict=True)
    except OSError:
        return []
    environment = dict(pair.split(b"=", 1) for pair in pairs if b"=" in pair)
    null, one = subprocess.DEVNULL, subprocess.STDOUT
    with to.open("ab") as said:
        return [
            subprocess.Popen(
                words, cwd=folder, env=environment, stdin=null, stdout=said, stderr=one
            )
        ]


# ---- A full disk.


@contextmanager
def small_disk(folder: Path, mb: int = 64) -> Iterator[None]:
    """A file system of its own in a folder."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mb}m", "none", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


#: Pages that are left: the later of a job's files meet the full disk, too.
SPARE = (0, 3)
#: Studies in which a rule is met at the most: some of its jobs are quicker than the filling.
_STUDIES = 3


def starve(study: Study, due: set[str], spare: int) -> list[tuple[str, str]]:
    """Run a study to its end on a disk that fills as a job of each due rule begins.

    Rules of which a job has failed are taken out; they, and the sentences that were said.
    """
    head, told = study.start(), list[tuple[str, str]]()
    filler = study.results / "filler"
    while rule := _working(study, head, sorted(due)):
        with filler.open("wb", buffering=0) as file:
            for block in (bytes(2**20), bytes(2**12)):
                with suppress(OSError):
                    while file.write(block) == len(block):
                        pass
            file.truncate(file.tell() - spare * 2**12)
        ended_ill = head.wait() != 0
        filler.unlink(missing_ok=True)
        if ended_ill:
            if _has_failed(study, rule):  # else it was quicker, and another one met the full disk
                due.remove(rule)
                told.append((rule, study.sentence()))
            head = study.start()
    return told


def _has_failed(study: Study, rule: str) -> bool:
    logs = (study.results / "logs" / rule).rglob("*.log")
    return any("done in" not in log.read_text("utf-8", errors="replace") for log in logs)


# ---- Damages.


def cut(path: Path) -> None:
    """Half of it is left."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    """One bit in its middle; size and time are those of before."""
    stat, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def delete(path: Path) -> None:
    path.unlink()


DAMAGES = (cut, empty, flip, delete)
#: All that befalls an artefact in a campaign; the last needs another one.
HOW = (*(damage.__name__ for damage in DAMAGES), "another's")


@dataclass(frozen=True)
class Artefact:
    """A file that a job reads, and how that job comes to be due.

    In patterns ``T`` is the tuning cell or its first stage, ``R`` the one that is reported.
    """

    name: str
    file: str  # below results/; of several that fit the first
    target: str  # what is asked for, and deleted before
    gone: str = ""  # what is deleted besides
    after: str = "all"  # which study: finished, with stage 2 just ended, or with stage 2 killed
    besides: str = ""  # what is asked for, too


def _of(*artefacts: tuple[str, str], target: str, **keys: str) -> list[Artefact]:
    return [Artefact(name, file, target, **keys) for name, file in artefacts]


ARTEFACTS: list[Artefact] = [
    *_of(("list of the demo's files", "demo/files.json"), target="data/clips/report.parquet"),
    *_of(
        ("facts of the demo", "demo/facts.json"),
        ("captions", "runs/T/captions.json"),
        ("losses", "runs/T/losses.parquet"),
        target="tables/scores.tuning.json",
    ),
    *_of(
        ("digests of the data", "data/digests.json"),
        ("clips left out of a split", "data/clips/train.unused.json"),
        ("record of the head", ".resume/head.json"),
        target="data/manifest.parquet",
    ),
    *_of(("clips of a split", "data/clips/train.parquet"), target="features/vision-*/train"),
    *_of(
        ("features", "features/vision-*/train/shard-00000.safetensors"),
        ("index of features", "features/vision-*/train/index.json"),
        target="stage1/T/stage.json",
    ),
    *_of(
        ("scorer's features", "features/scorer-*/selection.safetensors"),
        target="tables/scorer_check.json",
    ),
    *_of(("scorer's check", "tables/scorer_check.json"), target="tables/scorer_verdict.txt"),
    *_of(
        ("captions of a baseline", "baselines/retrieval/captions.json"),
        target="tables/scores.report.json",
    ),
    *_of(
        ("weights of stage 1", "stage1/T/checkpoint/projector.safetensors"),
        ("index of stage 1's weights", "stage1/T/checkpoint/checkpoint.json"),
        target="runs/T/cell.json",
        gone="runs/T/checkpoint",
    ),
    *_of(
        ("weights of a projector", "runs/T/checkpoint/projector.safetensors"),
        ("weights of adapters", "runs/T/checkpoint/lora/adapter_model.safetensors"),
        ("index of weights", "runs/T/checkpoint/checkpoint.json"),
        target="runs/T/captions.json",
    ),
    *_of(
        ("captions handed over", ".resume/captions-T-*/captions.json"),
        ("losses handed over", ".resume/captions-T-*/losses.parquet"),
        target="runs/T/captions.json",
        after="trained",
    ),
    *_of(
        ("resume point", ".resume/T-*/step-*/state.safetensors"),
        ("record of a resume point", ".resume/T-*/step-*/state.json"),
        target="runs/T/cell.json",
        after="killed",
    ),
    *_of(("kept morphemes", ".cache/morphemes/*/*.parquet"), target="tables/scores.report.json"),
    *_of(
        ("index of scores", "tables/scores.tuning.json"),
        ("digest of the index of scores", "tables/.scores.tuning.json.sha256"),
        target="tables/selection.json",
    ),
    *_of(
        ("choice", "tables/selection.json"),
        ("clips left out", "data/rejected.parquet"),
        ("record of stage 1", "stage1/R/stage.json"),
        ("record of a cell", "runs/R/cell.json"),
        target="tables/ranking.json",
    ),
    *_of(
        ("figures of a captioner", "runs/R/metrics.json"),
        ("scores of clips", "runs/R/clips.parquet"),
        ("figures of the references", "baselines/references/metrics.json"),
        target="tables/ranking.json",
        besides="tables/scores.tuning.json",  # what stands for them are both indices of scores
    ),
    *_of(
        ("history of stage 1", "stage1/R/epochs.parquet"),
        ("history of a cell", "runs/R/steps.parquet"),
        ("list of clips", "data/manifest.parquet"),
        ("counts of clips", "data/summary.json"),
        ("ranking", "tables/ranking.json"),
        ("table of clips", "tables/clips.parquet"),
        target="report.html",
    ),
]


# ---- The campaign.


class Record:
    """What befell studies, a JSON line each, so that a campaign may go on later."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, *faults: Fault) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            for fault in faults:
                print(json.dumps(asdict(fault), ensure_ascii=False), file=file)

    def faults(self) -> list[Fault]:
        lines = self.path.read_text("utf-8").splitlines() if self.path.is_file() else []
        return [Fault(**json.loads(line)) for line in lines]


class Campaign:
    """Studies in one folder, disturbed one after the other, held against one that was not."""

    def __init__(
        self, folder: Path, draw: random.Random, record: Record, targets: Sequence[str] = ()
    ) -> None:
        self.folder, self.draw, self.record = folder / "study", draw, record
        self.targets = targets
        self.alone = Study(self.folder, targets)
        self.alone.finish()
        self.expected, self.order = self.alone.facts(), rules(self.alone)
        self.lasts = lasting(self.alone)
        records = [json.loads(path.read_text("utf-8")) for path in self._runs()]
        letters = {"tuning": "T", "report": "R"}
        self.cells = {letters[own["role"]]: own["cell"] for own in records}
        self.stages = {own["cell"]: own["stage1_cell"] for own in records}

    def _runs(self) -> list[Path]:
        return sorted(self.alone.results.glob("runs/*/cell.json"))

    def laps(self, ways: Sequence[str], number: int) -> None:
        """Let so many things befall jobs, each of ``ways`` each rule in turn.

        Jobs that were too quick are met again, in one study more than would do for all.
        """
        times = Counter({(rule, how): 0 for rule in self.order for how in ways})
        for _ in range(math.ceil(number / len(times)) + 1):
            if number <= 0:
                break
            study = Study(self.folder, self.targets)
            due = sorted(times, key=times.__getitem__)[:number]
            done = disturb(study, set(due), self.draw, self.lasts)
            times.update(done or due)
            wrong = compare(study, self.expected)
            kind = "twice" if "twice" in ways else "kill"
            faults = [Fault(kind, *pair) for pair in done]
            # Which of them did it, nobody knows.
            self.record.add(*faults[:-1], *(replace(last, wrong=wrong) for last in faults[-1:]))
            number -= len(done)

    def damages(self, number: int) -> None:
        """Damage so many artefacts, one at a time, each in a study in which its reader is due."""
        artefacts = self.draw.sample(ARTEFACTS, len(ARTEFACTS))
        # Each artefact in turn, in all ways as often.
        cases = [
            (artefact, HOW[(place + turn) % len(HOW)])
            for turn in range(len(HOW))
            for place, artefact in enumerate(artefacts)
        ]
        home = self.folder.with_name("kept")
        kept = {"all": home / "all"} if number else {}
        for after in kept:
            self.alone.finish()  # the digests of clips are kept by the first run that finds them
            shutil.copytree(self.folder, kept[after], symlinks=True)
        for artefact, how in cases[:number]:
            if artefact.after not in kept:
                self._go_back(kept["all"])
                self._train_again(killed=artefact.after == "killed")
                kept[artefact.after] = home / artefact.after
                shutil.copytree(self.folder, kept[artefact.after], symlinks=True)
            self._go_back(kept[artefact.after])
            fault = self._damaged(artefact, how)
            print(f"{fault.place}: {how}, {fault.refused} refused: {fault.said}", flush=True)
            self.record.add(fault)

    def _go_back(self, kept: Path) -> None:
        shutil.rmtree(self.folder)
        shutil.copytree(kept, self.folder, symlinks=True)

    def _train_again(self, killed: bool) -> None:
        """Run stage 2 of the tuning cell once more, to its end or to its first saved step."""
        study = self.alone
        shutil.rmtree(study.results / self._named("runs/T/checkpoint"))
        (study.results / self._named("runs/T/cell.json")).unlink()
        study.targets = (f"results/{self._named('runs/T')}/cell.json",)
        if not killed:
            study.finish()
            return
        head = study.start()
        wait(lambda: self._files(".resume/T-*/step-*/state.json"))
        sum(map(_killed, job_processes(study.folder, "stage2")))
        head.wait()

    def _damaged(self, artefact: Artefact, how: str) -> Fault:
        study, results = self.alone, self.alone.results
        target = (*self._files(artefact.target), results / self._named(artefact.target))[0]
        for gone in filter(None, (artefact.target, artefact.gone)):
            for path in self._files(gone):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        if artefact.name == "record of the head":
            (results / ".resume/head.json").write_text('{"schema": "head/1"}\n', "utf-8")
        path = self._files(artefact.file)[0]
        if how == "another's":
            alike = [*results.rglob(path.name), *results.rglob(f"*{path.suffix}")]
            other = next(own for own in alike if own.read_bytes() != path.read_bytes())
            shutil.copy2(other, path)
        else:
            next(damage for damage in DAMAGES if damage.__name__ == how)(path)
        asked = (str(target.relative_to(results)), *filter(None, [artefact.besides]))
        study.targets = [f"results/{own}" for own in asked]
        refused, said = 0, ""
        while study.start().wait():
            refused, said = refused + 1, study.sentence()
            if refused == 5:
                return Fault("damage", artefact.name, how, refused, ("never ended well",), said)
        return Fault("damage", artefact.name, how, refused, compare(study, self.expected), said)

    def _files(self, pattern: str) -> list[Path]:
        return sorted(self.alone.results.glob(self._named(pattern)))

    def _named(self, pattern: str) -> str:
        """A pattern below results/ with the cells' names."""
        for letter, name in self.cells.items():
            own = self.stages[name] if pattern.startswith("stage1/") else name
            pattern = re.sub(rf"(?<![\w]){letter}(?![\w])", own, pattern)
        return pattern

    def full_disks(self) -> None:
        """Fill the disk under each rule, with a little left and a little more."""
        for spare in SPARE:
            due = set(self.order)
            for _ in range(_STUDIES):
                study = Study(self.folder, self.targets)
                with small_disk(study.results):
                    told = starve(study, due, spare)
                    study.finish()
                    wrong = compare(study, self.expected)
                faults = [Fault("full disk", rule, "full", 1, said=said) for rule, said in told]
                for fault in faults:
                    print(f"{fault.place}: {fault.said}", flush=True)
                self.record.add(*faults[:-1], *(replace(last, wrong=wrong) for last in faults[-1:]))
                if not due:
                    break


_MARKS = ("<!-- faults: begin -->", "<!-- faults: end -->")


def as_table(faults: Sequence[Fault]) -> str:
    """What befell studies and what became of it, in Markdown."""
    lines = [
        "| what | rules or artefacts | times | well at once | told, then well | lost or wrong |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for kind, how in dict.fromkeys((fault.kind, fault.how) for fault in faults):
        own = [fault for fault in faults if (fault.kind, fault.how) == (kind, how)]
        places = len({fault.place for fault in own})
        told = sum(fault.refused > 0 for fault in own)
        wrong = sum(bool(fault.wrong) for fault in own)
        name = {"kill": f"the {how} killed", "twice": "a job started twice"}.get(kind, how)
        name = {"another's": "another's bytes", "full": "the disk full"}.get(how, name)
        lines.append(f"| {name} | {places} | {len(own)} | {len(own) - told} | {told} | {wrong} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the campaign and say how it went."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=0, help="of jobs and head, over all rules")
    parser.add_argument("--damages", type=int, default=0, help="of artefacts of every kind")
    parser.add_argument("--twice", action="store_true", help="start a job of each rule twice")
    parser.add_argument("--full-disk", action="store_true", help="under each rule; needs root")
    parser.add_argument("--targets", nargs="*", default=(), help="files of the study; none: all")
    parser.add_argument("--seed", type=int, default=18)
    parser.add_argument("--record", type=Path, default=Path("faults.jsonl"), help="is added to")
    parser.add_argument("--into", type=Path, help="a page whose table is written from the record")
    options = parser.parse_args()
    asked = options.kills or options.damages or options.twice or options.full_disk
    record = Record(options.record)
    known = len(record.faults())
    with TemporaryDirectory(prefix="siglip-study-faults-") as name:
        if asked:
            draw = random.Random(options.seed)
            campaign = Campaign(Path(name), draw, record, options.targets)
            campaign.laps(["head", "job"], options.kills)
            campaign.laps(["twice"], len(campaign.order) * options.twice)
            campaign.damages(options.damages)
        if options.full_disk:
            campaign.full_disks()
    if options.into:
        text = options.into.read_text("utf-8")
        before, _, after = text.partition(_MARKS[0])
        table = as_table(record.faults())
        options.into.write_text(
            f"{before}{_MARKS[0]}\n{table}{_MARKS[1]}{after.partition(_MARKS[1])[2]}", "utf-8"
        )
    faults = record.faults()[known:]
    wrong = [fault for fault in faults if fault.wrong]
    print(f"{len(faults)} faults, {len(wrong)} with results lost, wrong or due once more")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(exit_status(main))
