"""Kill and starve a small study, run through Snakemake as a user would; ask what it ends with.

    python -m tools.fault_campaign --kills 56 --full-disk

Takes the rules in turn: while a job of one runs, its process or the head of the study is killed
with -9, or (as root) the disk under ``results/`` is full. Then the same command is given again, and
nothing else. In the end every result must have the bits of a study that was left alone. Minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
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
    r"^inputs$|(^|_)(s|seconds|date|created|hours|versions|min|busy|memory_gib)($|_)|per_s"
)
#: Where a rule and its script have different names.
_SCRIPTS = {"select": "select_cells"}
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


def job_processes(folder: Path, rule: str = "") -> list[int]:
    """Processes of a rule's script, or of any, that were started in this folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            inside = (entry / "cwd").resolve() == folder
        except OSError:
            continue  # it ended while we looked
        script = f".{_SCRIPTS.get(rule, rule)}.py" if rule else ""
        scripts = [word for word in words[1:] if "/scripts/" in word and script in word]
        if inside and scripts and "python" in words[0]:
            found.append(int(entry.name))
    return found


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
        config["projectors"].pop("linear")
        (folder / "config/campaign.yaml").write_text(yaml.safe_dump(config), "utf-8")
        self.said = folder / "said.txt"

    def start(self) -> subprocess.Popen[bytes]:
        words = "-m snakemake --cores 2 --resources gpu=1 --configfile config/campaign.yaml"
        env = os.environ | {"PYTHONPATH": str(_ROOT / "src"), "HF_HUB_OFFLINE": "1"}
        with self.said.open("w") as said:
            return subprocess.Popen(
                [sys.executable, *words.split(), "--", *self.targets],
                cwd=self.folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
            )

    def finish(self) -> None:
        """Give the command and wait.

        Raises:
            StudyError: it did not end well.
        """
        if self.start().wait():
            raise StudyError(f"{self.folder}: {self.said.read_text('utf-8')[-3000:]}")

    def facts(self) -> dict[str, Any]:
        """Every result by its file's name, but for clocks and what is drawn for people."""
        import polars as pl

        found: dict[str, Any] = {}
        for path in sorted(self.results.rglob("*")):
            name = path.relative_to(self.results).as_posix()
            drawn = (".", "logs/", "benchmarks/", "report", "figures/", "data/digests")
            if name.startswith(drawn) or not path.is_file():
                continue
            if path.suffix == ".json":
                found[name] = _timeless(json.loads(path.read_text("utf-8")))
            elif path.suffix == ".parquet":
                found[name] = _timeless(pl.read_parquet(path).to_dicts())
            elif path.suffix == ".safetensors":
                # The names in a header come in any order.
                size = int.from_bytes(path.read_bytes()[:8], "little")
                header, data = path.read_bytes()[8 : 8 + size], path.read_bytes()[8 + size :]
                found[name] = (json.loads(header), data)
            elif path.suffix not in (".csv", ".tex", ".svg"):
                found[name] = path.read_bytes()
        return found


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if not _CLOCKS.search(str(k))}
    return [_timeless(entry) for entry in value] if isinstance(value, list) else value


def rules(study: Study) -> list[str]:
    """Rules that have a script and ran, in the order in which they began."""
    logs = [path for path in (study.results / "logs").iterdir() if any(path.glob("*.log"))]
    first = {path.name: min(log.stat().st_ctime_ns for log in path.glob("*.log")) for path in logs}
    return sorted(first, key=lambda rule: first[rule])


def _working(study: Study, head: subprocess.Popen[bytes], due: Iterable[str]) -> str:
    """Wait for a job of a rule that is due; the rule, or nothing if the study has ended."""
    rules = list(due)

    def seen() -> list[str]:
        ended = head.poll() is not None
        return [rule for rule in rules if job_processes(study.folder, rule)] or [""] * ended

    return wait(seen, 1200)[0]


def kill_through(study: Study, due: set[tuple[str, str]], draw: random.Random) -> None:
    """Run a study to its end with kills of what is due: pairs of a rule and who is killed in it.

    Raises:
        StudyError: it ended otherwise than by a kill.
    """
    head = study.start()
    while True:
        rule = _working(study, head, sorted({rule for rule, _ in due}))
        if not rule:
            if head.returncode:
                raise StudyError(f"{study.folder}: {study.said.read_text('utf-8')[-3000:]}")
            return
        victim = draw.choice(sorted(who for of, who in due if of == rule))
        time.sleep(draw.uniform(0, 2))
        targets = [head.pid] if victim == "head" else job_processes(study.folder, rule)
        for process in targets:
            with suppress(ProcessLookupError):  # it was quicker
                os.kill(process, signal.SIGKILL)
        if targets:
            head.wait()
            head = study.start()
            due.remove((rule, victim))
            print(f"killed the {victim} in {rule}", flush=True)


@contextmanager
def small_disk(folder: Path, mb: int = 400) -> Iterator[None]:
    """A file system of its own in a folder."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mb}m", "none", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def starve(study: Study, rule: str) -> str:
    """Run the study with a disk that fills as a job of ``rule`` begins; what it says at the end."""
    head = study.start()
    if not _working(study, head, [rule]):
        return "no such job"
    filler = study.results / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(2**12))
    head.wait()
    filler.unlink(missing_ok=True)
    text = study.said.read_text("utf-8")
    if "Traceback" in text:
        raise StudyError(f"{rule}: a full disk ends in a traceback: {text[-3000:]}")
    return text.splitlines()[-1]


def compare(study: Study, expected: dict[str, Any]) -> int:
    """How many results are the same.

    Raises:
        StudyError: one is not.
    """
    found = study.facts()
    differing = [n for n in expected.keys() | found.keys() if found.get(n) != expected.get(n)]
    if differing:
        raise StudyError(f"{study.folder}: {sorted(differing)} differ from the undisturbed study.")
    return len(found)


def main() -> int:
    """Run the campaign and say how it went."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--full-disk", action="store_true")
    parser.add_argument("--seed", type=int, default=18)
    parser.add_argument("--targets", nargs="*", default=(), help="files of the study; none: all")
    options = parser.parse_args()
    draw, killed = random.Random(options.seed), Counter[tuple[str, str]]()
    with TemporaryDirectory(prefix="siglip-study-faults-") as name:
        folder = Path(name) / "study"
        alone = Study(folder, options.targets)
        alone.finish()
        expected, order = alone.facts(), rules(alone)
        while killed.total() < options.kills:
            study = Study(folder, options.targets)
            pairs = [(rule, victim) for rule in order for victim in ("head", "job")]
            due = set(pairs[: options.kills - killed.total()])
            wanted = Counter(due)
            kill_through(study, due, draw)
            killed += wanted - Counter(due)
            print(f"{compare(study, expected)} results with the same bits", flush=True)
        if options.full_disk:
            study = Study(folder, options.targets)
            with small_disk(study.results):
                for rule in order:
                    print(f"full disk in {rule}: {starve(study, rule)}", flush=True)
                study.finish()
                print(f"full disk: {compare(study, expected)} results with the same bits")
    for rule in order if killed else ():
        print(f"| {rule} | {killed[rule, 'head']} | {killed[rule, 'job']} |")
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(main))
