"""Bytes that a study writes, and those of the models it reads."""

from __future__ import annotations

from dataclasses import dataclass

from siglip_study.planning import estimate
from siglip_study.planning.forecast import Forecast
from siglip_study.planning.workload import Workload, connector_of


@dataclass(frozen=True)
class Disk:
    """Bytes by purpose."""

    features: int
    checkpoints: int
    #: of the largest stage that is running; freed when the next one has begun
    resume: int
    #: of the models' weights, fetched once
    models: int

    @property
    def written(self) -> int:
        """What the output folder must have room for."""
        return self.features + self.checkpoints + self.resume


def disk_needed(workload: Workload, forecast: Forecast) -> Disk:
    """Bytes for every cell that the study trains."""
    config, facts = workload.config, forecast.facts
    a_clip = estimate.feature_bytes(config.vision.frames, facts.patches, facts.vision_dim)
    lora = forecast.lora_parameters
    sizes = {
        connector: forecast.projector(connector).parameters for connector in workload.connectors
    }
    checkpoints = sum(
        estimate.checkpoint_bytes(sizes[connector_of(cell.run)], 0)
        for cell in workload.stage1_cells
    )
    checkpoints += sum(
        estimate.checkpoint_bytes(sizes[connector_of(cell.run)], lora) for cell in workload.cells
    )
    scorer = facts.scorer_images.stored + facts.scorer_texts.stored
    weights = facts.llm.layer_parameters + facts.llm.embedding_parameters
    return Disk(
        features=workload.encoded_clips * a_clip,
        checkpoints=checkpoints,
        # Two: a stage's own, and that of the stage before it, given up once it has begun.
        resume=2 * estimate.resume_bytes(max(sizes.values()), lora),
        # Hubs keep towers in fp32, LLMs in bf16.
        models=4 * (facts.vision.stored + scorer) + 2 * weights,
    )
