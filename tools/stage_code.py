"""The code behind each stage's version number, followed through imports, as one hash.

Run with:

    python -m tools.stage_code            # which stages' code differs from the record
    python -m tools.stage_code --record   # keep the hashes of today's code

A stage is what a rule's script calls. From there every function, class and constant that is
reached by name is followed, so that a new metric, a moved module, a reworded error or another
room's code changes no hash. Projectors are found by file name and so are never reached: a run
carries its own projector's hash instead.
"""

from __future__ import annotations

import argparse
import ast
import functools
import hashlib
import importlib
import json
from dataclasses import dataclass
from pathlib import Path

from siglip_study.study.versions import what_it_does

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
RECORD = ROOT / "tests" / "study" / "stage_code.json"
PACKAGE = "siglip_study"
# How a job is run and where things lie, not what comes out: a rule's parameters carry the config.
PLUMBING = ("base.errors", "base.io", "base.jobs", "config", "study")


@dataclass(frozen=True)
class Stage:
    """Scripts of the workflow that share a version number, and where the number stands."""

    scripts: tuple[str, ...]
    package: str
    number: str = "VERSION"
    #: What the scripts call besides, with a number of its own.
    without: tuple[str, ...] = ()

    @property
    def version(self) -> int:
        """The number as the code has it."""
        return int(getattr(importlib.import_module(f"{PACKAGE}.{self.package}"), self.number))

    @property
    def place(self) -> str:
        """Where a person raises it."""
        return f"{self.number} in src/{PACKAGE}/{self.package}/__init__.py"


STAGES = {
    "demo": Stage(("demo",), "demo"),
    "manifest": Stage(("manifest",), "data"),
    "vision features": Stage(("vision_features",), "features", "VISION_VERSION"),
    "scorer features": Stage(("scorer_features",), "features", "SCORER_VERSION"),
    "training": Stage(("stage1", "stage2"), "training", without=("captioning.cell",)),
    "captions": Stage(("captions",), "captioning"),
    "baselines": Stage(("baselines",), "scoring", "BASELINES_VERSION"),
    "scores": Stage(("score",), "scoring"),
    "scorer check": Stage(("scorer_check",), "ranking", "CHECK_VERSION"),
    "selection": Stage(("select_cells",), "ranking"),
    "tables": Stage(("tables",), "report", "TABLES_VERSION"),
    "page": Stage(("report",), "report"),
}


class Module:
    """One file: its top-level definitions by name, and what its imports stand for."""

    def __init__(self, path: Path) -> None:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        self.definitions: dict[str, ast.stmt] = {}
        self.effects: list[ast.stmt] = []
        for statement in tree.body:
            names = _defined(statement)
            for name in names:
                self.definitions[name] = statement
            if not names and not _is_silent(statement):
                self.effects.append(statement)
        self.imports = imports_of(tree)


def _defined(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return [n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)]
    return []


def _is_silent(statement: ast.stmt) -> bool:
    """An import, a docstring, or imports for type checkers alone."""
    return (
        isinstance(statement, ast.Import | ast.ImportFrom)
        or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
        or (isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test))
    )


def imports_of(tree: ast.AST) -> dict[str, str]:
    """Local name → dotted name, of everything that is imported from this library."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
            for alias in node.names:
                found[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return found


@functools.cache
def module_file(dotted: str) -> Path | None:
    """The file of a dotted module name, or nothing."""
    path = SOURCE / dotted.replace(".", "/")
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@functools.cache
def module_of(path: Path) -> Module:
    return Module(path)


class _Reach:
    """Collects the definitions that are reached from dotted names."""

    def __init__(self, without: tuple[str, ...]) -> None:
        self.without = tuple(f"{PACKAGE}.{name}" for name in (*PLUMBING, *without))
        self.texts: dict[tuple[Path, int], str] = {}

    def name(self, dotted: str) -> None:
        """Follow ``package.module.definition``; a module by itself gives nothing."""
        if module_file(dotted):
            return
        parent, _, name = dotted.rpartition(".")
        path = module_file(parent)
        if path is None or any(f"{parent}.".startswith(f"{out}.") for out in self.without):
            return
        module = module_of(path)
        if name in module.definitions:
            for effect in module.effects:
                self.statement(path, effect)
            self.statement(path, module.definitions[name])
        elif name in module.imports:
            self.name(module.imports[name])

    def statement(self, path: Path, statement: ast.stmt) -> None:
        """Keep what a top-level statement does, and follow the names in it."""
        if (path, statement.lineno) in self.texts:
            return
        module = module_of(path)
        # A copy: parsing anew is the simplest one, and the transformer changes what it visits.
        copy = ast.parse(ast.unparse(statement))
        for node in ast.walk(copy):
            if isinstance(node, ast.Name) and module_file(module.imports.get(node.id, "")):
                node.id = "module"
        self.texts[path, statement.lineno] = what_it_does(copy)
        for node in ast.walk(statement):
            if isinstance(node, ast.Name):
                if node.id in module.definitions:
                    self.statement(path, module.definitions[node.id])
                elif node.id in module.imports:
                    self.name(module.imports[node.id])
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                self.name(f"{module.imports.get(node.value.id, '')}.{node.attr}")

    def hash(self) -> str:
        """Neither the order of definitions nor the files that they stand in count."""
        return hashlib.sha256("\n".join(sorted(set(self.texts.values()))).encode()).hexdigest()[:12]


def reached(stage: Stage) -> _Reach:
    """What the library functions do that the stage's scripts import."""
    reach = _Reach(stage.without)
    for script in stage.scripts:
        path = ROOT / "workflow" / "scripts" / f"{script}.py"
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = imports_of(tree)
        for dotted in names.values():
            reach.name(dotted)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                reach.name(f"{names.get(node.value.id, '')}.{node.attr}")
    return reach


def today() -> dict[str, dict[str, int | str]]:
    """Version number and code hash of every stage."""
    return {
        name: {"version": stage.version, "code": reached(stage).hash()}
        for name, stage in STAGES.items()
    }


def complaints(
    recorded: dict[str, dict[str, int | str]], found: dict[str, dict[str, int | str]]
) -> list[str]:
    """What to do about every stage whose code or number is not the recorded one."""
    record = "python -m tools.stage_code --record"
    said = []
    for name, now in found.items():
        before = recorded.get(name)
        if before == now:
            continue
        if before and before["version"] == now["version"]:
            said.append(
                f"The code behind '{name}' changed, its version did not. If it computes something "
                f"else, raise {STAGES[name].place}: finished studies make those results again. If "
                f"its results stay the same, leave the number. Then, either way: {record}"
            )
        else:
            said.append(f"The version of '{name}' is not the recorded one. Keep it: {record}")
    return said


def main() -> int:
    """Print what differs from the record, or keep it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--record", action="store_true", help="keep the hashes of today's code")
    found = today()
    if parser.parse_args().record:
        RECORD.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        return 0
    said = complaints(json.loads(RECORD.read_text(encoding="utf-8")), found)
    print("\n".join(said) or "Every stage's code is the recorded one.")
    return 1 if said else 0


if __name__ == "__main__":
    raise SystemExit(main())
