"""Resume points: everything a killed stage needs to continue to the same result.

A point is a folder ``step-<n>`` that appears whole by rename; the newest one counts. Tensors are
safetensors, the rest is JSON: nothing is ever unpickled.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import ConfigDict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from siglip_study.base.errors import StudyError
from siglip_study.base.io import (
    atomic_dir,
    file_digest,
    read_result,
    remove_dir,
    write_digest,
    write_json,
)

log = logging.getLogger(__name__)

_SCHEMA = "resume/2"


@dataclass
class Position:
    """Where a stage stands, beyond its tensors: JSON that survives a kill."""

    # A point of another version may count by other names.
    __pydantic_config__ = ConfigDict(extra="forbid")

    step: int = 0
    threads: int = field(default_factory=torch.get_num_threads)
    best_val_loss: float | None = None
    best_epoch: int | None = None
    gain_from: float | None = None
    epochs_without_gain: int = 0
    stopped: bool = False
    seconds: float = 0.0
    steps: list[dict[str, Any]] = field(default_factory=list)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    #: columns of every epoch that were measured before the first step
    at_start: dict[str, Any] = field(default_factory=dict)


@dataclass
class _State:
    origin: str
    sha256: str  # of the tensors' file
    position: Position


class ResumePoint:
    """The resume folder of one stage of one cell.

    ``origin`` names what the stage started from, as far as the folder's name does not: its clips,
    captions, features and first weights. A point of another origin is dropped, never continued.
    """

    def __init__(self, folder: Path, origin: str = "") -> None:
        self.folder = folder
        self.origin = origin

    def save(
        self,
        position: Position,
        trainable: dict[str, nn.Parameter],
        buffers: dict[str, Tensor],
        optimizer: torch.optim.Optimizer | None = None,
        best: dict[str, Tensor] | None = None,
    ) -> None:
        """Write a new point, then drop the older ones.

        Once all steps are taken, the weights that the stage keeps are enough.
        """
        tensors = {f"param/{name}": p.detach() for name, p in trainable.items()}
        tensors |= {f"buffer/{name}": tensor for name, tensor in buffers.items()}
        tensors |= {f"best/{name}": tensor for name, tensor in (best or {}).items()}
        for name, parameter in trainable.items():
            moments = optimizer.state.get(parameter, {}) if optimizer is not None else {}
            for key, value in moments.items():
                tensors[f"optimizer/{key}/{name}"] = torch.as_tensor(value)
        old = set(self._points())
        target = self.folder / f"step-{position.step:08d}"
        with atomic_dir(target) as partial:
            whole = {key: value.cpu().contiguous() for key, value in tensors.items()}
            save_file(whole, partial / "state.safetensors")
            state = _State(self.origin, file_digest(partial / "state.safetensors"), position)
            # Not asdict, which copies every step that was taken.
            told = vars(state) | {"position": vars(position)}
            write_json(partial / "state.json", told, _SCHEMA)
            write_digest(partial / "state.json")  # a digit that turns is a number as well
        for point in old - {target}:
            remove_dir(point)

    def load(
        self,
        trainable: dict[str, nn.Parameter],
        buffers: dict[str, Tensor],
        optimizer: torch.optim.Optimizer,
    ) -> tuple[Position, dict[str, Tensor]]:
        """Restore the newest whole point into the given objects; without one, the start.

        A point that is damaged or started from something else is dropped, with a line in the log:
        work is then lost, but nothing mixed and nothing blocked. Before a newer point the one it
        follows may still lie: a life was killed between the two.
        """
        points = self._points()
        while points:
            point = points.pop()
            try:
                position, tensors = self._read(point)
                break
            except (StudyError, OSError, SafetensorError) as error:
                then = "The point before it counts." if points else "Training starts afresh."
                log.warning("%s %s", error, then)
                remove_dir(point)
        else:
            return Position(), {}
        best = {}
        with torch.no_grad():
            for key, value in tensors.items():
                kind, _, name = key.partition("/")
                if kind == "param":
                    trainable[name].copy_(value)
                elif kind == "buffer":
                    buffers[name].copy_(value)
                elif kind == "best":
                    best[name] = value
                else:
                    moment, _, name = name.partition("/")
                    parameter = trainable[name]
                    on_cpu = moment == "step" and not optimizer.defaults.get("fused")
                    there = value if on_cpu else value.to(parameter.device)
                    optimizer.state[parameter][moment] = there
        return position, best

    def _read(self, point: Path) -> tuple[Position, dict[str, Tensor]]:
        state = read_result(point / "state.json", _State, _SCHEMA)
        if state.origin != self.origin:
            raise StudyError(
                f"{point}: clips, features, captions or first weights are others than when "
                "it was saved; expected those it started from."
            )
        path = point / "state.safetensors"
        if file_digest(path) != state.sha256:
            raise StudyError(f"{path}: damaged; expected the bytes that were written.")
        return state.position, load_file(path)

    def _points(self) -> list[Path]:
        return sorted(p for p in self.folder.glob("step-*") if p.name[5:].isdigit() and p.is_dir())
