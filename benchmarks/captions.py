"""Captioning: one clip at a time through ``generate`` against the project's batches."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks import inputs
from benchmarks.inputs import Size
from benchmarks.published.captions import caption_one
from benchmarks.published.train import prepare_llm
from benchmarks.tables import Result, Table
from benchmarks.timing import GIB, free, synchronize
from siglip_study.captioning import generate_captions
from siglip_study.config import LlmConfig
from siglip_study.llm import add_lora
from siglip_study.training.checkpoint import merge_adapters

PENALTY = 1.2


@dataclass
class Measured:
    """Seconds of one call by token budget, memory, and the first clip's tokens."""

    seconds: dict[int, float]
    peak_gib: float | None
    texts: list[str]


def run(size: Size, device: torch.device) -> Result:
    """Time both sides on the same weights, adapters and features."""
    ours = _project(size, device)
    free(device)
    theirs = _published(size, device)
    free(device)
    result = Result()
    table = Table(
        "Captions",
        ["captions", "published s each", "ours s each", "ratio", "published GiB", "ours GiB"],
    )
    for case in size.cases:
        mine, published = ours[case.projector], theirs[case.projector]
        tokens = inputs.projector(size, case.projector).tokens_per_video(size.frames, size.patches)
        for budget, seconds in mine.seconds.items():
            each = seconds / size.clips
            slow, measured = at_budget(published.seconds, budget)
            mark = "" if measured else " (extrapolated)"
            table.rows.append(
                [
                    f"{budget} new tokens{mark}, {tokens} vision tokens, {size.clips} clips",
                    slow,
                    each,
                    slow / each,
                    published.peak_gib,
                    mine.peak_gib,
                ]
            )
            key = f"captions/{case.projector}/{budget}"
            result.parts |= {f"{key}/ours": each, f"{key}/published": slow}
        alike = [a == b for a, b in zip(_words(published), _words(mine), strict=False)]
        first = alike.index(False) if False in alike else len(alike)
        result.agreement[f"captions of {case.projector}, share of tokens after which they part"] = (
            1 - first / max(len(alike), 1)
        )
    measured_at = " and ".join(map(str, size.published_budgets))
    table.notes = [
        f"Published: one clip a call, timed at {measured_at} new tokens; other budgets by the "
        "straight line through these, which leaves out the growth of attention with length. Ours: "
        f"one call over all {size.clips} clips at the full budget, prefill included.",
        f"Greedy, repetition penalty {PENALTY}, adapters not zero; no caption ends early.",
    ]
    result.tables.append(table)
    return result


def at_budget(measured: dict[int, float], budget: int) -> tuple[float, bool]:
    """Seconds at a token budget, and whether they were measured rather than extrapolated."""
    if budget in measured:
        return measured[budget], True
    (low, a), (high, b) = sorted(measured.items())[-2:]
    return b + (b - a) / (high - low) * (budget - high), False


def _project(size: Size, device: torch.device) -> dict[str, Measured]:
    found = {}
    llm = _with_adapters(add_lora, inputs.llm(size, device), size)
    llm = merge_adapters(llm, LlmConfig(quantization="nf4", lora=size.lora))
    for case in size.cases:
        model = inputs.vlm(size, case.projector, llm).eval()
        features = inputs.MadeFeatures(size, size.clips)
        ids = [str(i) for i in range(size.clips)]

        def caption(ids: list[str], budget: int, model: Any = model, source: Any = features) -> Any:
            return generate_captions(
                model,
                inputs.NoTokenizer(),
                ids,
                source.batch,
                max_new_tokens=budget,
                batch_size=None,
                repetition_penalty=PENALTY,
            )

        caption(ids[:4], 4)
        free(device)
        seconds, texts = {}, []
        for budget in size.caption_budgets:
            synchronize(device)
            began = time.perf_counter()
            made = caption(ids, budget)
            synchronize(device)
            seconds[budget] = time.perf_counter() - began
            short = [c.n_tokens for c in made if c.n_tokens != budget]
            assert not short, f"captions of {short} tokens; expected {budget}: nothing ends early"
            texts = [c.text for c in made]
            print(f"  ours, {case.projector}, {budget}: {seconds[budget]:.4g} s", flush=True)
        found[case.projector] = Measured(seconds, _peak(device), texts)
    return found


def _published(size: Size, device: torch.device) -> dict[str, Measured]:
    found = {}
    llm: Any = _with_adapters(prepare_llm, inputs.llm(size, device), size).eval()
    layout = inputs.layout(size)
    for case in size.cases:
        projector = inputs.projector(size, case.projector).to(device).eval()
        features = inputs.MadeFeatures(size, size.clips)

        def caption(
            clip: int, budget: int, projector: Any = projector, source: Any = features
        ) -> list[int]:
            batch = source.batch([str(clip)])
            return caption_one(projector, llm, layout, batch, budget, PENALTY)

        caption(0, 4)
        free(device)
        seconds, text = {}, ""
        for budget in size.published_budgets:
            synchronize(device)
            began = time.perf_counter()
            tokens = caption(0, budget)
            synchronize(device)
            seconds[budget] = time.perf_counter() - began
            assert len(tokens) == budget, f"{len(tokens)} tokens; expected {budget}"
            text = inputs.NoTokenizer().decode(tokens)
            print(f"  published, {case.projector}, {budget}: {seconds[budget]:.4g} s", flush=True)
        found[case.projector] = Measured(seconds, _peak(device), [text])
    return found


def _with_adapters(add: Any, llm: Any, size: Size) -> Any:
    model = add(llm, size.lora)
    inputs.set_lora(model, 0.01)
    return model


def _words(measured: Measured) -> list[str]:
    return measured.texts[0].split()


def _peak(device: torch.device) -> float | None:
    return torch.cuda.max_memory_allocated(device) / GIB if device.type == "cuda" else None
