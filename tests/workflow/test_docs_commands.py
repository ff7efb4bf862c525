"""Every command of the pages is run: here, by another test, or by ``.ci/run``.

Here are those of a reader who installs, sets up a cluster and adds code, in a fresh clone of this
checkout's files. Those of a study stand with the tests of studies.
"""

import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.pages import (
    COMMANDS,
    ROOT,
    documented,
    outside_projector,
    put_library_in,
    run_by_ci,
    run_by_tests,
    shell,
)

from siglip_study.config import load

Shell = Callable[..., subprocess.CompletedProcess[str]]


#: What no test can run: runs of tests and of campaigns that take minutes to hours or need a GPU or
#: root, and a package that no lock has.
BY_HAND = {
    ".venv/bin/pytest --cov -n 2",
    ".venv/bin/pytest -m full",
    ".venv/bin/pytest -m gpu",
    ".venv/bin/pytest -m slurm",
    ".venv/bin/python -m tools.fault_campaign --kills 100 --full-disk",
    ".venv/bin/pip install tensorboard",
}


def test_every_command_of_the_pages_is_run() -> None:
    without = COMMANDS - run_by_tests() - run_by_ci() - BY_HAND
    assert without == set(), "no test takes these from support.pages.documented"


def test_what_is_said_to_be_run_stands_in_a_page() -> None:
    assert not (run_by_tests() | BY_HAND) - COMMANDS


