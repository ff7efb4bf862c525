"""Lock, conda environment, ranges and README say the same thing."""

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from itertools import dropwhile
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support.pages import COMMANDS, PAGES, ROOT, fenced

from siglip_study.config import load
from siglip_study.models.fetch import models_of

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LIBRARY_FILE = re.compile(
    r"\b(?:config|docs|workflow|src|resources|report|tests)/[\w./-]*\w/?|\brequirements[\w-]*\.txt"
)
# Made by the reader, as the pages tell.
OF_THE_READER = {"config/mine.yaml", "config/equal_time.yaml"}


def lines(name: str) -> list[str]:
    """Lines of a requirements file without comments."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def pins(entries: list[str]) -> dict[str, Requirement]:
    found = [Requirement(entry) for entry in entries if not entry.startswith("-")]
    return {canonicalize_name(requirement.name): requirement for requirement in found}


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_every_line_is_an_exact_pin(name: str) -> None:
    for package, requirement in pins(lines(name)).items():
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", package
        assert "*" not in specifier.version and "+" not in specifier.version, package


def test_the_lock_ends_with_the_project_itself() -> None:
    assert lines("requirements.txt")[-1] == "-e ."
    assert lines("requirements-dev.txt")[0] == "-r requirements.txt"


def test_conda_installs_the_lock_line_for_line() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python, pip, packages = environment["dependencies"]
    assert (python, pip) == ("python=3.11", "pip")
    assert packages["pip"] == lines("requirements.txt")


@pytest.mark.parametrize(
    ("ranges", "locks"),
    [
        (PROJECT["dependencies"], ["requirements.txt"]),
        (
            PROJECT["optional-dependencies"]["dev"],
            ["requirements.txt", "requirements-dev.txt"],
        ),
    ],
    ids=["run", "dev"],
)
def test_every_direct_dependency_is_locked_within_its_range(
    ranges: list[str], locks: list[str]
) -> None:
    locked = pins([line for name in locks for line in lines(name)])
    for requirement in map(Requirement, ranges):
        pin = locked[canonicalize_name(requirement.name)]
        (specifier,) = pin.specifier
        assert specifier.version in requirement.specifier, requirement.name
        assert str(pin.marker) == str(requirement.marker), requirement.name


def test_decord_is_left_out_where_it_has_no_wheel() -> None:
    decord = pins(lines("requirements.txt"))["decord"]
    arm = {**default_environment(), "platform_machine": "aarch64"}
    assert decord.marker is not None and not decord.marker.evaluate(arm)


def test_what_breaks_transformers_or_takes_gigabytes_is_not_locked() -> None:
    names = set(pins(lines("requirements.txt") + lines("requirements-dev.txt")))
    assert "torchvision" not in names
    assert not {name for name in names if name.startswith(("nvidia-", "cuda-", "triton"))}
    assert str(pins(lines("requirements.txt"))["torch"].specifier) == "==2.13.0"


def test_the_container_has_the_locks_torch_without_cuda() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert f"torch{pins(lines('requirements.txt'))['torch'].specifier} --index-url" in text
    copied = re.findall(r"^COPY (.*) \S+$", text, re.M)
    assert all((ROOT / name).exists() for names in copied for name in names.split())


def test_the_readme_begins_with_the_two_commands() -> None:
    run, test = fenced(ROOT / "README.md")[:2]
    for block in (run, test):
        assert block.count("\n") == 1 and block.startswith("python3 -m venv .venv && ")
    assert "pip install -r requirements.txt" in run
    assert run.endswith("snakemake --cores all --resources gpu=1\n")
    assert "pip install -r requirements-dev.txt" in test and "pytest -n 2" in test
    assert fenced(ROOT / "README.ko.md")[:2] == [run, test]
    above = (ROOT / "README.md").read_text(encoding="utf-8").split("```bash")[0]
    assert "##" not in above and len(above) < 400


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_parse_and_name_files_that_exist(page: Path) -> None:
    for block in fenced(page):
        subprocess.run(["bash", "-n"], input=block, text=True, check=True)
        for word in shlex.split(block):
            for name in LIBRARY_FILE.findall(word) if "://" not in word else []:
                assert name in OF_THE_READER or (ROOT / name).exists(), f"{page.name}: {name}"


@pytest.mark.parametrize("korean", [p for p in PAGES if ".ko" in p.name], ids=lambda p: p.name)
def test_a_page_says_in_korean_no_less_than_in_english(korean: Path) -> None:
    page = korean.with_name(korean.name.replace(".ko", ""))
    told = page.read_text(encoding="utf-8"), korean.read_text(encoding="utf-8")
    for part in (r"^#+ ", r"^\* ", r"^\|", r"^```\w*"):
        english, also = (re.findall(part, text, re.M) for text in told)
        assert english == also, part
    assert [block.replace(" --language ko", "") for block in fenced(korean)] == fenced(page)
    links = [set(re.findall(r"\]\(([^)#]+)", text.replace(".ko.md", ".md"))) for text in told]
    assert links[0] <= links[1] | {page.name}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_files_that_a_page_names_exist(page: Path) -> None:
    kept = [
        path.relative_to(ROOT).as_posix()
        for part in ("src", "workflow", "tools", "tests", "benchmarks")
        for path in (ROOT / part).rglob("*.py")
    ]
    # Files that a guide has its reader write stand in its code blocks, not between backticks.
    for name in re.findall(r"`([\w/]+\.py)`", page.read_text(encoding="utf-8")):
        assert any(f"/{path}".endswith(f"/{name}") for path in kept), f"{page.name}: {name}"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_the_commands_that_a_page_names_are_modules(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for module in re.findall(r"-m ((?:siglip_study|tools|benchmarks)[\w.]*\w)", text):
        path = (
            ROOT / ("src" if module.startswith("siglip_study") else "") / module.replace(".", "/")
        )
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_a_command_of_a_page_needs_no_environment_to_be_active(command: str) -> None:
    program, *_ = dropwhile(lambda word: "=" in word, shlex.split(command))
    if program.rpartition("/")[2] in ("python", "snakemake", "pytest", "pip", "ruff", "mypy"):
        assert program.startswith(".venv/bin/")


def test_the_cluster_page_fetches_the_models_of_the_study() -> None:
    page = (ROOT / "docs/cluster.md").read_text(encoding="utf-8")
    assert "-m siglip_study.models fetch config/mine.yaml" in page
    pinned = {m.key for m in models_of(load(ROOT / "config/study.yaml")) if m.revision}
    assert pinned == {"llm.model", "scorer.model"}


def test_the_library_imports_nothing_that_is_not_declared() -> None:
    declared = {canonicalize_name(Requirement(r).name) for r in PROJECT["dependencies"]}
    homes = packages_distributions()
    for path in sorted((ROOT / "src").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
        names += [
            n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and not n.level
        ]
        for top in {name.split(".")[0] for name in names} - {"siglip_study", "__future__"}:
            if top not in sys.stdlib_module_names:
                found = {canonicalize_name(home) for home in homes.get(top, [])}
                assert found & declared, f"{path.relative_to(ROOT)} imports {top}"
                assert top != "snakemake" or path.parts[-2].startswith("snakemake_"), (
                    f"{path.relative_to(ROOT)}: the library knows no Snakemake"
                )


def test_every_profile_runs_again_for_the_same_reasons():
    profiles = sorted((ROOT / "profiles").glob("*/profile.yaml"))
    told = {path.parent.name: yaml.safe_load(path.read_text("utf-8")) for path in profiles}
    assert {"default", "local", "slurm", "cluster-generic"} <= set(told)
    # A script's text and time are no reason: versions in the parameters are.
    expected = ["input", "mtime", "params", "software-env"]
    assert all(own["rerun-triggers"] == expected for own in told.values())
    assert all(own["rerun-incomplete"] for own in told.values())
