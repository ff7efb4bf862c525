"""The fairness ledger: sums by hand, and a sentence for whatever is not equal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from siglip_study.ranking.selection import Selection, StudySelection, TuningCell
from siglip_study.report.ledger import differences, ledger_rows, sharing
from siglip_study.report.results import CellResult, shared
from siglip_study.report.schema import frame


def english(*given) -> list[str]:
    return [said.en for said in differences(*given)]


def tuned(projector: str, n_cells: int = 4, epochs: tuple[int, ...] = ()) -> Selection:
    """The choice of a projector among this many cells, one of which collapsed."""
    cells = tuple(TuningCell(f"{e}", projector, 0.1, "grounded", 1e-3, e) for e in epochs)
    return Selection(projector, 0.1, "grounded", n_cells, 1, 0, (), cells, {"report": projector})


SELECTION = StudySelection({p: tuned(p) for p in "ab"})


def run(projector: str, seed: int = 1, **changes: Any) -> CellResult:
    """A report run; a key with ``__`` goes into the run's nested keys."""
    steps = {"batch_size": 4, "gradient_accumulation": 2}
    settings: dict[str, Any] = {
        "vision": {"model": "clip", "frames": 8, "layer": -2},
        "llm": {"model": "qwen", "quantization": "nf4", "lora": {"r": 16}, "prompt": "?"},
        "training": {"max_target_tokens": 768},
        "stage1": {**steps},
        "stage2": {"learning_rate": 2e-5, "epochs": 3, **steps},
    }
    facts = {
        "projector": projector,
        "run": settings,
        "seed": seed,
        **{"samples_seen": 300, "optimizer_steps": 30, "truncated_targets": 2},
        **{"tokens_per_video": 64, "projector_parameters": 1000, "lora_parameters": 10},
        **{"flops": 3e15, "gpu_s": 60.0, "wall_s": 70.0, "gpus": 1, "peak_gpu_gb": 10.0 + seed},
        **{"device": "H100", "git_commit": "c0ffee", "versions": {"torch": "2.13.0"}},
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            settings[section][name] = value
        else:
            facts[key] = value
    stage1 = {"samples_seen": 200, "optimizer_steps": 20}
    stage1 |= {"flops": 1e15, "gpu_s": 40.0, "wall_s": 50.0}
    metrics = {"values": {}, "truncated_share": 0.25 * seed, "n_clips": 60}
    return CellResult(f"{projector}_{seed}", "report", metrics, facts, stage1)


def test_both_stages_and_all_seeds_are_counted() -> None:
    (row,) = ledger_rows([run("a", 1), run("a", 3, gpu_s=80.0)], SELECTION)
    assert (row["samples_seen"], row["optimizer_steps"]) == (500, 50)
    assert row["flops"] == 4e15
    assert row["gpu_s"] == 40 + (60 + 80) / 2 and row["wall_s"] == 120
    assert row["peak_gpu_gb"] == 13.0 and row["truncated_captions"] == 0.5
    assert (row["n_tuned"], row["n_collapsed"], row["report_seeds"]) == (4, 1, "1, 3")
    assert row["n_tuning_seeds"] == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"tokens_per_video": 4608, "projector_parameters": 5},  # they belong to a projector
        {"git_commit": None, "gpus": None},  # what a run does not tell is no difference
    ],
)
def test_runs_that_are_as_far_as_known_equal_raise_no_warning(changes: dict[str, Any]) -> None:
    assert english([run("a"), run("b", **changes)], SELECTION) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"samples_seen": 400}, "Unequal samples of stage 2: 300 (a); 400 (b): the budget is"),
        ({"optimizer_steps": 31}, "Unequal optimizer steps of stage 2: 30 (a); 31 (b)"),
        ({"seed": 2}, "Unequal seeds: 1 (a); 2 (b): a seed fixes the order of the samples."),
        ({"vision__frames": 4}, "Unequal frames: 8 (a); 4 (b)."),
        ({"training__max_target_tokens": 64}, "Unequal longest target (tokens): 768 (a); 64 (b)."),
        ({"stage2__batch_size": 8}, "Unequal clips a step of stage 2: 8 (a); 16 (b)."),
        ({"device": "A100"}, "Unequal device: H100 (a); A100 (b)"),
        ({"git_commit": "bad"}, "Unequal commit of the code: c0ffee (a); bad (b)"),
        ({"versions": {"torch": "2.12"}}, "Unequal torch: 2.13.0 (a); 2.12 (b)."),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_each_difference_is_one_sentence(change: dict[str, Any], sentence: str) -> None:
    (found,) = english([run("a"), run("b", **change)], SELECTION)
    assert found.startswith(sentence)


