"""Captioning: one clip at a time through ``generate`` against the project's batches."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks import inputs
from benchmarks.inputs import Case, Size
from benchmarks.published.captions import caption_one
from benchmarks.published.train import prepare_llm
from benchmarks.tables import Result, Table
from benchmarks.timing import Timing, free, measure, synchronize
from siglip_study.captioning.generate import Caption, generate_captions
from siglip_study.captioning.weights import weights_for_captions
from siglip_study.config.training import LlmConfig
from siglip_study.models.llm import add_lora

PENALTY = 1.2


@dataclass
class Measured:
    """Seconds of one call by token budget, memory, and the first clip's tokens."""

    seconds: dict[int, float] = field(default_factory=dict)
    peak_gib: float | None = None
    text: str = ""
    quick_s: float = 0.0  # the few short captions after an epoch, all together
    ready_s: float = 0.0  # laying out the weights, once a cell

    def add(self, budget: int, timing: Timing, text: str) -> None:
        """Another budget; budgets ascend, so that the last one needs most memory."""
        self.seconds[budget], self.peak_gib, self.text = timing.seconds, timing.peak_gib, text


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
        tokens = inputs.projector(size, case.projector).tokens_per_video(size.frames)
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
        result.parts |= {
            f"captions/{case.projector}/quick/ours": mine.quick_s,
            f"captions/{case.projector}/ready/ours": mine.ready_s,
        }
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
        f"The {size.quick[0]} captions of {size.quick[1]} tokens after an epoch, all together: "
        + ", ".join(f"{m.quick_s:.3g} s ({name})" for name, m in ours.items())
        + f". Laying out the weights once a cell: {next(iter(ours.values())).ready_s:.3g} s, not "
        "in the table.",
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
    llm = _with_adapters(add_lora, inputs.llm(size, device), size)
    # In training the quick captions come from the model as it trains; those of a trained cell are
    # made after its weights were laid out for decoding, once.
    quick = {case.projector: _quick(size, case, llm, device) for case in size.cases}
    config = LlmConfig(quantization="nf4", lora=size.lora)
    began = time.perf_counter()
    llm = weights_for_captions(llm, config)
    synchronize(device)
    ready = time.perf_counter() - began
    found = {case.projector: _project_case(size, case, llm, device) for case in size.cases}
    for name, measured in found.items():
        measured.quick_s, measured.ready_s = quick[name], ready
    return found


def _quick(size: Size, case: Case, llm: Any, device: torch.device) -> float:
    caption = _captioner(size, case, llm)
    clips, tokens = size.quick
    caption(min(4, clips), 4)
    return _once(lambda n: caption(clips, n), tokens, device)[1].seconds


def _project_case(size: Size, case: Case, llm: Any, device: torch.device) -> Measured:
    caption = _captioner(size, case, llm)
    caption(min(4, size.clips), 4)
    found = Measured()
    for budget in size.caption_budgets:
        made, timing = _once(lambda n: caption(size.clips, n), budget, device)
        short = [c.n_tokens for c in made if c.n_tokens != budget]
        assert not short, f"captions of {short} tokens; expected {budget}: nothing ends early"
        found.add(budget, timing, made[0].text)
        print(f"  ours, {case.projector}, {budget}: {timing.seconds:.4g} s", flush=True)
    return found


def _captioner(size: Size, case: Case, llm: Any) -> Callable[[int, int], list[Caption]]:
    """Captions of so many clips with such a budget, as ``evaluation.captions`` asks for them."""
    model = inputs.vlm(size, case.projector, llm).eval()
    features = inputs.MadeFeatures(size, size.clips)

    def caption(clips: int, budget: int) -> list[Caption]:
        return generate_captions(
            model,
            inputs.NoTokenizer(),
            [str(i) for i in range(clips)],
            features.batch,
            max_new_tokens=budget,
            repetition_penalty=PENALTY,
        )

    return caption


def _published(size: Size, device: torch.device) -> dict[str, Measured]:
    llm = _with_adapters(prepare_llm, inputs.llm(size, device), size).eval()
    return {case.projector: _published_case(size, case, llm, device) for case in size.cases}


def _published_case(size: Size, case: Case, llm: Any, device: torch.device) -> Measured:
    projector = inputs.projector(size, case.projector).to(device).eval()
    clip = inputs.MadeFeatures(size, size.clips).batch(["0"])
    layout = inputs.layout(size)

    def caption(budget: int) -> list[int]:
        return caption_one(projector, llm, layout, clip, budget, PENALTY)

    caption(4)
    found = Measured()
    for budget in size.published_budgets:
        tokens, timing = _once(caption, budget, device)
        assert len(tokens) == budget, f"{len(tokens)} tokens; expected {budget}"
        found.add(budget, timing, inputs.NoTokenizer().decode(tokens))
        print(f"  published, {case.projector}, {budget}: {timing.seconds:.4g} s", flush=True)
    return found


def _once(
    work: Callable[[int], list[Any]], budget: int, device: torch.device
) -> tuple[list[Any], Timing]:
    """What ``work(budget)`` makes, and its time."""
    made: list[Any] = []
    timing = measure(lambda _: made.extend(work(budget)), device, warmup=0, repeats=1)
    return made, timing


def _with_adapters(add: Any, llm: Any, size: Size) -> Any:
    model = add(llm, size.lora)
    inputs.set_lora(model, 0.01)
    return model


def _words(measured: Measured) -> list[str]:
    return measured.text.split()
