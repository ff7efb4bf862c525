"""The fairness ledger: what each projector was given, and where that differs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from siglip_study.ranking.selection import StudySelection
from siglip_study.report.results import CellResult, chosen_text, mean, only, report_runs


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
                "learning_rate": first.stage2("learning_rate"),
                "epochs": first.stage2("epochs"),
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


def _of_run(*path: str) -> Callable[[CellResult], Any]:
    """A nested key of ``cell.json``."""

    def get(cell: CellResult) -> Any:
        found: Any = cell.run
        for name in path:
            found = (found or {}).get(name)
        return found

    return get


def _clips_a_step(stage: str) -> Callable[[CellResult], Any]:
    def get(cell: CellResult) -> Any:
        settings = _of_run("run", stage)(cell) or {}
        batch, times = settings.get("batch_size"), settings.get("gradient_accumulation")
        return None if batch is None or times is None else batch * times

    return get


_TUNED = "the budget is tuned, so each projector took the one that suited it best"
_OWN = "the config gives projectors epochs of their own, as for equal GPU time"

_SCORED = "clips scored"

#: What should be equal: words, how to read it from a run, and what a difference may come from.
EQUAL: tuple[tuple[str, Callable[[CellResult], Any], str], ...] = (
    ("samples of stage 1", lambda cell: cell.stage1.get("samples_seen"), ""),
    ("samples of stage 2", _of_run("samples_seen"), _TUNED),
    ("optimizer steps of stage 1", lambda cell: cell.stage1.get("optimizer_steps"), ""),
    ("optimizer steps of stage 2", _of_run("optimizer_steps"), _TUNED),
    ("clips a step of stage 1", _clips_a_step("stage1"), ""),
    ("clips a step of stage 2", _clips_a_step("stage2"), ""),
    ("frames", _of_run("run", "vision", "frames"), ""),
    ("vision encoder", _of_run("run", "vision", "model"), ""),
    ("encoder layer", _of_run("run", "vision", "layer"), ""),
    ("language model", _of_run("run", "llm", "model"), ""),
    ("quantisation", _of_run("run", "llm", "quantization"), ""),
    # A run that is older than the key multiplied in bf16.
    ("matrix products", lambda cell: _of_run("run", "llm", "matmul")(cell) or "bf16", ""),
    ("rank of the adapters", _of_run("run", "llm", "lora", "r"), ""),
    ("prompt", _of_run("run", "llm", "prompt"), ""),
    ("longest target (tokens)", _of_run("run", "training", "max_target_tokens"), ""),
    (_SCORED, lambda cell: cell.metrics.get("n_clips"), ""),
    ("device", _of_run("device"), "rounding differs by device, and GPU-seconds cannot be compared"),
    ("GPUs", _of_run("gpus"), ""),
    ("commit of the code", _of_run("git_commit"), "was the code changed between runs?"),
    ("torch", _of_run("versions", "torch"), ""),
    ("transformers", _of_run("versions", "transformers"), ""),
    ("peft", _of_run("versions", "peft"), ""),
    ("siglip-study", _of_run("versions", "siglip-study"), ""),
)


def differences(cells: list[CellResult], selection: StudySelection) -> list[str]:
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
    said = []
    for what, read, why in EQUAL:
        if why == _TUNED and len(offered) > 1:
            why = _OWN
        compared = runs if what == _SCORED else trainings
        values = {name: [read(cell) for cell in own] for name, own in compared.items()}
        said += _unequal(what, values, why)
    seeds = {name: [", ".join(sorted(str(c.seed) for c in own))] for name, own in runs.items()}
    said += _unequal("seeds", seeds, "a seed fixes the order of the samples")
    tuned = {name: [told[name].n_cells if name in told else None] for name in runs}
    said += _unequal("number of tuned cells", tuned, "more tries find a better one by chance")
    return said


def _unequal(what: str, found: dict[str, list[Any]], why: str) -> list[str]:
    """One sentence if the values differ between or within projectors; unknown ones are left out."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for label, values in found.items():
        known = tuple(sorted({str(value) for value in values if value is not None}))
        if known:
            groups.setdefault(known, []).append(label)
    if len({value for values in groups for value in values}) < 2:
        return []
    listed = "; ".join(f"{' and '.join(v)} ({', '.join(names)})" for v, names in groups.items())
    told = f"Unequal {what}: {listed}{f': {why}' if why else ''}"
    return [told if told.endswith("?") else f"{told}."]
