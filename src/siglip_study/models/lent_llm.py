"""The frozen language model that a kept process lends to one job after the other.

A job wraps it with adapters, unpacks and merges its weights and changes how its layers run. All of
that exchanges modules and attributes and writes into no weight, but for merged fp32 adapters; so
what a model was is a copy of its modules' attributes, and giving it back puts them in their place.
"""

from __future__ import annotations

import copy
import gc
import itertools
import logging
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from siglip_study.base import kept
from siglip_study.config.training import LlmConfig
from siglip_study.models.hub import model_stamp
from siglip_study.models.llm import load_llm

log = logging.getLogger(__name__)

# What a job may leave on a GPU beside the model: workspaces of libraries. More is a leak.
_LEFT_OVER = 2**30


def borrow_llm(config: LlmConfig, device: torch.device) -> nn.Module:
    """``load_llm``, in a kept process from the job before where that had the same one.

    There the model is the caller's until its job ends, and then as it was. A second one in the same
    job is loaded by itself.

    Raises:
        StudyError: as :func:`siglip_study.models.llm.load_llm`.
    """
    return _lender.borrow(config, device) if kept.is_kept() else load_llm(config, device)


class _Lender:
    def __init__(self) -> None:
        self.key: object = None
        self.state: _State | None = None
        self.is_lent = False
        self.leaked = False

    def borrow(self, config: LlmConfig, device: torch.device) -> nn.Module:
        if self.is_lent:
            return load_llm(config, device)
        parts = config.model, config.revision, config.weights, config.quantization
        key = (*parts, str(device), model_stamp(config.model, config.revision))
        if self.key is None:
            kept.tidied_by(self.take_back)
            kept.given_up_if(lambda: self.leaked)
        if key != self.key or self.state is None:
            self.key = self.state = None  # before the next one is made: there is room for one
            gc.collect()
            self.state = _State(load_llm(config, device))
            self.key = key
        else:
            log.debug("the language model of the job before is lent to this one")
        self.is_lent = True
        return self.state.model

    def take_back(self) -> None:
        """Restore the model; say whether the job left something else on the GPU."""
        if self.state is not None:
            self.state.restore()
        self.is_lent = False
        torch.manual_seed(torch.default_generator.initial_seed())
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
            own = self.state.nbytes() if self.state is not None else 0
            self.leaked = torch.cuda.memory_allocated() > own + _LEFT_OVER
            torch.cuda.reset_peak_memory_stats()


_lender = _Lender()


@dataclass(frozen=True)
class _Module:
    """A module as it was: its class, its attributes, and copies of those that are tables."""

    module: nn.Module
    kind: type
    attributes: dict[str, Any]

    def restore(self) -> None:
        self.module.__class__ = self.kind
        self.module.__dict__.clear()
        self.module.__dict__.update(_copied(self.attributes))


class _State:
    """A model and all that a job may change of it."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.modules = [_Module(m, type(m), _copied(vars(m))) for m in model.modules()]
        configs = (v for m in self.modules for v in m.attributes.values() if _is_config(v))
        self.configs = [(c, copy.deepcopy(vars(c))) for c in {id(c): c for c in configs}.values()]
        self.learns = [(p, p.requires_grad) for p in model.parameters()]
        # Merging adapters writes into fp32 weights, which only the CPU has.
        on_cpu = (t for t in self._tensors() if t.device.type == "cpu")
        self.values = [(t, t.detach().clone()) for t in on_cpu]

    def restore(self) -> None:
        for module in self.modules:
            module.restore()
        for config, attributes in self.configs:
            vars(config).clear()
            vars(config).update(copy.deepcopy(attributes))
        for parameter, learns in self.learns:
            parameter.requires_grad_(learns)
            parameter.grad = None
        with torch.no_grad():
            for tensor, value in self.values:
                tensor.copy_(value)

    def nbytes(self) -> int:
        """Bytes of the weights, as they are packed."""
        return sum(tensor.nbytes for tensor in self._tensors())

    def _tensors(self) -> list[Tensor]:
        return list(itertools.chain(self.model.parameters(), self.model.buffers()))


def _copied(attributes: dict[str, Any]) -> dict[str, Any]:
    """Attributes of a module; its tables of parameters, children and hooks are copied."""
    return {k: copy.copy(v) if isinstance(v, dict) else v for k, v in attributes.items()}


def _is_config(value: object) -> bool:
    from transformers import GenerationConfig, PretrainedConfig

    return isinstance(value, GenerationConfig | PretrainedConfig)
