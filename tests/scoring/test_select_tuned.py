"""The chosen cells, from scores written by hand."""

from pathlib import Path

import numpy as np
import pytest

from siglip_study.base.errors import StudyError
from siglip_study.base.io import read_json
from siglip_study.ranking.gate import GateThresholds
from siglip_study.ranking.selection_file import candidate, reference_figures, select_tuned
from siglip_study.study.cells import Cell, RunSpec
from siglip_study.study.grid import SELECTION_SCHEMA

N = 12
HUMAN = [0.5 + 0.01 * (i % 3) for i in range(N)]
STEADY = [0.10 + 0.01 * (i % 3) for i in range(N)]  # mean .11, far above its error
BETTER = [0.20 + 0.01 * (i % 3) for i in range(N)]  # mean .21
# Highest mean, .25, within noise of 0: t = .25 / (.783 / √12) = 1.1.
WILD = [1.0 if i % 2 else -0.5 for i in range(N)]


def cell(label: str, rate: float, epochs: float = 1) -> Cell:
    stage2 = {"learning_rate": rate, "epochs": epochs}
    return Cell(label, "tuning", RunSpec(projector="linear", stage2=stage2))


@pytest.fixture
def select(tmp_path: Path, write_scored):
    """Write cells given as (cell, margins, effective captions) and choose among them."""

    def run(*scored, order=None, human=None):
        references = write_scored(tmp_path / "references", HUMAN, effective=0.95, within=human)
        folders = [
            write_scored(
                tmp_path / c.name, margins, effective, order=order, within=(within or [None])[0]
            )
            for c, margins, effective, *within in scored
        ]
        out = tmp_path / "selection.json"
        cells = [c for c, *_ in scored]
        select_tuned(cells, folders, references, GateThresholds(), out)
        return read_json(out, SELECTION_SCHEMA)["projectors"]

    return run


def test_the_highest_mean_margin_wins(select):
    low, high = cell("linear", 1e-3), cell("linear", 1e-4)
    found = select((low, STEADY, 0.9), (high, BETTER, 0.9))["linear"]
    assert found["chosen"] == high.name
    assert found["mean_margin"] == pytest.approx(0.21)
    assert (found["n_cells"], found["n_collapsed"]) == (2, 0)
    assert [row["learning_rate"] for row in found["cells"]] == [1e-3, 1e-4]


def test_a_collapsed_cell_is_never_chosen_beside_another(select):
    good, bad = cell("linear", 1e-3), cell("linear", 1e-1)
    found = select((bad, WILD, 0.05), (good, STEADY, 0.9))["linear"]
    assert found["chosen"] == good.name and found["gate"] == "grounded"
    gates = {row["cell"]: row["gate"] for row in found["cells"]}
    assert gates == {good.name: "grounded", bad.name: "collapsed"}
    assert found["passed_over"] == [bad.name]


def test_where_all_collapsed_the_best_is_chosen_and_marked(select):
    first, second = cell("linear", 1e-3), cell("linear", 1e-1)
    found = select((first, [m - 1 for m in WILD], 0.05), (second, WILD, 0.05))["linear"]
    assert found["chosen"] == second.name and found["gate"] == "collapsed"
    assert found["n_collapsed"] == 2


def test_few_captions_that_fit_are_not_collapsed(select):
    only = cell("linear", 1e-3)
    assert select((only, BETTER, 0.05))["linear"]["n_collapsed"] == 0


# Within category: nothing (mean 0), and what the human captions have.
NOTHING = [0.1 * (-1) ** i for i in range(N)]
SOME = [0.05 + 0.01 * (i % 3) for i in range(N)]


def test_a_cell_of_the_category_alone_is_passed_over_with_its_reason(select):
    loud, sees = cell("linear", 1e-1), cell("linear", 1e-3)
    told = select((loud, BETTER, 0.9, NOTHING), (sees, STEADY, 0.9, SOME), human=HUMAN)["linear"]
    assert (told["chosen"], told["gate"]) == (sees.name, "grounded")
    assert (told["n_collapsed"], told["n_category_only"]) == (0, 1)
    assert told["passed_over"] == [loud.name]
    reason = told["cells"][0]["gate_reason"]
    assert reason.startswith("Category only: D is 0.2100") and "0.0000 within a category" in reason


