"""The checkpoint a stage leaves: projector, adapters, and what they were trained with.

``projector.safetensors`` holds the projector and the two scales, ``lora/`` is a standard peft
adapter, ``checkpoint.json`` says which run it is. (What a running stage needs beyond it, optimizer
and position, lives in its resume point.)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import nn

from siglip_study.base.errors import StudyError
from siglip_study.base.io import atomic_dir, read_json, write_json
from siglip_study.config.training import LlmConfig
from siglip_study.models.llm import merge_adapters
from siglip_study.models.vlm import VisionLanguageModel

SCHEMA = "checkpoint/1"


def save_checkpoint(folder: Path, model: VisionLanguageModel, facts: dict[str, Any]) -> None:
    """Write the checkpoint whole: the adapters too where the LLM has any."""
    with atomic_dir(folder) as partial:
        tensors = {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in model.state_dict().items()
            if not name.startswith("llm.")
        }
        save_file(tensors, partial / "projector.safetensors")
        if hasattr(model.llm, "peft_config"):
            # "auto", the default, asks the hub whether the vocabulary was resized.
            model.llm.save_pretrained(  # type: ignore[operator]
                partial / "lora", save_embedding_layers=False
            )
        write_json(partial / "checkpoint.json", facts, SCHEMA)


def load_projector(folder: Path, model: VisionLanguageModel) -> None:
    """Load projector and scales into ``model``.

    Raises:
        StudyError: the checkpoint is absent, or was made for another architecture.
    """
    path = folder / "projector.safetensors"
    if not path.is_file():
        raise StudyError(f"{path}: no such checkpoint; expected stage 1 or 2 to have written it.")
    tensors = load_file(path)
    expected = {k: v.shape for k, v in model.state_dict().items() if not k.startswith("llm.")}
    found = {k: v.shape for k, v in tensors.items()}
    if found != expected:
        differing = sorted(set(found.items()) ^ set(expected.items()))[0][0]
        raise StudyError(
            f"{path}: tensor '{differing}' does not fit; expected a checkpoint of this projector."
        )
    model.load_state_dict(tensors, strict=False)


def load_adapters(folder: Path, llm: nn.Module, config: LlmConfig) -> nn.Module:
    """Put the adapters of a checkpoint on ``llm`` and merge them where that is exact."""
    from peft import PeftModel

    return merge_adapters(
        PeftModel.from_pretrained(llm, folder / "lora", is_trainable=False), config
    )


def checkpoint_facts(folder: Path) -> dict[str, Any]:
    """The JSON part of a checkpoint."""
    return read_json(folder / "checkpoint.json", SCHEMA)
