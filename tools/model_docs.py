"""Keeps the tables of supported models and of projectors in docs/models.md equal to the code.

Run with: ``python -m tools.model_docs docs/models.md``
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from siglip_study.models.families import (
    LLM_FAMILIES,
    MULTIMODAL,
    REFUSED_LLMS,
    REFUSED_VISION,
    VISION_FAMILIES,
    LlmFamily,
    VisionFamily,
)
from siglip_study.projectors import build, projector_names
from siglip_study.projectors.base import FeatureShape
from tools.pages import write_tables

_HEAD = "| `model_type` | supported | how, or why not |\n| --- | --- | --- |\n"


class _Registers:
    """Stands for a tower's config, with four registers."""

    num_register_tokens = 4


def _tower(family: VisionFamily) -> str:
    before = family.prefix_tokens(_Registers())
    told = {0: "every token is a patch", 1: "CLS left out", 2: "CLS and distillation left out"}
    size = "any size of picture" if family.any_size else "pictures of its own size"
    return f"{told.get(before, 'CLS and registers left out')}; {size}"


def _llm(family: LlmFamily) -> str:
    if family.fused:
        names = ", ".join(f"`{name}`" for name in family.fused)
        return f"adapters (`llm.lora.targets`) go on {names} in place of their parts"
    if family == LLM_FAMILIES["llama"]:
        return "as Llama"
    return "its factor on the logits is part of the loss"


def _rows(supported: Mapping[str, str], refused: Mapping[str, str]) -> str:
    """A line for all types of which the same is said, in the order of the code."""
    lines = []
    for answer, told in (("yes", supported), ("no", refused)):
        for what in dict.fromkeys(told.values()):
            names = ", ".join(f"`{name}`" for name, said in told.items() if said == what)
            lines.append(f"| {names} | {answer} | {what} |\n")
    return _HEAD + "".join(lines)


def encoders() -> str:
    """The table of vision towers."""
    return _rows({k: _tower(family) for k, family in VISION_FAMILIES.items()}, REFUSED_VISION)


def language_models() -> str:
    """The table of language models."""
    known = {kind: _llm(family) for kind, family in LLM_FAMILIES.items()}
    known |= dict.fromkeys(MULTIMODAL, "its text model alone is loaded")
    return _rows(known, REFUSED_LLMS)


#: Features of the table: 8 frames of 24 × 24 patches of width 1024, for a model of width 4096.
SHAPE, LLM_DIM = FeatureShape(8, (24, 24), 1024), 4096


def projectors() -> str:
    """The table of projectors, with what their default options come to."""
    rows = ["| projector | what it does | parameters | tokens a clip |\n", "|---|---|---|---|\n"]
    for name in projector_names():
        with torch.device("meta"):
            built = build(name, SHAPE, LLM_DIM)
        does = inspect.cleandoc(type(built).__doc__ or "").split("\n\nArgs:")[0]
        does = does.split("\n\nPosition:")[0].replace("\n", " ").replace("``", "`")
        tokens = built.tokens_per_video(SHAPE.frames)
        rows.append(f"| `{name}` | {does} | {built.n_parameters():,} | {tokens:,} |\n")
    return "".join(rows)


TABLES: dict[str, Callable[[], str]] = {
    "encoders": encoders,
    "language models": language_models,
    "projectors": projectors,
}


def tables() -> dict[str, str]:
    """Each table of the page as it should be."""
    return {name: table() for name, table in TABLES.items()}


def main(page: Path) -> None:
    """Rewrite the tables of the page."""
    write_tables(page, tables())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
