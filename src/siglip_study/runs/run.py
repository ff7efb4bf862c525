"""A run on a device: what both stages and captioning build their models and clips from."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from siglip_study import projectors
from siglip_study.base.errors import Damaged, StudyError
from siglip_study.base.io import (
    atomic_dir,
    file_digest,
    file_digests,
    read_index,
    read_parquet,
    write_digest,
    write_json,
)
from siglip_study.base.seeds import derived_seed
from siglip_study.config.study import RuntimeConfig
from siglip_study.config.training import LlmConfig
from siglip_study.models.devices import device_of, limit_memory, single
from siglip_study.models.lent_llm import borrow_llm
from siglip_study.models.llm import (
    PromptLayout,
    add_lora,
    load_tokenizer,
    merge_adapters,
    prompt_layout,
)
from siglip_study.models.vlm import VisionLanguageModel
from siglip_study.runs.clips import Clips, NoiseFeatures, derangement, tokenize_captions
from siglip_study.study.cells import RunSpec

log = logging.getLogger(__name__)

# ---- The checkpoint a stage leaves: projector, adapters, and what they were trained with.
#
# ``projector.safetensors`` holds the projector and the two scales, ``lora/`` is a standard peft
# adapter, ``checkpoint.json`` says which run it is and what bytes the others hold. (What a running
# stage needs beyond it, optimizer and position, lives in its resume point.)

SCHEMA = "checkpoint/2"
#: of studies finished before: no digests
_UNCHECKED_SCHEMA = "checkpoint/1"


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
            for config in model.llm.peft_config.values():  # type: ignore[operator]
                # As peft has it, a set, in another order in each process.
                config.target_modules = sorted(config.target_modules)
            model.llm.save_pretrained(  # type: ignore[operator]
                partial / "lora", save_embedding_layers=False
            )
        files = {"files": file_digests(partial)}
        write_json(partial / "checkpoint.json", facts | files, SCHEMA)
        write_digest(partial / "checkpoint.json")


def check_checkpoint(folder: Path) -> None:
    """Hold a checkpoint against what was written.

    Raises:
        StudyError: it is absent, or a file is absent or holds other bytes.
    """
    if not folder.is_dir():
        raise StudyError(f"{folder}: no such checkpoint; expected stage 1 or 2 to have written it.")
    facts = read_index(folder / "checkpoint.json", SCHEMA, _UNCHECKED_SCHEMA)
    for name, digest in facts.get("files", {}).items():
        path = folder / name
        if not path.is_file() or file_digest(path) != digest:
            raise Damaged(f"{path}: {'damaged' if path.is_file() else 'missing'}", folder)


def load_projector(folder: Path, model: VisionLanguageModel) -> None:
    """Load projector and scales into ``model``.

    Raises:
        StudyError: the checkpoint is absent or damaged, or was made for another architecture.
    """
    own = {k: v for k, v in model.state_dict().items() if not k.startswith("llm.")}
    tensors = _tensors_like(own, folder, "projector.safetensors", "projector")
    model.load_state_dict(tensors, strict=False)


def _tensors_like(own: dict[str, Tensor], folder: Path, name: str, of: str) -> dict[str, Tensor]:
    """The tensors of a checkpoint's file, which must be named and shaped as ``own``."""
    check_checkpoint(folder)
    path = folder / name
    if not path.is_file():
        raise StudyError(f"{path}: no such file; expected the weights of this {of}.")
    tensors = load_file(path)
    expected, found = ({k: v.shape for k, v in all_.items()} for all_ in (own, tensors))
    if found != expected:
        differing = sorted(set(found.items()) ^ set(expected.items()))[0][0]
        raise StudyError(
            f"{path}: tensor '{differing}' does not fit; expected a checkpoint of this {of}."
        )
    return tensors


