"""What code, versions and commit a result came from."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import platform
import subprocess
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]

# The modules and sub-packages that decide what a rule computes.
RULE_CODE: dict[str, tuple[str, ...]] = {
    "demo": (
        "demo/world",
        "demo/render",
        "demo/render",
        "demo/render",
        "demo/lexicon",
        "demo/captions",
        "demo/dataset",
    ),
    "manifest": ("data",),
    "vision_features": (
        "data/decoding",
        "data/probing",
        "data/decoding",
        "features/towers",
        "features/images",
        "features/pipeline",
        "features/store",
    ),
    "scorer_features": (
        "data/decoding",
        "data/probing",
        "data/decoding",
        "features/towers",
        "features/store",
        "features/images",
        "features/images",
        "features/pipeline",
        "features/scorer",
    ),
    "training": (
        "models/vlm",
        "models/llm",
        "models/prompt",
        "models/quantization",
        "models/fast_layers",
        "models/fast_layers",
        "models/fast_layers",
        "training",
        "runs",
        "projectors",
    ),
    "captions": ("captioning",),
    "baselines": (
        "scoring/baselines",
        "scoring/baselines",
        "features/chunking",
        "features/scorer",
        "metrics/siglip",
    ),
    "scorer_check": (
        "ranking/scorer_check",
        "features/chunking",
        "features/towers",
        "features/scorer",
        "metrics/grounding",
        "metrics/siglip",
        "ranking/variance",
        "ranking/scorer_check",
        "ranking/scores",
        "ranking/variance",
        "ranking/within",
    ),
    "score": (
        "demo/facts",
        "scoring/cell_scores",
        "scoring/split_scorer",
        "scoring/scores",
        "scoring/split_scorer",
        "scoring/scores",
        "scoring/cell_scores",
        "features/chunking",
        "features/towers",
        "features/scorer",
        "metrics",
        "scoring",
    ),
    "select": ("ranking",),
    "pool": (
        "demo/facts",
        "ranking/pooling",
        "scoring/cell_scores",
        "metrics/grounding",
        "metrics/registry",
        "scoring/score_captions",
    ),
    "tables": (
        "ranking/ranking_file",
        "ranking/selection_file",
        "metrics/grounding",
        "metrics/registry",
        "ranking",
        "report/controls",
        "report/controls",
        "report/glossary",
        "report/ledger",
        "report/results",
        "report/schema",
        "report/sensitivity",
        "report/tables",
        "report/words",
    ),
    "report": ("demo/facts", "ranking/truth_order", "ranking", "report"),
}
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


def _without_docstrings(tree: ast.AST) -> ast.AST:
    # Any bare string, not only a body's first statement: attributes carry docstrings too.
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            body[:] = [statement for statement in body if not _is_text(statement)]
    return tree


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _files(names: tuple[str, ...]) -> list[Path]:
    files: list[Path] = []
    for name in names:
        path = _PACKAGE / name
        files += sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    return files


def algorithm_hash(*names: str) -> str:
    """Hash of what the named modules or sub-packages *do*: their syntax trees without docstrings.

    A rule carries it in ``params``: a changed algorithm reruns it, a changed comment does not.
    """
    digest = hashlib.sha256()
    for path in _files(names):
        tree = _without_docstrings(ast.parse(path.read_text(encoding="utf-8")))
        digest.update(path.relative_to(_PACKAGE).as_posix().encode())
        digest.update(ast.dump(tree).encode())
    return digest.hexdigest()[:12]


@functools.cache
def rule_code(rule: str) -> str:
    """The algorithm hash that a rule carries; one process asks for it once a cell."""
    return algorithm_hash(*RULE_CODE[rule])


def source_hash() -> str:
    """Hash of every source file to the letter: recorded, never a trigger."""
    digest = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


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
    where = folder or _PACKAGE
    try:
        commit = subprocess.run(
            ["git", "-C", str(where), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        dirty = subprocess.run(
            ["git", "-C", str(where), "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+changes" if dirty else "")
