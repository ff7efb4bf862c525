"""A copy of the workflow in a folder of its own, and Snakemake run in it as a user would."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest
import yaml
from support.pages import shell

from siglip_study.planning.explain import Due, due_steps
from tools.fault_campaign import PARTS

ROOT = Path(__file__).parents[2]


@dataclass
class Run:
    """How a Snakemake process ended and what it printed."""

    status: int
    text: str

    @property
    def jobs(self) -> dict[str, int]:
        """Rule → number of jobs, from the table a (dry) run begins with; empty if none is due."""
        table = re.search(r"^Job stats:\njob +count\n[- ]+\n(.*?)^total ", self.text, re.M | re.S)
        if table is None:
            assert "Nothing to be done" in self.text, self.text[-4000:]
            return {}
        rows = (line.split() for line in table[1].splitlines())
        return {name: int(count) for name, count in rows}

    def cells(self, stage: str) -> set[str]:
        """Cells (or first stages) named by the jobs of ``stage 1``, ``stage 2`` or ``captions``."""
        return set(re.findall(rf"{stage} of ([\w.-]+)", self.text))


class House:
    """The files a user has after cloning, without results, and a config to run them with."""

    #: how Snakemake is told to run
    flags: tuple[str, ...] = ("--cores", "1", "--resources", "gpu=1")

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for part in PARTS:
            source = ROOT / part
            copy = shutil.copytree if source.is_dir() else shutil.copy2
            copy(source, folder / part)
        # An environment as the pages have their reader make it.
        (folder / ".venv").symlink_to(sys.prefix, target_is_directory=True)
        # The process that runs the tests may itself run under Snakemake's or the hub's settings.
        self._env = {k: v for k, v in os.environ.items() if not k.startswith("SNAKEMAKE_")}
        self._env |= {
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": os.pathsep.join(
                [str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
            ),
        }

    def write_config(self, name: str, **changes: object) -> Path:
        """``two_cells.yaml`` with some top-level keys replaced, as ``config/<name>``."""
        config = yaml.safe_load((Path(__file__).parent / "two_cells.yaml").read_text("utf-8"))
        path = self.folder / "config" / name
        path.write_text(yaml.safe_dump(config | changes, allow_unicode=True), encoding="utf-8")
        return path

    def snakemake(
        self,
        *arguments: str | Path,
        config: Path | None = None,
        timeout: int = 900,
        library: Path | None = None,
    ) -> Run:
        """Run Snakemake, of another library's code if given."""
        env = self._env | ({"PYTHONPATH": str(library)} if library else {})
        if "--dry-run" in arguments:
            env.pop("COVERAGE_PROCESS_CONFIG", None)  # a plan takes twice as long under its tracer
        done = subprocess.run(
            self._command(arguments, config),
            cwd=self.folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            timeout=timeout,
        )
        return Run(done.returncode, done.stdout)

    def shell(
        self, command: str, folder: Path | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as a page spells it, in the study's folder or another, without a GPU."""
        env = self._env | {"CUDA_VISIBLE_DEVICES": ""} | variables
        return shell(command, folder or self.folder, env)

    def planned(self, command: str) -> Run:
        """What Snakemake would do at a command of a page, which stays as it is spelled."""
        profile = self.folder / "only_plan/profile.yaml"
        profile.parent.mkdir(exist_ok=True)
        profile.write_text("dry-run: true\n", "utf-8")
        done = self.shell(f"{command} 2>&1", SNAKEMAKE_PROFILE=str(profile.parent))
        return Run(done.returncode, done.stdout)

    def due(self, config: Path, library: Path | None = None) -> list[Due]:
        """The steps that a study would run, by another library's code if given."""
        done = subprocess.run(
            [sys.executable, "-m", "snakemake_logger_plugin_siglip.due_jobs", str(config)],
            cwd=self.folder,
            env=self._env | ({"PYTHONPATH": str(library)} if library else {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
        assert done.returncode == 0, done.stderr
        return due_steps(json.loads(done.stdout)["jobs"])

    def start(
        self,
        *arguments: str | Path,
        config: Path | None = None,
        to: IO[str] | int = subprocess.DEVNULL,
    ) -> subprocess.Popen:
        """Start the same and do not wait; what it prints goes ``to`` a file, if any."""
        return subprocess.Popen(
            self._command(arguments, config),
            # What a shell runs in the background ignores Ctrl-C, and hands that down.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            cwd=self.folder,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=to,
            stderr=subprocess.STDOUT,
        )

    def _command(self, arguments: tuple[str | Path, ...], config: Path | None) -> list[str]:
        # Targets come first: --resources and --configfile take all that follows.
        command = [sys.executable, "-m", "snakemake", *map(str, arguments)]
        command += self.flags
        return command if config is None else [*command, "--configfile", str(config)]


@pytest.fixture(scope="module")
def new_house(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], House]:
    """Makes a house of its own at each call."""
    return lambda: House(tmp_path_factory.mktemp("house"))
