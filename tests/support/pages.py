"""The commands of the pages, and what runs them.

A test that runs a command of a page takes it from ``documented``, word for word as the page has it;
``tests/workflow/test_docs_commands.py`` holds that no command of a page is without such a test.
"""

import ast
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "README.ko.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
README_RUN, README_TEST = range(2)  # its first shell blocks


def fenced(page: Path) -> list[str]:
    """The shell blocks of a page."""
    return re.findall(r"^```bash\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)


def commands(block: str) -> Iterator[str]:
    """Its commands, one at a time, without comments and the reader's line breaks."""
    for line in block.replace("\\\n", " ").splitlines():
        for command in re.sub(r"(^|\s)#\s.*", "", line).split("&&"):
            if command.strip():
                yield re.sub(r"\s+", " ", command).strip()


def in_sentences(page: Path) -> list[str]:
    """The commands of an environment, and ``.ci/run``, that stand within a page's sentences."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return re.findall(r"`(\.(?:venv/bin|ci)/[^`]*)`", text.replace("\n", " "))


COMMANDS = {
    command
    for page in PAGES
    for block in (*fenced(page), *in_sentences(page))
    for command in commands(block)
}


def documented(command: str, instead: Mapping[str, object] | None = None) -> str:
    """``command``, which a page must have, with names that the page made up replaced."""
    assert command in COMMANDS, f"no page has: {command}"
    for name, own in (instead or {}).items():
        assert name in command, f"{command}: has no {name}"
        command = command.replace(name, shlex.quote(str(own)))
    return command


def arguments(command: str) -> list[str]:
    """What ``.venv/bin/python -m MODULE …`` gives the module, for its ``main``."""
    python, option, _, *words = shlex.split(command)
    assert (python, option) == (".venv/bin/python", "-m"), command
    return words[: words.index(">")] if ">" in words else words


def shell(command: str, folder: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command as a page spells it, in a folder, as a reader's shell would."""
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


def put_library_in(folder: Path) -> None:
    """Let ``PYTHONPATH=$PWD`` find this library, wherever the environment has its own from."""
    for package in (ROOT / "src").iterdir():
        (folder / package.name).symlink_to(package)


def outside_projector() -> tuple[str, dict[str, Any]]:
    """The guide's projector as a file of another package, and the config's keys that name it."""
    guide = (ROOT / "docs/add-a-projector.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", guide, re.M | re.S)
    *_, keys = re.findall(r"^```yaml\n(.*?)^```$", guide, re.M | re.S)
    code = re.sub(r"^@register.*\n|^from .* import register\n", "", code, flags=re.M)
    return code, yaml.safe_load(keys)


def run_by_tests() -> set[str]:
    """Commands that test files ask ``documented`` for."""
    calls = [
        node
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "documented"
    ]
    return {ast.literal_eval(call.args[0]) for call in calls}


def run_by_ci() -> set[str]:
    """``.ci/run``, the README's test block that it takes, and its further steps."""
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert "- run: .ci/run\n" in (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    steps = re.findall(r'^(?:step ".*"|) .*?"\$bin/(\w+)"(.*)$', script, re.M)
    of_readme = fenced(ROOT / "README.md")[README_TEST]
    return {".ci/run", *commands(of_readme), *(f".venv/bin/{name}{rest}" for name, rest in steps)}
