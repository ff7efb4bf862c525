"""The fairness ledger: what each projector was given, and where that differs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from siglip_study.config.axes import EPOCHS, RATE, told_key
from siglip_study.config.training import VisionConfig
from siglip_study.ranking.selection import StudySelection
from siglip_study.report.language import NOTHING, Text, join, listed, said, sentence, texts
from siglip_study.report.results import (
    CellResult,
    axes_of,
    chosen_text,
    mean,
    only,
    report_runs,
    settings_json,
)


def ledger_rows(cells: list[CellResult], selection: StudySelection) -> list[dict[str, Any]]:
    """Rows of the ``ledger`` table, one a projector: what one of its report runs took.

    Figures are means over the report seeds; both stages together unless the name says otherwise.
    """
    human = only(cells, "references")
    rows = []
    for label, runs in report_runs(cells).items():
        told = selection.projectors.get(label)
        first = runs[0]
        rows.append(
            {
                "projector": label,
                "chosen_cell": chosen_text(selection, label),
                "report_seeds": ", ".join(sorted(str(cell.seed) for cell in runs)),
                "learning_rate": first.key(RATE),
                "epochs": first.key(EPOCHS),
                "settings": settings_json(selection, first),
                "samples_seen": _both(runs, "samples_seen"),
                "optimizer_steps": _both(runs, "optimizer_steps"),
                "tokens_per_video": first.run.get("tokens_per_video"),
                "projector_parameters": first.run.get("projector_parameters"),
                "lora_parameters": first.run.get("lora_parameters"),
                "flops": _both(runs, "flops"),
                "gpu_s": _both(runs, "gpu_s"),
                "wall_s": _both(runs, "wall_s"),
                "gpus": first.run.get("gpus"),
                "peak_gpu_gb": max((c.run.get("peak_gpu_gb") or 0.0 for c in runs), default=None),
                "truncated_captions": mean([c.metrics.get("truncated_share") for c in runs]),
                "truncated_targets": mean([c.run.get("truncated_targets") for c in runs]),
                "sentences": mean([c.value("sentences") for c in runs]),
                "reference_sentences": human.value("sentences") if human else None,
                "n_tuned": told and told.n_cells,
                "n_tuning_seeds": told and told.n_tuning_seeds,
                "n_collapsed": told and told.n_collapsed,
            }
        )
    return rows


def _both(runs: list[CellResult], key: str) -> float | None:
    """Mean over seeds of stage 1 plus stage 2; None where a stage does not tell."""
    parts = [(cell.cost(f"stage1_{key}"), cell.cost(key)) for cell in runs]
    return mean([None if a is None or b is None else float(a) + float(b) for a, b in parts])


def _of_run(name: str) -> Callable[[CellResult], Any]:
    """A key of ``cell.json``."""
    return lambda cell: cell.run.get(name)


def _version(package: str) -> Callable[[CellResult], Any]:
    return lambda cell: (cell.run.get("versions") or {}).get(package)


def _clips_a_step(stage: str) -> Callable[[CellResult], Any]:
    def get(cell: CellResult) -> Any:
        batch, times = (cell.key(f"{stage}.{k}") for k in ("batch_size", "gradient_accumulation"))
        return None if batch is None or times is None else batch * times

    return get


#: What one loaded language model goes by.
_OF_LLM = ("model", "revision", "weights", "quantization")

_TEXTS = texts("ledger")

#: What should be equal: its text, and how to read it from a run (or its dotted key). What a
#: difference may come from is the text ``….why``, if there is one.
EQUAL: dict[str, str | Callable[[CellResult], Any]] = {
    "samples1": lambda cell: cell.stage1.get("samples_seen"),
    "samples2": _of_run("samples_seen"),
    "steps1": lambda cell: cell.stage1.get("optimizer_steps"),
    "steps2": _of_run("optimizer_steps"),
    "clips1": _clips_a_step("stage1"),
    "clips2": _clips_a_step("stage2"),
    "frames": "vision.frames",
    "frames_per_second": "vision.frames_per_second",
    "encoder": "vision.model",
    "layer": "vision.layer",
    "llm": "llm.model",
    "quantization": "llm.quantization",
    # A run that is older than the key multiplied in bf16.
    "matmul": lambda cell: cell.key("llm.matmul") or "bf16",
    "rank": "llm.lora.r",
    "prompt": "llm.prompt",
    "target": "training.max_target_tokens",
    "scored": lambda cell: cell.metrics.get("n_clips"),
    "device": _of_run("device"),
    "gpus": _of_run("gpus"),
    "commit": _of_run("git_commit"),
    "torch": _version("torch"),
    "transformers": _version("transformers"),
    "peft": _version("peft"),
    "siglip-study": _version("siglip-study"),
}


def differences(cells: list[CellResult], selection: StudySelection) -> list[Text]:
    """A sentence for each thing that should be equal between the compared cells and is not."""
    runs = report_runs(cells)
    # Two trainings that report a half each: what they share says nothing of where they differ.
    trainings = {
        name: [training for cell in own for training in cell.halves or (cell,)]
        for name, own in runs.items()
    }
    told = selection.projectors
    # Stage-2 epochs that each projector could choose from.
    offered = {
        frozenset(cell.epochs for cell in (told[name].cells if name in told else ()))
        for name in runs
    }
    axes = axes_of(selection)
    found = []
    for what, read in {**EQUAL, **{key: key for key in axes if key not in EQUAL.values()}}.items():
        why = f"{what}.why"
        if read in axes:
            why = "axis.why"
        elif what in ("samples2", "steps2"):
            why = "own.why" if len(offered) > 1 else "tuned.why"
        compared = runs if what == "scored" else trainings
        values = {name: [_read(cell, read) for cell in own] for name, own in compared.items()}
        found += _unequal(what, values, why)
    seeds = {name: [", ".join(sorted(str(c.seed) for c in own))] for name, own in runs.items()}
    tuned = {name: [told[name].n_cells if name in told else None] for name in runs}
    return [*found, *_unequal("seeds", seeds), *_unequal("settings", tuned)]


def _read(cell: CellResult, how: str | Callable[[CellResult], Any]) -> Any:
    return cell.key(how) if isinstance(how, str) else how(cell)


def sharing(cells: list[CellResult]) -> Text:
    """What the trainings share: a first stage, features and a language model are made once."""
    trained = [run for cell in cells for run in cell.halves or (cell,) if run.run]
    stages = {run.run.get("stage1_cell") for run in trained} - {None}
    stores = {VisionConfig.model_validate(run.key("vision")) for run in trained}
    llms = {str([run.key(f"llm.{k}") for k in _OF_LLM]) for run in trained}
    made = {"stages": len(stages), "stores": len(stores), "llms": len(llms)}
    return said(_TEXTS, "sharing", n=len(trained), **made)


def _unequal(what: str, found: dict[str, list[Any]], why: str | None = None) -> list[Text]:
    """One sentence if the values differ between or within projectors; unknown ones are left out."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for label, values in found.items():
        known = tuple(sorted({str(value) for value in values if value is not None}))
        if known:
            groups.setdefault(known, []).append(label)
    if len({value for values in groups for value in values}) < 2:
        return []
    told = join("; ", [listed(v) + Text.same(f" ({', '.join(who)})") for v, who in groups.items()])
    because = _TEXTS.get(why or f"{what}.why", NOTHING)
    if because:
        because = said(_TEXTS, "because", why=because)
    # An axis that is not in the table goes by its own name.
    name = _TEXTS.get(what) or Text.same(told_key(what))
    words = said(_TEXTS, "unequal", what=name, told=told, why=because)
    return [words if words.en.endswith("?") else sentence(words)]