@pytest.fixture(scope="module")
def in_clone(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """Runs commands in the clone that the pages' first line makes; its address is a folder."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no git, or no checkout of it")
    origin, reader = tmp_path_factory.mktemp("origin"), tmp_path_factory.mktemp("reader")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    for name in filter(None, listed.stdout.split("\n")):
        if (ROOT / name).is_file():
            (origin / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, origin / name)
    by = "git -c user.name=a -c user.email=a@b"
    told = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{origin}.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://example.org/siglip-study",
    }
    env = dict(os.environ)
    made = shell(f"git init -q && git add . && {by} commit -q -m x", origin, env)
    assert made.returncode == 0, made.stderr
    line = documented("git clone https://example.org/siglip-study")
    made = shell(f"{line} && {documented('cd siglip-study')} && pwd", reader, env | told)
    assert made.returncode == 0, made.stderr
    clone = Path(made.stdout.strip())
    assert (clone / "README.md").read_bytes() == (ROOT / "README.md").read_bytes()
    (clone / ".venv").symlink_to(sys.prefix)

    def run(command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        done = shell(command, clone, env | {"PYTHONPATH": str(clone / "src")} | variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    return run


#: The environment has what is locked, so that pip has nothing to ask a network for.
PIP = {
    "PIP_DRY_RUN": "1",
    "PIP_NO_INDEX": "1",
    "PIP_NO_DEPS": "1",
    "PIP_NO_BUILD_ISOLATION": "0",  # said so, there is none
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
}


@pytest.mark.skipif(not Path(sys.prefix, "bin/pip").exists(), reason="no pip in the environment")
@pytest.mark.parametrize(
    ("line", "new"),
    [
        (documented(".venv/bin/pip install -r requirements.txt"), "siglip-study"),
        (
            documented(
                ".venv/bin/pip install -r requirements.txt snakemake-executor-plugin-slurm==2.8.0"
            ),
            "siglip-study",
        ),
        (
            documented(
                ".venv/bin/pip install torch==2.13.0"
                " --index-url https://download.pytorch.org/whl/cpu"
            ),
            "",
        ),
    ],
)
def test_what_is_installed_is_what_the_locks_ask_for(in_clone: Shell, line: str, new: str) -> None:
    """And the project itself can be built."""
    said = in_clone(line, **PIP).stdout
    assert said.count("Requirement already satisfied: torch==2.13.0") == 1
    assert [row for row in said.splitlines() if row.startswith("Would install")] == (
        [f"Would install {new}-0.1.0"] if new else []
    )


ONLY_FIND = {
    "PYTEST_ADDOPTS": "--noconftest --collect-only --ignore-glob=*",
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
}


@pytest.mark.parametrize(
    "line",
    [
        documented(".venv/bin/pytest tests/metrics"),
        documented(
            ".venv/bin/pytest tests/metrics tests/report/test_comparisons.py"
            " tests/study/test_stage_code.py"
        ),
        documented(".venv/bin/pytest tests/projectors"),
    ],
)
def test_the_tests_that_a_page_would_run_are_there(in_clone: Shell, line: str) -> None:
    """The whole run has them; here pytest finds the paths, and imports nothing of a folder."""
    found = in_clone(f"{line} || [ $? = 5 ]", **ONLY_FIND)  # 5: nothing to run
    assert "collected" in found.stdout


def test_a_path_that_is_gone_would_be_noticed(in_clone: Shell) -> None:
    with pytest.raises(AssertionError, match="file or directory not found"):
        in_clone(".venv/bin/pytest tests/metrics tests/gone || [ $? = 5 ]", **ONLY_FIND)


def test_a_projector_of_another_package_passes_the_tests_that_all_pass(in_clone: Shell) -> None:
    clone = Path(in_clone("pwd").stdout.strip())
    (clone / "my_package").mkdir()
    (clone / "my_package/pooling.py").write_text(outside_projector()[0], "utf-8")
    put_library_in(clone)
    line = documented(
        "PYTHONPATH=$PWD PROJECTORS=my_package.pooling:PooledLinear"
        " .venv/bin/pytest tests/projectors/test_every_projector.py -k PooledLinear"
    )
    passed, *_ = in_clone(line, PYTEST_ADDOPTS="").stdout.splitlines()[-1].split()
    assert int(passed) > 10


def test_metrics_say_what_they_are(in_clone: Shell) -> None:
    line = documented(
        '.venv/bin/python -c "from siglip_study.metrics.base import METRICS;'
        " print(*METRICS.values(), sep='\\n')\""
    )
    assert len(in_clone(line).stdout.splitlines()) > 20


def test_the_table_of_the_config_is_written_as_it_is(in_clone: Shell) -> None:
    line = documented(".venv/bin/python -m tools.config_docs config")
    assert in_clone(f"{line} && git diff --name-only config").stdout == ""


def test_the_laptop_s_config_is_copied_and_read(in_clone: Shell) -> None:
    line = documented("cp config/laptop.yaml config/mine.yaml")
    assert load(Path(in_clone(f"{line} && realpath config/mine.yaml").stdout.strip()))


def test_a_profile_is_edited_on_the_lines_that_say_so(in_clone: Shell) -> None:
    line = documented("$EDITOR profiles/slurm/profile.yaml")
    done = in_clone(f"{line} && cat profiles/slurm/profile.yaml", EDITOR="sed -i s/EDIT/edited/")
    assert "edited" in done.stdout and "EDIT" not in done.stdout


#: What no two sites have alike.
OF_THE_SITE = {
    "slurm": {"slurm_partition", "slurm_account", "mem_mb", "runtime"},
    "cluster-generic": {
        *("cluster-generic-submit-cmd", "cluster-generic-status-cmd", "cluster-generic-cancel-cmd"),
        *("mem_mb", "runtime"),
    },
    "local": {"gpu"},
}


@pytest.mark.parametrize("name", OF_THE_SITE)
def test_each_line_of_a_profile_that_a_site_must_edit_says_so(name: str) -> None:
    # On the line, or in the comment above it.
    lines = (ROOT / "profiles" / name / "profile.yaml").read_text("utf-8").splitlines()
    marked, above = set(), ""
    for line in lines:
        if line.lstrip().startswith("#"):
            above += line
            continue
        if "EDIT: " in above + line:
            marked.add(line.split(":")[0].strip())
        above = ""
    assert marked == OF_THE_SITE[name]


def test_models_are_fetched_to_where_the_cluster_s_jobs_look_for_them(
    in_clone: Shell, tmp_path: Path
) -> None:
    shared = documented("export HF_HOME=/shared/hf", {"/shared/hf": tmp_path / "hf"})
    fetch = documented(".venv/bin/python -m siglip_study.models fetch config/mine.yaml")
    offline = documented("export HF_HUB_OFFLINE=1")
    look = "import huggingface_hub.constants as c; print(c.HF_HOME, c.is_offline_mode())"
    lines = ("cp config/config.yaml config/mine.yaml", shared, fetch, offline)
    done = in_clone(" && ".join((*lines, f'.venv/bin/python -c "{look}"')))
    *models, place = done.stdout.splitlines()
    assert [line.split(":")[0] for line in models] == ["vision.model", "llm.model", "scorer.model"]
    assert place == f"{tmp_path / 'hf'} True"


@pytest.mark.skipif(shutil.which("tmux") is None, reason="no tmux on the PATH")
def test_a_session_is_opened_that_outlives_the_terminal(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    (tmp_path / ".tmux.conf").write_text(f"set -g default-command 'touch {begun}'\n", "utf-8")
    own = {"HOME": str(tmp_path), "TMUX_TMPDIR": str(tmp_path), "TERM": "xterm"}
    env = {k: v for k, v in os.environ.items() if k != "TMUX"} | own
    ours, terminal = pty.openpty()
    line = documented("tmux new -s study")
    command = ["bash", "-c", line]
    ended = subprocess.run(
        command, env=env, stdin=terminal, stdout=terminal, stderr=terminal, timeout=60
    )
    os.close(terminal), os.close(ours)
    assert ended.returncode == 0 and begun.is_file()