def load_adapters(folder: Path, llm: nn.Module, config: LlmConfig) -> nn.Module:
    """Put the adapters of a checkpoint on ``llm`` and merge them where that is exact.

    The run says what they are; peft would take modules to import from ``adapter_config.json``, and
    a pickle where there are no safetensors.

    Raises:
        StudyError: the checkpoint is absent or damaged, or was made for other adapters.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    check_checkpoint(folder)
    adapted: Any = add_lora(llm, config.lora).eval().requires_grad_(False)
    own = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    tensors = _tensors_like(own, folder, "lora/adapter_model.safetensors", "LLM's adapters")
    set_peft_model_state_dict(adapted, tensors)
    return merge_adapters(adapted, config)


# ---- The run itself.


@dataclass(frozen=True)
class Inputs:
    """Files a run reads: the clips and the feature folder of each split it needs."""

    clips: Mapping[str, Path]
    features: Mapping[str, Path]

    @classmethod
    def of(cls, splits: Sequence[str], clips: Sequence[str], features: Sequence[str]) -> Inputs:
        """Files given in the order of ``splits``."""
        return cls(
            dict(zip(splits, map(Path, clips), strict=True)),
            dict(zip(splits, map(Path, features), strict=True)),
        )


def use_device(runtime: RuntimeConfig) -> Accelerator:
    """The accelerator of a job of one process."""
    return single(device_of(runtime))


def first_model(
    run: RunSpec,
    facts: Mapping[str, Any],
    layout: PromptLayout,
    device: torch.device,
    adapters: Path | None = None,
) -> VisionLanguageModel:
    """Frozen LLM and a projector initialised from the run's seed, on ``device``.

    Args:
        run: what it is made of.
        facts: of the encoder: ``grid`` and ``dim``.
        layout: of the prompt.
        device: where it is to work.
        adapters: a checkpoint whose adapters are put on the LLM, merged where that is exact.
    """
    llm = borrow_llm(run.llm, device)
    width = llm.config.get_text_config().hidden_size  # type: ignore[operator, union-attr]
    if adapters is not None:
        llm = load_adapters(adapters, llm, run.llm)
    torch.manual_seed(derived_seed("projector", run.seed))
    shape = projectors.FeatureShape(run.vision.frames, tuple(facts["grid"]), facts["dim"])
    projector = projectors.build(run.projector, shape, width, **run.options)
    return VisionLanguageModel(projector, llm, layout).to(device)


class LoadedRun:
    """A run on a device: tokenizer, prompt layout and clips, from which models are built."""

    def __init__(
        self, run: RunSpec, inputs: Inputs, accelerator: Accelerator, memory_gb: float | None = None
    ) -> None:
        from siglip_study.features.store import FeatureStore

        limit_memory(accelerator.device, memory_gb)
        self.memory_gb = memory_gb
        self.run = run
        self.inputs = inputs
        self.accelerator = accelerator
        self.tokenizer = load_tokenizer(run.llm)
        self.layout = prompt_layout(self.tokenizer, run.llm)
        self.stores = {split: FeatureStore(path) for split, path in inputs.features.items()}

    def model(self, adapters: Path | None = None) -> VisionLanguageModel:
        """Frozen LLM and a projector initialised from the run's seed (not calibrated yet).

        ``adapters``: a checkpoint whose adapters are put on the LLM, merged where that is exact.
        """
        facts = next(iter(self.stores.values())).facts
        return first_model(self.run, facts, self.layout, self.accelerator.device, adapters)

    def clips(self, split: str) -> Clips:
        """Clips of a split with their targets; spoiled where the run says so."""
        import polars as pl

        rows = read_parquet(self.inputs.clips[split]).filter(pl.col("split") == split)
        ids, captions = rows["id"].to_list(), rows["captions"].to_list()
        store = self.stores[split]
        if self.run.sabotage == "permuted_captions" and split == "train":
            captions = [captions[i] for i in derangement(len(ids), "captions", self.run.seed)]
        tokens, cut = tokenize_captions(
            self.tokenizer, captions, self.layout.eos, self.run.training.max_target_tokens
        )
        if cut:
            limit = self.run.training.max_target_tokens
            log.info("%s: %d captions cut to %d tokens", split, cut, limit)
        features = NoiseFeatures(store) if self.run.sabotage == "noise_features" else store
        return Clips(tuple(ids), features, tokens, cut)

    def log_masked_sample(self, clips: Clips, video_tokens: int) -> None:
        """Show what is read and what is learned, so that a wrong mask is seen before step 1."""
        decode = self.tokenizer.decode
        target = clips.captions[0][0]
        ends = "ends in EOS" if target[-1] == self.layout.eos else "cut: no EOS"
        log.debug(
            "sample %s\n  read, no loss: %s[video × %d]%s\n  learned (%d tokens, %s): %s",
            clips.ids[0],
            decode(self.layout.before),
            video_tokens,
            decode(self.layout.after),
            len(target),
            ends,
            decode(target),
        )
