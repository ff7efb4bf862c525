"""Which definitions of the library are reached by name from some of them.

Every function, class and constant whose name stands in a reached definition is reached. What is
found at run time by file name (projectors, metrics, dataset layouts) is not.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import re
import tomllib
from pathlib import Path

from siglip_study.study.versions import what_it_does

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
PACKAGE = "siglip_study"


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


class Reach:
    """Collects the definitions that are reached from dotted names."""

    def __init__(self, without: tuple[str, ...] = ()) -> None:
        self.without = tuple(f"{PACKAGE}.{name}" for name in without)
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
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                if node.value.startswith(f"{PACKAGE}."):
                    self.name(f"{node.value}.main")  # a module that is started as a process
                elif node.value.endswith(".py"):
                    beside = path.with_name(node.value)  # a file for another library
                    for inner in module_of(beside).definitions.values() if beside.is_file() else ():
                        self.statement(beside, inner)
                elif node.value.endswith(".toml"):  # data beside the code, without its comments
                    data = (path.parent / node.value).read_text(encoding="utf-8")
                    self.texts[path.parent / node.value, 0] = str(tomllib.loads(data))

    def hash(self) -> str:
        """Neither the order of definitions nor the files that they stand in count."""
        return hashlib.sha256("\n".join(sorted(set(self.texts.values()))).encode()).hexdigest()[:12]

    def script(self, path: Path) -> None:
        """Follow what a file outside the library imports from it."""
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = imports_of(tree)
        for dotted in names.values():
            self.name(dotted)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                self.name(f"{names.get(node.value.id, '')}.{node.attr}")


def _documented_commands() -> set[str]:
    """Modules of the library that the docs tell a reader to run."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "config").iterdir()]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    return set(re.findall(rf"-m ({PACKAGE}[\w.]*\w)", text))


def _documented_names() -> set[str]:
    """Dotted names of the public API page."""
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    return set(re.findall(rf"`({PACKAGE}\.[\w.]+)", text))


def unreached(found_by_file: tuple[str, ...]) -> list[str]:
    """Definitions that no rule, script, console, documented command or public name leads to.

    Args:
        found_by_file: rooms or packages whose files are found by name when the library runs;
            what they enter is decorated, or a layout's ``read`` and ``KEYS``.
    """
    reach = Reach()
    scripts = [
        *(ROOT / "workflow" / "scripts").glob("*.py"),
        *(ROOT / "tools").rglob("*.py"),
        *SOURCE.glob("snakemake_logger_plugin_*/*.py"),
    ]
    for script in scripts:
        reach.script(script)
    for rules in (ROOT / "workflow" / "rules").glob("*.smk"):
        for line in re.findall(r"^from .+", rules.read_text(encoding="utf-8"), re.M):
            for dotted in imports_of(ast.parse(line)).values():
                reach.name(dotted)
    for name in _documented_names():
        reach.name(name)
    for module in _documented_commands():
        reach.name(f"{module}.main")
        reach.name(f"{module}.__main__.main")
    missed = []
    files = sorted((SOURCE / PACKAGE).rglob("*.py"))
    for path in files:
        if path.name == "__init__.py":  # runs whenever anything of its room is imported
            for effect in module_of(path).effects:
                reach.statement(path, effect)
        dotted = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        if dotted.startswith(tuple(f"{PACKAGE}.{room}." for room in found_by_file)):
            for name, statement in module_of(path).definitions.items():
                if getattr(statement, "decorator_list", None) or name in ("read", "KEYS", "UNREAD"):
                    reach.name(f"{dotted}.{name}")
    for path in files:
        for name, statement in module_of(path).definitions.items():
            if (path, statement.lineno) not in reach.texts and not name.startswith("__"):
                missed.append(f"{path.relative_to(SOURCE / PACKAGE)}: {name}")
    return missed
