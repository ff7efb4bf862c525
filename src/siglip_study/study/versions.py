"""What code, versions and commit a result came from, and what of the code decides that it stays.

A stage of the workflow (manifest, features, training …) carries a number that stands beside its
code, ``VERSION`` in the package's ``__init__.py``: raised when the stage computes something else,
and then its results are made again. A test holds that nobody forgets it (``tools/stage_code.py``).
A projector is code that users write, so its own file decides by itself (:func:`code_hash`).
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path

from siglip_study.base.head import code_digest

_PACKAGE = Path(__file__).parents[1]
_REPORTED = (
    "siglip-study",
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "bitsandbytes",
    "evaluate",
    "bert-score",
    "kiwipiepy",
    "decord",
    "av",
    "polars",
    "snakemake",
)


class _Wordless(ast.NodeTransformer):
    """Leaves of a syntax tree what it computes: no docstrings, imports, messages, annotations."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        if isinstance(node.value, ast.Constant) or _is_logging(node.value):
            return None
        return self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        return None

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        return None

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if isinstance(node.exc, ast.Call):
            node.exc.args = [value for value in node.exc.args if not _has_text(value)]
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if isinstance(node.func, ast.Attribute) and node.func.attr == "require":
            node.args = node.args[:1]  # the condition; after it the words of its error
        return self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> ast.AST | None:
        # Texts of a config key (pydantic) and of a command's option (argparse).
        return None if node.arg in ("description", "help") else self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)


def _is_logging(node: ast.AST) -> bool:
    called = node.func if isinstance(node, ast.Call) else None
    return (
        isinstance(called, ast.Attribute)
        and isinstance(called.value, ast.Name)
        and called.value.id == "log"
    )


def _has_text(node: ast.AST) -> bool:
    return any(isinstance(n, ast.Constant) and isinstance(n.value, str) for n in ast.walk(node))


def what_it_does(tree: ast.AST) -> str:
    """A syntax tree as text, without what only people read: comments, docstrings, messages.

    As source, not as ``ast.dump``, which names fields that come and go with Python's versions.
    """
    return ast.unparse(_Wordless().visit(tree))


def code_hash(files: Iterable[Path]) -> str:
    """Twelve hex digits of what the files do; neither their names nor their order count."""
    trees = [what_it_does(ast.parse(path.read_text(encoding="utf-8"))) for path in files]
    return hashlib.sha256("\n".join(sorted(trees)).encode()).hexdigest()[:12]


def source_hash() -> str:
    """Hash of every source file to the letter: recorded, never a trigger."""
    return code_digest((str(_PACKAGE),))


def versions() -> dict[str, str]:
    """Python, platform and the packages that decide a result."""
    found = {"python": platform.python_version(), "platform": platform.platform(terse=True)}
    for name in _REPORTED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def git_commit(folder: Path | None = None) -> str:
    """The commit of the code, with ``+changes`` when the tree differs; ``unknown`` outside git."""
    where = str(folder or _PACKAGE)
    try:
        commit, changes = (
            subprocess.run(
                ["git", "-C", where, *command], capture_output=True, text=True, check=True
            ).stdout.strip()
            for command in (
                ["rev-parse", "HEAD"],
                ["status", "--porcelain", "--untracked-files=no"],
            )
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+changes" if changes else "")
