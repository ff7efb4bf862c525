"""Parts of the config that a training depends on: encoder, language model, stages, projector.

Their values name a cell, so a new key needs a default that means what was done before.
"""

from __future__ import annotations

import reprlib
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from siglip_study.config.types import (
    Apart,
    Axis,
    Count,
    CountOrNone,
    Fraction,
    Frames,
    HomePath,
    Layer,
    ModelSection,
    NotNegative,
    Number,
    Options,
    Positive,
    Rate,
    Section,
)


class VisionConfig(ModelSection):
    """The frozen vision encoder whose patch features the projectors read."""

    model: HomePath = Field(
        "openai/clip-vit-large-patch14-336", description="Hub id or local folder of the encoder."
    )
    layer: Layer | tuple[Layer, Layer] = Field(
        -2,
        description="Hidden layer that is read; −1 is the last, as in the published study. Two are "
        "laid side by side: features are twice as wide.",
    )
    frames: Frames = Field(8, description="Frames per clip, uniform in time.")
    frames_per_second: Positive | None = Field(
        None,
        description="Of a clip no more different frames than this a second; each is repeated until "
        "there are `frames`. null: all differ.",
    )

    def keys(self) -> dict[str, Any]:
        """All that features depend on; a key that is newer than features is left out at null."""
        newer = {"frames_per_second"} if self.frames_per_second is None else set()
        return self.model_dump(exclude=newer)

    @model_validator(mode="before")
    @classmethod
    def _reads_one_layer_or_two(cls, given: Any) -> Any:
        layer = given.get("layer", -2) if isinstance(given, dict) else -2
        two = isinstance(layer, list | tuple)
        try:
            read = TypeAdapter(tuple[Layer, Layer] if two else Layer).validate_python(layer)
        except ValidationError:
            read = (0, 0)
        if isinstance(read, tuple) and read[0] == read[1]:
            raise ValueError(
                f"layer is {reprlib.repr(layer)}; expected a whole number or two that differ, "
                "between -1000 and 1000"
            )
        return given

    @property
    def layers(self) -> tuple[int, ...]:
        """The hidden layers that are read, in the order in which they lie in the features."""
        return (self.layer,) if isinstance(self.layer, int) else self.layer


class LoraConfig(Section):
    """Low-rank adapters of stage 2 (Hu et al. 2021; DoRA: Liu et al. 2024)."""

    r: Count = Field(16, description="Rank.")
    alpha: Count = Field(32, description="Scale; the update is multiplied by alpha / r.")
    dropout: Annotated[float, Field(ge=0.0, lt=1.0), Number] = Field(
        0.05, description="Dropout before the adapters."
    )
    targets: Annotated[tuple[str, ...], Apart] = Field(
        ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        description="Names of the linear layers that get an adapter.",
    )
    dora: bool = Field(False, description="Weight-decomposed adapters (DoRA).")


class LlmConfig(ModelSection):
    """The frozen language model, its quantisation, its adapters and the prompt."""

    model: HomePath = Field("Qwen/Qwen3-8B", description="Hub id or local folder of the causal LM.")
    quantization: Literal["nf4", "none"] = Field(
        "nf4", description="4-bit NF4 with double quantisation through bitsandbytes, or none."
    )
    matmul: Literal["bf16", "fp8"] = Field(
        "bf16",
        description="How its frozen linear layers multiply in training: bf16 (fp32 on the CPU), or "
        "e4m3 with a scale a row (an H100 or newer).",
    )
    prompt: str = Field(
        "이 영상을 자세히 설명해주세요.", description="The question after the video."
    )
    vision_markers: tuple[str, str] | None = Field(
        None, description="Text around the video; null: the tokenizer's own markers, else none."
    )
    lora: LoraConfig = Field(LoraConfig(), description="Adapters of stage 2.")


class EarlyStopping(Section):
    """Stop a stage when the validation loss no longer falls."""

    patience: Count = Field(3, description="Epochs without improvement before the stage stops.")
    min_delta: NotNegative = Field(0.001, description="Smallest fall that counts.")


class StageConfig(Section):
    """One training stage. Lengths are in epochs; the schedule runs in optimizer steps."""

    epochs: Count = Field(2, description="Budget with a schedule of its own.")
    learning_rate: Rate = Field(1e-3, description="Peak rate of the projector.")
    lora_learning_rate: Rate | None = Field(
        None, description="Peak rate of the adapters (stage 2); null: the projector's."
    )
    batch_size: Count = Field(4, description="Clips a forward pass.")
    gradient_accumulation: Count = Field(2, description="Forward passes an optimizer step.")
    warmup_ratio: Fraction = Field(0.1, description="Share of the steps spent warming up.")
    min_lr_ratio: Fraction = Field(0.0, description="Floor of the cosine over its peak.")
    weight_decay: NotNegative = Field(
        0.01, description="AdamW; never on biases, norms and queries."
    )
    max_grad_norm: Positive = Field(1.0, description="Clipping threshold of the gradient norm.")
    keep: Literal["last", "val_loss"] | None = Field(
        None,
        description="Weights a stage ends with; null: val_loss, or last where halves are exchanged "
        "(`data.cross_fit`).",
    )
    early_stopping: EarlyStopping | None = Field(
        None, description="Off in fair grids: every cell takes the same steps."
    )


class TrainingConfig(Section):
    """What both stages share."""

    max_target_tokens: Count = Field(768, description="Captions are cut here, EOS included.")
    output_scale: Literal["embedding", "none"] = Field(
        "embedding", description="Scale the projector's output to the RMS of the LLM's embeddings."
    )
    quick_clips: CountOrNone = Field(
        16, description="Selection clips captioned after each epoch to watch for collapse."
    )
    quick_tokens: Count = Field(64, description="Token budget of those captions.")
    diagnosis_clips: CountOrNone = Field(
        32, description="Selection clips whose tokens are measured each epoch; 0: off."
    )


class ProjectorConfig(Section):
    """One projector under comparison; its label is its key in ``projectors``."""

    type: str | None = Field(
        None,
        description="Exact registry name, or `my_package.merger:PatchMerger`, whose code then "
        "runs; null: the label itself.",
    )
    options: Options = Field({}, description="Constructor options of that projector.")
    epochs: Axis[Count] | None = Field(
        None,
        description="Its own budgets in place of `grid.epochs`, for a study of equal GPU time.",
    )
    grid: dict[str, Axis[Any]] = Field(
        {},
        description="Its own axes, or values of an axis, in place of the grid's; `options.…` is "
        "one of its options.",
    )
