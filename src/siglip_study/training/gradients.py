"""Which part of the model the gradient falls on, without waiting for the GPU in a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

PROJECTOR, LORA = "projector", "lora"


def gradient_parts(trainable: Mapping[str, nn.Parameter]) -> dict[str, list[nn.Parameter]]:
    """Part → its parameters: ``projector.<child>`` for each child of the projector, then ``lora``.

    ``lora`` is there in both stages, so that histories have the same columns; in stage 1 it is
    empty.
    """
    parts: dict[str, list[nn.Parameter]] = {}
    adapters = []
    for name, parameter in trainable.items():
        room, _, rest = name.partition(".")
        if room == PROJECTOR:
            parts.setdefault(f"{PROJECTOR}.{rest.split('.')[0]}", []).append(parameter)
        else:
            adapters.append(parameter)
    return {**parts, LORA: adapters}


def gradient_norms(parts: Mapping[str, Sequence[nn.Parameter]], device: torch.device) -> Tensor:
    """L2 norm of each part's gradient, ``[parts]`` float32 on the device."""
    norms = []
    for parameters in parts.values():
        found = [p.grad for p in parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(found) if found else torch.zeros((), device=device)
        norms.append(norm.float())
    return torch.stack(norms)


def norm_columns(parts: Sequence[str], norms: Sequence[float]) -> dict[str, float]:
    """Columns of steps.parquet: ``grad_norm_<part>``, and the projector as a whole."""
    columns = {f"grad_norm_{part}": norm for part, norm in zip(parts, norms, strict=True)}
    inside = [norm for part, norm in zip(parts, norms, strict=True) if part != LORA]
    whole = sum(norm**2 for norm in inside) ** 0.5
    return {f"grad_norm_{PROJECTOR}": whole, **columns}


def gradient_shares(steps: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Columns of epochs.parquet: each part's share of the squared gradient norm of some steps.

    ``grad_share_projector`` and ``grad_share_lora`` add up to 1, as do the former's parts to it.
    None where there was no gradient at all. AdamW divides each weight's step by its own gradient,
    so a share says where the loss is steep and not how far weights move.
    """
    prefix = "grad_norm_"
    names = [key.removeprefix(prefix) for key in steps[0] if key.startswith(prefix)]
    squares = {name: sum(row[prefix + name] ** 2 for row in steps) for name in names}
    total = squares.get(PROJECTOR, 0.0) + squares.get(LORA, 0.0)
    return {
        f"grad_share_{name}": square / total if total else None for name, square in squares.items()
    }
