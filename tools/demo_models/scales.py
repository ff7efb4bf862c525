"""How long each micro model trains: ``full`` for use, ``tiny`` to prove that the code runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

import torch
from torch import nn


@dataclass(frozen=True)
class Budget:
    """Data and steps of one model: scenes rendered or described, optimizer steps, rows a step."""

    scenes: int
    steps: int
    batch: int
    peak_lr: float


@dataclass(frozen=True)
class Scale:
    """A named set of budgets, and how many unseen scenes measure the outcome."""

    vision: Budget
    llm: Budget
    scorer: Budget
    test_scenes: int


SCALES = {
    "full": Scale(
        vision=Budget(scenes=40_000, steps=3_500, batch=1024, peak_lr=1e-3),
        llm=Budget(scenes=120_000, steps=6_000, batch=256, peak_lr=2e-3),
        scorer=Budget(scenes=40_000, steps=3_000, batch=1024, peak_lr=1e-3),
        test_scenes=600,
    ),
    "tiny": Scale(
        vision=Budget(scenes=24, steps=3, batch=8, peak_lr=1e-3),
        llm=Budget(scenes=48, steps=3, batch=4, peak_lr=1e-3),
        scorer=Budget(scenes=24, steps=3, batch=8, peak_lr=1e-3),
        test_scenes=12,
    ),
}


def train(
    parameters: list[nn.Parameter],
    loss_at: Callable[[int], torch.Tensor],
    budget: Budget,
    minutes: float | None,
    name: str,
) -> int:
    """Minimise ``loss_at(step)`` by AdamW with a warm-up and a cosine decay to zero.

    With ``minutes``, the first steps are timed and the schedule is shortened to fit. Matrices
    decay; vectors (norms, biases) and embeddings do not.

    Returns:
        The number of optimizer steps taken.
    """
    matrices = [p for p in parameters if p.ndim > 1 and p.shape[0] < 900]
    others = [p for p in parameters if not (p.ndim > 1 and p.shape[0] < 900)]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}],
        lr=budget.peak_lr,
        betas=(0.9, 0.98),
    )
    steps, warmup, timed = budget.steps, min(300, budget.steps // 5 + 1), 25
    start, step, seen = monotonic(), 0, 0.0
    while step < steps:
        if minutes is not None and step == timed:
            seconds_left = minutes * 60 - (monotonic() - start)
            a_step = max((monotonic() - start) / timed, 1e-6)
            # The first steps also pay for compilation and caches; a later look corrects that.
            steps = min(steps, timed + max(int(seconds_left / a_step), 0))
        if minutes is not None and step == 10 * timed:
            a_step = (monotonic() - start) / step
            steps = min(budget.steps, max(int(minutes * 60 / a_step), step + 1))
        done = max(step - warmup, 0) / max(steps - warmup, 1)
        rate = min((step + 1) / warmup, 1.0) * 0.5 * (1 + torch.cos(torch.tensor(torch.pi * done)))
        for group in optimizer.param_groups:
            group["lr"] = budget.peak_lr * float(rate)
        loss = loss_at(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if step % 250 == 0 or step == steps - 1:
            seen = monotonic() - start
            print(f"{name} step {step}/{steps} loss {loss.item():.4f} {seen:.0f} s", flush=True)
        step += 1
    return step