def test_seeds_of_one_projector_that_differ_are_a_difference_too() -> None:
    cells = [run("a", 1), run("a", 2, device="A100"), run("b", 1), run("b", 2)]
    assert english(cells, SELECTION) == [
        "Unequal device: A100 and H100 (a); H100 (b): rounding differs by device, and GPU-seconds "
        "cannot be compared."
    ]


def test_more_tuned_cells_are_a_difference() -> None:
    more = StudySelection({"a": tuned("a"), "b": tuned("b", 9)})
    assert english([run("a"), run("b")], more) == [
        "Unequal number of tuned settings: 4 (a); 9 (b): more tries find a better one by chance."
    ]


@pytest.mark.parametrize(
    ("offered", "why"),
    [
        ({"a": (1, 3), "b": (1, 3)}, "the budget is tuned"),
        ({"a": (3,), "b": (9,)}, "the config gives projectors epochs of their own"),
    ],
)
def test_budgets_of_equal_gpu_time_are_not_called_tuned(
    offered: dict[str, tuple[int, ...]], why: str
) -> None:
    told = StudySelection({name: tuned(name, epochs=epochs) for name, epochs in offered.items()})
    (found,) = english([run("a"), run("b", samples_seen=900)], told)
    assert found.startswith(f"Unequal samples of stage 2: 300 (a); 900 (b): {why}")


def together(label: str, *halves: CellResult) -> CellResult:
    """Two trainings that report a half each, as ``read_cell`` puts them together."""
    metrics = {**halves[0].metrics, "parts": {"selection": "x", "report": "y"}}
    facts, first = (shared([getattr(half, key) for half in halves]) for key in ("run", "stage1"))
    return CellResult(label, "report", metrics, facts, first, halves=halves)


def test_two_trainings_that_took_the_same_as_one_are_equal_to_it() -> None:
    both = together("b", run("b", stage2__learning_rate=1e-5), run("b"))
    assert english([run("a"), both], SELECTION) == []


def test_two_trainings_of_one_entry_that_differ_are_a_difference() -> None:
    both = together("b", run("b", device="A100", git_commit="old", samples_seen=600), run("b"))
    device, commit, samples = "device", "commit of the code", "samples of stage 2"
    found = {
        said.split(":")[0].removeprefix("Unequal "): said
        for said in english([run("a"), both], SELECTION)
    }
    assert set(found) == {device, commit, samples}
    assert "H100 (a); A100 and H100 (b)" in found[device]
    assert "c0ffee (a); c0ffee and old (b)" in found[commit]
    assert "300 (a); 300 and 600 (b)" in found[samples]


def test_a_mean_of_two_trainings_keeps_its_fraction() -> None:
    both = together("b", run("b", optimizer_steps=25), run("b", optimizer_steps=50))
    assert both.cost("optimizer_steps") == 37.5
    table = frame("ranking", [{"projector": "b", "optimizer_steps": 37.5}])
    assert table["optimizer_steps"].to_list() == [37.5]


def test_sentences_a_caption_stand_beside_peoples() -> None:
    def saying(cell: CellResult, sentences: float) -> CellResult:
        return replace(
            cell, metrics={**cell.metrics, "values": {"sentences": {"value": sentences}}}
        )

    human = CellResult("references", "references", {"values": {"sentences": {"value": 2.2}}})
    cells = [saying(run("a", 1), 1.0), saying(run("a", 2), 2.0), human]
    (row,) = ledger_rows(cells, SELECTION)
    assert (row["sentences"], row["reference_sentences"]) == (1.5, 2.2)


def test_a_difference_on_an_axis_of_the_grid_is_told_as_such() -> None:
    chosen = {
        p: replace(
            tuned(p, epochs=(3,)),
            cells=tuple(
                TuningCell(f"{p}{r}", p, 0.1, "grounded", 1e-3, 3, settings=own)
                for r in (8, 16)
                for own in [{"llm.lora.r": r, "stage1.epochs": r}]
            ),
        )
        for p in "ab"
    }
    cells = [run("a", llm__lora={"r": 8}, stage1__epochs=8), run("b", stage1__epochs=16)]
    told = english(cells, StudySelection(chosen))
    assert told == [
        f"Unequal {what}: 8 (a); 16 (b): it is an axis of the grid, so each projector took the "
        "value that suited it best."
        for what in ("rank of the adapters", "stage1.epochs")
    ]
    (a, _) = ledger_rows(cells, StudySelection(chosen))
    assert a["settings"] == '{"llm.lora.r": 8, "stage1.epochs": 8}'


def test_what_trainings_share_is_counted() -> None:
    cells = [run("a", stage1_cell="x"), run("b", stage1_cell="x", vision__layer=-1)]
    assert sharing(cells).en == (
        "Shared by 2 trainings: first stages (1), stores of features (2), language models (1)."
    )
