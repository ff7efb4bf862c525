"""Captioning: one clip at a time through ``generate`` against the project's batches."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks import inputs
from benchmarks.inputs import Case, Size
from benchmarks.published.captions import caption_one
from benchmarks.published.train import prepare_llm
from benchmarks.sides import Found
from benchmarks.tables import Result, Table
from benchmarks.timing import Timing, measure, synchronize
from siglip_study.captioning.generate import Caption, generate_captions
from siglip_study.captioning.weights import weights_for_captions
from siglip_study.config.training import LlmConfig
from siglip_study.models.llm import PromptLayout, add_lora

PENALTY = 1.2


Figures = dict[str, Any]


def run_ours(size: Size, device: torch.device) -> Figures:
    """Seconds a caption by token budget, of every projector."""
    llm = _with_adapters(add_lora, inputs.llm(size, device), size)
    # In training the quick captions come from the model as it trains; those of a trained cell are
    # made after its weights were laid out for decoding, once.
    quick = {case.projector: _quick(size, case, llm, device) for case in size.cases}
    config = LlmConfig(quantization="nf4", lora=size.lora)
    began = time.perf_counter()
    llm = weights_for_captions(llm, config)
    synchronize(device)
    ready = time.perf_counter() - began
    return {
        case.projector: {
            **_project_case(size, case, llm, device),
            "quick": quick[case.projector],
            "ready": ready,
        }
        for case in size.cases
    }


def run_published(size: Size, device: torch.device) -> Figures:
    """Seconds of one clip by token budget, of every projector."""
    llm = _with_adapters(prepare_llm, inputs.llm(size, device), size).eval()
    return {case.projector: _published_case(size, case, llm, device) for case in size.cases}


#: Each side runs in a process of its own.
SIDES = {"published": run_published, "ours": run_ours}


def table(size: Size, device: torch.device, found: Found) -> Result:
    """Both sides beside each other."""
    result = Result()
    columns = ["captions", "published s each", "ours s each", "ratio", "ratios seen"]
    captions = Table("Captions", [*columns, "published GiB", "ours GiB"])
    for case in size.cases:
        name = case.projector
        tokens = inputs.projector(size, name).tokens_per_video(size.frames)
        for budget in size.caption_budgets:
            seconds = [name, "seconds", str(budget)]
            ratio = found.ratio(seconds, seconds)
            slow, fast = (found.middle(side, *seconds) for side in ("published", "ours"))
            captions.rows.append(
                [
                    f"{budget} new tokens, {tokens} vision tokens, {size.clips} clips",
                    slow,
                    fast,
                    ratio.middle,
                    ratio.spread,
                    found.first("published")[name]["peak_gib"],
                    found.first("ours")[name]["peak_gib"],
                ]
            )
            key = f"captions/{name}/{budget}"
            result.parts |= {f"{key}/ours": fast, f"{key}/published": slow}
        for part in ("quick", "ready"):
            result.parts[f"captions/{name}/{part}/ours"] = found.middle("ours", name, part)
        words = [found.first(side)[name]["text"].split() for side in ("published", "ours")]
        alike = [a == b for a, b in zip(*words, strict=False)]
        first = alike.index(False) if False in alike else len(alike)
        result.agreement[f"captions of {name}, share of tokens after which they part"] = (
            1 - first / max(len(alike), 1)
        )
    quick = [
        f"{found.middle('ours', c.projector, 'quick'):.3g} s ({c.projector})" for c in size.cases
    ]
    ready = found.middle("ours", size.cases[0].projector, "ready")
    captions.notes = [
        f"Published: one clip a call. Ours: one call over all {size.clips} clips. Both at the full "
        f"budget, prefill included, each side in processes of its own: {found.counted()}. Ratios "
        "seen: the lowest and highest of any two processes.",
        f"The {size.quick[0]} captions of {size.quick[1]} tokens after an epoch, all together: "
        f"{', '.join(quick)}. Laying out the weights once a cell: {ready:.3g} s, not in the table.",
        f"Greedy, repetition penalty {PENALTY}, adapters not zero; no caption ends early.",
    ]
    result.tables.append(captions)
    return result


def _quick(size: Size, case: Case, llm: Any, device: torch.device) -> float:
    caption = _captioner(size, case, llm)
    clips, tokens = size.quick
    caption(min(4, clips), 4)
    return _once(lambda n: caption(clips, n), tokens, device)[1].seconds


def _project_case(size: Size, case: Case, llm: Any, device: torch.device) -> Figures:
    caption = _captioner(size, case, llm)
    caption(min(4, size.clips), 4)
    found: Figures = {"seconds": {}}
    for budget in size.caption_budgets:
        made, timing = _once(lambda n: caption(size.clips, n), budget, device)
        short = [c.n_tokens for c in made if c.n_tokens != budget]
        assert not short, f"captions of {short} tokens; expected {budget}: nothing ends early"
        found["seconds"][str(budget)] = timing.seconds / size.clips
        found["peak_gib"] = timing.peak_gib
        print(f"    ours, {case.projector}, {budget}: {timing.seconds:.4g} s", flush=True)
    # The published sequence, so that both sides' tokens can be compared.
    alike = _captioner(size, case, llm, inputs.published_layout(size))
    found["text"] = alike(1, size.caption_budgets[0])[0].text
    return found


def _captioner(
    size: Size, case: Case, llm: Any, layout: PromptLayout | None = None
) -> Callable[[int, int], list[Caption]]:
    """Captions of so many clips with such a budget, as a cell asks for them."""
    model = inputs.vlm(size, case.projector, llm).eval()
    model.layout = layout or model.layout
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


def _published_case(size: Size, case: Case, llm: Any, device: torch.device) -> Figures:
    projector = inputs.projector(size, case.projector).to(device).eval()
    clip = inputs.MadeFeatures(size, size.clips).batch(["0"])
    layout = inputs.published_layout(size)

    def caption(budget: int) -> list[int]:
        return caption_one(projector, llm, layout, clip, budget, PENALTY)

    caption(4)
    found: Figures = {"seconds": {}}
    for budget in size.caption_budgets:
        tokens, timing = _once(caption, budget, device)
        assert len(tokens) == budget, f"{len(tokens)} tokens; expected {budget}"
        found["seconds"][str(budget)] = timing.seconds
        found["peak_gib"] = timing.peak_gib
        found.setdefault("text", inputs.NoTokenizer().decode(tokens))
        print(f"    published, {case.projector}, {budget}: {timing.seconds:.4g} s", flush=True)
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