def test_nobody_is_passed_over_for_what_the_human_captions_lack(select):
    loud, sees = cell("linear", 1e-1), cell("linear", 1e-3)
    for human in (None, NOTHING):
        told = select((loud, BETTER, 0.9, NOTHING), (sees, STEADY, 0.9, SOME), human=human)
        assert told["linear"]["chosen"] == loud.name
        assert told["linear"]["n_category_only"] == 0


def test_of_cells_of_the_category_alone_the_best_is_chosen_and_marked(select):
    low, high = cell("linear", 1e-1), cell("linear", 1e-3)
    told = select((low, STEADY, 0.9, NOTHING), (high, BETTER, 0.9, NOTHING), human=HUMAN)["linear"]
    assert (told["chosen"], told["gate"]) == (high.name, "category_only")
    assert (told["n_category_only"], told["passed_over"]) == (2, [])


def test_projectors_are_chosen_apart(select):
    a, b = cell("linear", 1e-3), cell("mlp", 1e-3)
    found = select((a, STEADY, 0.9), (b, BETTER, 0.9))
    assert {label: row["chosen"] for label, row in found.items()} == {
        "linear": a.name,
        "mlp": b.name,
    }


def test_the_size_of_the_grid_decides_no_verdict(select, tmp_path, write_scored):
    # One-sided p ≈ .02 by itself (t = .35 / .151); Holm over twenty cells would call it collapsed.
    shaky = [0.3 + (0.55 if i % 2 else -0.45) for i in range(N)]
    one = select((cell("linear", 1e-3), shaky, 0.05))["linear"]
    many = select(*[(cell("linear", 1e-3 / (i + 1)), shaky, 0.05) for i in range(20)])["linear"]
    assert one["n_collapsed"] == 0 and many["n_collapsed"] == 0


def test_groups_weigh_the_same(tmp_path, write_scored):
    # Three clips of one video at 0 and one of another at 1: .5, not .25.
    groups = ["a", "a", "a", "b"]
    references = write_scored(tmp_path / "r", [0.5] * 4, groups=groups)
    folder = write_scored(tmp_path / "c", [0.0, 0.0, 0.0, 1.0], groups=groups)
    chosen = select_tuned(
        [cell("linear", 1e-3)], [folder], references, GateThresholds(), tmp_path / "s.json"
    )
    assert chosen["projectors"]["linear"]["mean_margin"] == pytest.approx(0.5)


def test_rows_are_joined_by_id(tmp_path, write_scored):
    margins = [i / 10 for i in range(N)]
    groups = [f"video{i % 5}" for i in range(N)]
    straight = candidate([write_scored(tmp_path / "a", margins, groups=groups)])
    shuffled = candidate(
        [
            write_scored(
                tmp_path / "b", margins, groups=groups, order=[(7 * i) % N for i in range(N)]
            )
        ]
    )
    assert straight == shuffled
    np.testing.assert_array_equal(straight[0].within, shuffled[0].within)


def test_figures_of_the_references(tmp_path, write_scored):
    found = reference_figures(write_scored(tmp_path / "r", [0.25, 0.75], 0.8, 0.3))
    assert (found.effective, found.top_share, found.mean_margin) == (0.8, 0.3, 0.5)


def test_a_cell_scored_on_its_easiest_clips_is_refused(tmp_path, write_scored):
    """Its mean D would be the highest, of half of the clips."""
    references = write_scored(tmp_path / "r", HUMAN)
    whole = write_scored(tmp_path / "whole", [0.3 * i / N for i in range(N)])
    ids = [f"clip{i:02d}" for i in range(N // 2, N)]
    easy = write_scored(tmp_path / "easy", [0.3 * i / N for i in range(N // 2, N)], ids=ids)
    cells = [cell("linear", 1e-3), cell("linear", 1e-4)]
    with pytest.raises(StudyError, match=r"easy must hold the same clip ids.*clip00"):
        select_tuned(cells, [whole, easy], references, GateThresholds(), tmp_path / "s.json")


def test_an_unscored_cell_is_named(tmp_path, write_scored):
    references = write_scored(tmp_path / "r", HUMAN)
    with pytest.raises(StudyError, match=r"absent/metrics\.json: no such file"):
        select_tuned(
            [cell("linear", 1e-3)],
            [tmp_path / "absent"],
            references,
            GateThresholds(),
            tmp_path / "s.json",
        )
