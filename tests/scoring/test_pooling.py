"""Both halves of a held-out split together, against the same worked out from their rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from siglip_study.base.errors import StudyError
from siglip_study.base.io import read_json, write_json, write_parquet
from siglip_study.metrics.grounding import mean_interval
from siglip_study.ranking.crossfit import HalfReport, choose_by_fold, pool
from siglip_study.ranking.gate import GateThresholds
from siglip_study.ranking.pooling import pool_halves, pool_study
from siglip_study.ranking.selection import TuningCell
from siglip_study.ranking.selection_by_halves import select_by_halves
from siglip_study.ranking.selection_file import candidate, reference_figures
from siglip_study.study.cells import Cell, RunSpec
from siglip_study.study.paths import Paths

CLIPS = {"selection": 8, "report": 12}
ABOUT = {"version": "1", "unit": "1", "min": None, "max": 1.0, "higher_is_better": True}


def write_half(
    folder: Path,
    cell: str,
    half: str,
    margins: np.ndarray,
    effective: float = 0.9,
    group: str = "{half}{i}",
    within: np.ndarray | None = None,
) -> Path:
    """A captioner scored on a half, as the scoring job leaves it; two clips a source video."""
    n = len(margins)
    groups = [group.format(half=half, i=i // 2) for i in range(n)]
    mean, low, high = mean_interval(margins, groups)

    def value(number: float, low: float | None = None, high: float | None = None, **beside):
        return {
            "value": number,
            "low": low,
            "high": high,
            "reference": 0.5,
            "chance": None,
        } | beside

    values = {
        "grounding_margin": value(mean, low, high, chance=0.0),
        "effective_captions": value(effective),
        "top_cluster_share": value(1 / n),
    }
    body = {
        "cell": cell,
        "role": "report",
        "projector": "x",
        "seed": 1,
        "split": half,
        "inputs": "key",
        "n_clips": n,
        "values": values,
        "metrics": dict.fromkeys(values, ABOUT),
        "losses": {},
        "not_computed": {"bertscore_f1": "no model"},
        "notes": {"cut": 1},
        "n_empty": 1,
        "truncated_share": 0.25 if half == "selection" else 0.0,
        "temperature": 0.1,
        "truth": None,
    }
    write_json(folder / "metrics.json", body, "metrics/1")
    clips = {
        "cell": cell,
        "id": [f"{half}{i:02d}" for i in range(n)],
        "split": half,
        "group": groups,
        "caption": [f"a {i}" for i in range(n)],
        "cluster": list(range(n)),
        "grounding_margin": margins,
        "grounding_margin_within": margins if within is None else within,
        "loss_matched": [1.0] * n,
        "loss_shuffled": 1.0 + margins,
        "loss_reversed": [1.0] * n,
    }
    write_parquet(folder / "clips.parquet", pl.DataFrame(clips))
    return folder


def draws(level: float, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {half: rng.normal(level, 0.1, n) for half, n in CLIPS.items()}


def test_figures_of_clips_groups_and_splits_are_those_of_all_clips(tmp_path):
    margins = draws(0.3, 0)
    halves = {
        half: ("x_1", write_half(tmp_path / half, "x_1", half, margins[half], effective))
        for half, effective in (("selection", 0.5), ("report", 1.0))
    }
    pool_halves("x_1", halves, tmp_path / "out")
    told = read_json(tmp_path / "out" / "metrics.json", "metrics/1")
    clips = pl.read_parquet(tmp_path / "out" / "clips.parquet")
    assert (told["n_clips"], told["split"], told["parts"]) == (20, "held_out", None)
    assert clips["id"].to_list() == sorted(clips["id"]) and clips["cluster"].n_unique() == 20
    # Two clips a video: 10 means of two.
    means = np.concatenate([own.reshape(-1, 2).mean(axis=1) for own in margins.values()])
    margin = told["values"]["grounding_margin"]
    assert margin["value"] == pytest.approx(means.mean())
    # t(.975, 9) = 2.26216
    half_width = 2.26216 * means.std(ddof=1) / np.sqrt(10)
    assert margin["high"] - margin["value"] == pytest.approx(half_width, rel=1e-5)
    assert told["losses"]["shuffled_gap"]["value"] == pytest.approx(means.mean())
    # By clips: (8 × .5 + 12 × 1) / 20.
    assert told["values"]["effective_captions"]["value"] == pytest.approx(0.8)
    assert told["truncated_share"] == pytest.approx(0.1)
    assert (told["n_empty"], told["notes"]) == (2, {"cut": 2})
    assert told["not_computed"] == {"bertscore_f1": "no model"}


@pytest.fixture
def disagreeing(tmp_path):
    """Half A chose x_1 and half B x_2, so that each reports the other half, with two seeds."""
    paths, parts, levels = Paths(tmp_path), {}, {}
    for seed in (1, 2):
        cells = {"selection": f"x_2{seed}", "report": f"x_1{seed}"}
        for half, cell in cells.items():
            levels[half, seed] = draws(0.2 + 0.1 * seed, 10 * seed)[half]
            effective = 0.6 + 0.1 * seed
            write_half(paths.scored(cell, half), cell, half, levels[half, seed], effective)
        parts[f"x.seed{seed}"] = cells
    human = draws(0.5, 99)
    for half in CLIPS:
        write_half(paths.scored("references", half), "references", half, human[half])
    parts["references"] = dict.fromkeys(CLIPS, "references")
    pool_study(paths, parts, paths.pooled)
    return paths, levels


def test_pooled_folders_hold_what_the_simulated_procedure_pools(disagreeing):
    """What the ranking reads from the folders is what ``crossfit.pool`` makes of the halves."""
    paths, levels = disagreeing
    on_a = [
        TuningCell("x_1", "x", 0.3, "grounded", 1e-4, 3),
        TuningCell("x_2", "x", 0.2, "grounded", 1e-3, 3),
    ]
    on_b = [
        TuningCell("x_1", "x", 0.1, "grounded", 1e-4, 3),
        TuningCell("x_2", "x", 0.2, "grounded", 1e-3, 3),
    ]
    choices = choose_by_fold(on_a, on_b)

    def report(half: str, cell: str) -> HalfReport:
        table = np.stack([levels[half, seed] for seed in (1, 2)])
        return HalfReport(cell, table, [0.7, 0.8], [1 / CLIPS[half]] * 2)

    groups = [[f"{half}{i // 2}" for i in range(n)] for half, n in CLIPS.items()]
    references = [reference_figures(paths.scored("references", half)) for half in CLIPS]
    expected = pool(
        choices,
        {"x": (report("selection", "x_2"), report("report", "x_1"))},
        (groups[0], groups[1]),
        (references[0], references[1]),
    )
    seen, own_groups = candidate([paths.run("x.seed1"), paths.run("x.seed2")])
    # Rows of the folders stand by id, those of the pooled table half by half.
    order = np.argsort([f"{half}{i:02d}" for half, n in CLIPS.items() for i in range(n)])
    entry = expected.entries["x"]
    assert own_groups == [expected.groups[i] for i in order]
    np.testing.assert_allclose(seen.margins, np.asarray(entry.margins)[:, order])
    np.testing.assert_allclose(seen.effective, entry.effective)
    np.testing.assert_allclose(seen.top_share, entry.top_share)
    human = reference_figures(paths.run("references"))
    for name in ("effective", "top_share", "mean_margin"):
        assert getattr(human, name) == pytest.approx(getattr(expected.references, name))


def test_what_two_cells_are_together_names_them(disagreeing):
    paths, _ = disagreeing
    told = read_json(paths.run("x.seed1") / "metrics.json", "metrics/1")
    assert told["parts"] == {"selection": "x_21", "report": "x_11"}
    assert pl.read_parquet(paths.run("x.seed1") / "clips.parquet")["cell"].unique().to_list() == [
        "x.seed1"
    ]
    assert set(read_json(paths.pooled, "pooled/1")["captioners"]) == {
        "x.seed1",
        "x.seed2",
        "references",
    }


def test_a_source_video_in_both_halves_is_refused(tmp_path):
    halves = {
        half: ("x", write_half(tmp_path / half, "x", half, np.ones(4), group="video{i}"))
        for half in CLIPS
    }
    with pytest.raises(StudyError, match="source video 'video0' has clips in both halves"):
        pool_halves("x", halves, tmp_path / "out")


def test_scores_of_the_wrong_half_are_refused(tmp_path):
    folder = write_half(tmp_path / "a", "x", "selection", np.ones(4))
    halves = {"selection": ("x", folder), "report": ("x", folder)}
    with pytest.raises(StudyError, match="cell 'x' on 'selection'; expected 'x' on 'report'"):
        pool_halves("x", halves, tmp_path / "out")


@pytest.fixture
def tuned(tmp_path):
    """Three tuning cells scored on both halves; choose."""
    cells = [
        Cell("x", "tuning", RunSpec(projector="x", stage2={"learning_rate": rate}), True)
        for rate in (1e-5, 1e-4, 1e-3)
    ]
    paths = Paths(tmp_path)
    human = draws(0.5, 1)
    for half in CLIPS:
        write_half(paths.scored("references", half), "references", half, human[half])

    def choose(levels: dict[str, tuple[float, float, float]]) -> dict:
        for half, by_cell in levels.items():
            for place, (cell, level) in enumerate(zip(cells, by_cell, strict=True)):
                margins = draws(level, 5 + place)[half]
                write_half(paths.scored(cell.name, half), cell.name, half, margins)
        select_by_halves(
            cells,
            {half: [paths.scored(cell.name, half) for cell in cells] for half in CLIPS},
            {half: paths.scored("references", half) for half in CLIPS},
            GateThresholds(),
            paths.selection,
        )
        return json.loads(paths.selection.read_text("utf-8"))

    return [cell.name for cell in cells], choose


def test_each_half_is_reported_by_the_cell_that_the_other_chose(tuned):
    names, choose = tuned
    told = choose({"selection": (0.9, 0.3, 0.3), "report": (0.3, 0.9, 0.3)})
    row = told["projectors"]["x"]
    assert row["reports"] == {"selection": names[1], "report": names[0]}
    assert row["chosen"] is None and row["n_cells"] == 3
    assert {half: rows["x"]["chosen"] for half, rows in told["halves"].items()} == {
        "selection": names[0],
        "report": names[1],
    }
    agreed = choose({"selection": (0.3, 0.3, 0.9), "report": (0.3, 0.3, 0.9)})["projectors"]["x"]
    assert agreed["chosen"] == names[2] and set(agreed["reports"].values()) == {names[2]}


@pytest.mark.parametrize(
    ("reported", "chooses"), [("selection", "report"), ("report", "selection")]
)
def test_who_reports_a_half_does_not_depend_on_that_half(tuned, reported, chooses):
    """Whatever the captions of a half come to, the cell that reports it stays."""
    _, choose = tuned
    fixed = {chooses: (0.3, 0.6, 0.2)}
    found = []
    for levels in ((0.9, 0.1, 0.5), (0.1, 0.1, 0.9), (-0.5, 0.2, 0.1)):
        told = choose({half: {**fixed, reported: levels}[half] for half in CLIPS})
        found.append(told["projectors"]["x"]["reports"])
    assert len({reports[reported] for reports in found}) == 1
    # The other half's reporter does follow what this half says.
    assert len({reports[chooses] for reports in found}) == 3


def test_a_cell_of_the_category_alone_is_passed_over_by_the_half_that_saw_it(tuned, tmp_path):
    names, choose = tuned
    choose({half: (0.9, 0.5, 0.3) for half in CLIPS})
    paths = Paths(tmp_path)
    nothing = np.array([0.1, 0.1, -0.1, -0.1] * 2)
    folder = paths.scored(names[0], "selection")
    write_half(folder, names[0], "selection", draws(0.9, 5)["selection"], within=nothing)
    cells = [
        Cell("x", "tuning", RunSpec(projector="x", stage2={"learning_rate": rate}), True)
        for rate in (1e-5, 1e-4, 1e-3)
    ]
    select_by_halves(
        cells,
        {half: [paths.scored(name, half) for name in names] for half in CLIPS},
        {half: paths.scored("references", half) for half in CLIPS},
        GateThresholds(),
        paths.selection,
    )
    told = json.loads(paths.selection.read_text("utf-8"))
    # Half A passes it over and chooses the next for B; B, which did not see it fail, keeps it.
    row = told["projectors"]["x"]
    assert row["reports"] == {"selection": names[0], "report": names[1]}
    assert (row["n_category_only"], row["passed_over"], row["gate"]) == (1, [names[0]], "grounded")
    assert row["cells"][0]["gate_reason"].startswith("Category only")
    assert [told["halves"][h]["x"]["n_category_only"] for h in CLIPS] == [1, 0]
