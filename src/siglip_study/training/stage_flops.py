"""How much a finished stage computed."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from siglip_study.base.errors import StudyError
from siglip_study.models.flops import projector_flops, run_flops
from siglip_study.models.sizes import llm_shape
from siglip_study.projectors.registry import build_projector

if TYPE_CHECKING:
    from siglip_study.models.vlm import VisionLanguageModel
    from siglip_study.study.cells import RunSpec

log = logging.getLogger(__name__)


def stage_flops(
    model: VisionLanguageModel, run: RunSpec, steps: Iterable[Mapping[str, Any]]
) -> float | None:
    """FLOP of a stage's optimizer steps, by the formulas of :mod:`siglip_study.models.flops`.

    None, said in the log, for a language model whose config does not spell its sizes: a finished
    training is not lost over a figure that stands beside it.

    Args:
        model: as it was trained; adapters count where it has them.
        run: the run it belongs to.
        steps: rows of ``steps.parquet`` (``samples``, ``target_tokens``).
    """
    settings: Any = model.llm.config
    try:
        llm = llm_shape(settings.to_dict(), f"llm.model {run.llm.model}")
    except StudyError as error:
        log.warning("FLOP of this stage are not counted: %s", error)
        return None
    rows = list(steps)
    built, layout = model.projector, model.layout
    # A twin that holds no memory: counting runs it forward and backward.
    with torch.device("meta"):
        twin = build_projector(
            run.projector, built.vision_dim, built.llm_dim, built.grid, built.frames, **run.options
        )
    video = twin.tokens_per_video(run.vision.frames, built.patches)
    return run_flops(
        llm,
        sum(row["samples"] for row in rows),
        sum(row["target_tokens"] for row in rows),
        len(layout.before) + video + len(layout.after),
        projector_flops(twin, 1, built.patches, built.vision_dim),
        sum(p.numel() for name, p in model.llm.named_parameters() if "lora_" in name),
    )
