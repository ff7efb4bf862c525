"""The models of a study as sizes, read from their config files; no weight is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from siglip_study.config.study import Config
from siglip_study.models.sizes import LlmShape, TowerShape, llm_shape, text_shape, vision_shape

if TYPE_CHECKING:
    from siglip_study.models.llm import PromptLayout
    from siglip_study.planning.workload import Connector
    from siglip_study.projectors.base import Projector

#: Tokens before and after the video where the tokenizer is not at hand (Qwen3, default prompt).
ASSUMED_PROMPT = (4, 24)


@dataclass(frozen=True)
class ModelFacts:
    """Sizes of the four towers, and the patch grid that projectors see."""

    llm: LlmShape
    vision: TowerShape
    scorer_images: TowerShape
    scorer_texts: TowerShape
    grid: tuple[int, int]

    @property
    def patches(self) -> int:
        """P, the patches of a frame."""
        return self.grid[0] * self.grid[1]

    @property
    def vision_dim(self) -> int:
        """V, the width of the features."""
        return self.vision.width

    def projector(self, connector: Connector, frames: int, device: str = "meta") -> Projector:
        """A projector of this connector; on ``meta`` it costs neither time nor memory."""
        import torch

        from siglip_study import projectors

        shape = projectors.FeatureShape(frames, self.grid, self.vision_dim)
        with torch.device(device):
            return projectors.build(connector.type, shape, self.llm.width, **connector.options)


def model_facts(config: Config) -> ModelFacts:
    """Sizes of a study's models.

    Raises:
        StudyError: a model's config is not at hand, or is of no supported kind.
    """
    from siglip_study.models.architectures import architecture

    vision, scorer, llm = config.vision, config.scorer, config.llm
    raw = architecture(vision.model, vision.revision, "vision.model")
    size = frame_size(raw, vision.model, "vision.model")
    patch = int(raw.get("vision_config", raw).get("patch_size", 32))
    raw_scorer = architecture(scorer.model, scorer.revision, "scorer.model")
    scorer_size = frame_size(raw_scorer, scorer.model, "scorer.model")
    raw_llm = architecture(llm.model, llm.revision, "llm.model")
    return ModelFacts(
        llm=llm_shape(raw_llm, f"llm.model {llm.model}"),
        vision=vision_shape(raw, size, vision.layer),
        scorer_images=vision_shape(raw_scorer, scorer_size, -1),
        scorer_texts=text_shape(raw_scorer),
        grid=(size[0] // patch, size[1] // patch),
    )


def tokenizer_at_hand(config: Config) -> Any:
    """The LLM's tokenizer if it is on this machine, else None; nothing is fetched."""
    from transformers import AutoTokenizer

    from siglip_study.models.hub import quiet_transformers

    try:
        with quiet_transformers():
            return AutoTokenizer.from_pretrained(
                config.llm.model,
                revision=config.llm.revision,
                local_files_only=True,
                trust_remote_code=False,
            )
    except (OSError, ValueError):
        return None


def prompt_at_hand(config: Config, tokenizer: Any, vocab: int) -> PromptLayout:
    """The prompt's layout, or one of the assumed length where there is no tokenizer."""
    from siglip_study.models.llm import PromptLayout, prompt_layout

    if tokenizer is not None:
        return prompt_layout(tokenizer, config.llm)
    before, after = ASSUMED_PROMPT
    last = vocab - 1
    return PromptLayout((1,) * before, (1,) * after, (1,) * (before + after), last, last)


def frame_size(config: Mapping[str, Any], model: str, key: str) -> tuple[int, int]:
    """Pixels of a frame: as the image processor makes it where its settings are at hand."""
    from siglip_study.features.images import PatchTransform, image_settings, transform_from
    from siglip_study.models.architectures import image_processor
    from siglip_study.models.hub import is_folder

    settings = image_processor(model)
    if is_folder(model):
        settings = image_settings(model, None, key, "pretrained")
    if settings is not None:
        made = PatchTransform if config.get("model_type") == "siglip2" else transform_from
        return made(settings, f"{key} '{model}'").size
    side = int(config.get("vision_config", config).get("image_size", 224))
    return side, side
