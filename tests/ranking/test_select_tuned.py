"""The chosen cells, from scores written by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.scored import HALVES, split_scores, write_captioner

from siglip_study.base.errors import StudyError
from siglip_study.base.io import read_json
from siglip_study.ranking.gate import GateThresholds
from siglip_study.ranking.seen import reference_figures, seen_runs
from siglip_study.ranking.selection import read_selection, select_tuned
from siglip_study.study.cells import Cell, RunSpec
from siglip_study.study.grid import SELECTION_SCHEMA

N = 12
HUMAN = [0.5 + 0.01 * (i % 3) for i in range(N)]
STEADY = [0.10 + 0.01 * (i % 3) for i in range(N)]  # mean .11, far above its error
BETTER = [0.20 + 0.01 * (i % 3) for i in range(N)]  # mean .21


def cell(label: str, rate: float, epochs: float = 1) -> Cell:
    stage2 = {"learning_rate": rate, "epochs": epochs}
    return Cell(label, "tuning", RunSpec(projector="linear", stage2=stage2))


@pytest.fixture
def select(tmp_path: Path):
    """Write cells given as (cell, margins, effective captions[, within]) and choose among them."""

    def run(*scored, human=None):
        references = tmp_path / "references"
        write_captioner(references, split_scores(HUMAN, effective=0.95, within=human))
        cells = []
        for own, margins, effective, *within in scored:
            made = split_scores(margins, effective=effective, within=(within or [None])[0])
            cells.append([(own, write_captioner(tmp_path / own.name, made))])
        out = tmp_path / "selection.json"
        select_tuned(cells, references, GateThresholds(), out)
        return read_json(out, SELECTION_SCHEMA)["projectors"]

    return run


def test_the_highest_mean_margin_wins(select):
    low, high = cell("linear", 1e-3), cell("linear", 1e-4)
    found = select((low, STEADY, 0.9), (high, BETTER, 0.9))["linear"]
    assert found["chosen"] == high.name
    assert found["mean_margin"] == pytest.approx(0.21)
    assert (found["n_cells"], found["n_collapsed"]) == (2, 0)
    assert [row["learning_rate"] for row in found["cells"]] == [1e-3, 1e-4]


# Within category: nothing (mean 0), and what the human captions have.
NOTHING = [0.1 * (-1) ** i for i in range(N)]
SOME = [0.05 + 0.01 * (i % 3) for i in range(N)]


def test_a_cell_of_the_category_alone_is_passed_over_with_its_reason(select):
    loud, sees = cell("linear", 1e-1), cell("linear", 1e-3)
    told = select((loud, BETTER, 0.9, NOTHING), (sees, STEADY, 0.9, SOME), human=HUMAN)["linear"]
    assert (told["chosen"], told["gate"]) == (sees.name, "grounded")
    assert (told["n_collapsed"], told["n_category_only"]) == (0, 1)
    assert told["passed_over"] == [loud.name]
    why = told["cells"][0]["verdict"]
    assert why["verdict"] == "category_only"
    assert (why["margin"]["mean"], why["within"]["mean"]) == pytest.approx((0.21, 0.0))


def test_nobody_is_passed_over_for_what_the_human_captions_lack(select):
    loud, sees = cell("linear", 1e-1), cell("linear", 1e-3)
    for human in (None, NOTHING):
        told = select((loud, BETTER, 0.9, NOTHING), (sees, STEADY, 0.9, SOME), human=human)
        assert told["linear"]["chosen"] == loud.name
        assert told["linear"]["n_category_only"] == 0


def test_the_size_of_the_grid_decides_no_verdict(select):
    # One-sided p ≈ .02 by itself (t = .35 / .151); Holm over twenty cells would call it collapsed.
    shaky = [0.3 + (0.55 if i % 2 else -0.45) for i in range(N)]
    one = select((cell("linear", 1e-3), shaky, 0.05))["linear"]
    many = select(*[(cell("linear", 1e-3 / (i + 1)), shaky, 0.05) for i in range(20)])["linear"]
    assert one["n_collapsed"] == 0 and many["n_collapsed"] == 0


def test_groups_weigh_the_same(tmp_path):
    # Three clips of one video at 0 and one of another at 1: .5, not .25.
    groups = ["a", "a", "a", "b"]
    references = write_captioner(tmp_path / "r", split_scores([0.5] * 4, groups=groups))
    folder = write_captioner(tmp_path / "c", split_scores([0.0, 0.0, 0.0, 1.0], groups=groups))
    out = tmp_path / "s.json"
    select_tuned([[(cell("linear", 1e-3), folder)]], references, GateThresholds(), out)
    chosen = read_json(out, SELECTION_SCHEMA)["projectors"]["linear"]
    assert chosen["mean_margin"] == pytest.approx(0.5)
    assert chosen["reports"] == {"report": chosen["chosen"]}


def test_rows_are_joined_by_id(tmp_path):
    made = split_scores([i / 10 for i in range(N)], groups=[f"video{i % 5}" for i in range(N)])
    other = replace(made, clips=made.clips[[(7 * i) % N for i in range(N)]])
    folders = [write_captioner(tmp_path / str(i), one) for i, one in enumerate((made, other))]
    straight, shuffled = (seen_runs([folder], made.clips).entry for folder in folders)
    np.testing.assert_array_equal(straight.margins, shuffled.margins)
    np.testing.assert_array_equal(straight.within, shuffled.within)


def test_figures_of_the_references(tmp_path):
    made = split_scores([0.25, 0.75], effective=0.8, top_share=0.3)
    found = reference_figures(write_captioner(tmp_path, made))
    assert (found.effective, found.top_share, found.mean_margin) == (0.8, 0.3, 0.5)


def test_a_cell_scored_on_its_easiest_clips_is_refused(tmp_path):
    """Its mean D would be the highest, of half of the clips."""
    margins = [0.3 * i / N for i in range(N)]
    references = write_captioner(tmp_path / "r", split_scores(HUMAN))
    whole = write_captioner(tmp_path / "whole", split_scores(margins))
    ids = [f"report{i:02d}" for i in range(N // 2, N)]
    easy = write_captioner(tmp_path / "easy", split_scores(margins[N // 2 :], ids=ids))
    cells = [[(cell("linear", 1e-3), whole)], [(cell("linear", 1e-4), easy)]]
    with pytest.raises(StudyError, match=r"easy must hold the same clip ids.*report00"):
        select_tuned(cells, references, GateThresholds(), tmp_path / "s.json")


def test_an_unscored_cell_is_named(tmp_path):
    references = write_captioner(tmp_path / "r", split_scores(HUMAN))
    cells = [[(cell("linear", 1e-3), tmp_path / "absent")]]
    with pytest.raises(StudyError, match=r"absent/metrics\.json: missing; expected the scores"):
        select_tuned(cells, references, GateThresholds(), tmp_path / "s.json")


# --- several tuning seeds ------------------------------------------------------------------------


@pytest.fixture
def select_seeds(tmp_path: Path):
    """Choose among cells given as runs of (margins, effective captions[, within])."""

    def run(*cells, human=None):
        references = tmp_path / "references"
        write_captioner(references, split_scores(HUMAN, effective=0.95, within=human))
        scored = []
        for place, runs in enumerate(cells):
            own = []
            for seed, (margins, effective, *within) in enumerate(runs):
                stage2 = {"learning_rate": 1e-3 * (1 + place), "epochs": 1}
                made = RunSpec(projector="linear", stage2=stage2, seed=seed)
                named = Cell("linear", "tuning", made)
                table = split_scores(margins, effective=effective, within=(within or [None])[0])
                own.append((named, write_captioner(tmp_path / named.name, table)))
            scored.append(own)
        out = tmp_path / "selection.json"
        select_tuned(scored, references, GateThresholds(), out)
        return read_selection(out).projectors["linear"], [[c.name for c, _ in s] for s in scored]

    return run


def test_the_mean_over_tuning_seeds_chooses_and_the_first_run_names_the_cell(select_seeds):
    lucky = (BETTER, 0.9), ([value - 0.19 for value in BETTER], 0.9)  # .21 and .02
    even = (STEADY, 0.9), ([value + 0.02 for value in STEADY], 0.9)  # .11 and .13
    found, names = select_seeds(lucky, even)
    assert found.chosen == names[1][0] and found.n_tuning_seeds == 2
    assert found.mean_margin == pytest.approx(0.12)
    assert found.cells[1].runs == tuple(names[1])
    assert found.cells[1].run_margins == pytest.approx((0.11, 0.13))
    assert (found.n_cells, found.passed_over) == (2, ())
    # With the first seed alone the lucky one is chosen.
    assert select_seeds(lucky[:1], even[:1])[0].chosen == names[0][0]


def test_a_cell_of_which_one_seed_failed_gives_way_to_a_sound_one(select_seeds):
    nothing = [0.1 * (-1) ** i for i in range(N)]
    falls = ([0.9 + value for value in BETTER], 0.9), (nothing, 0.05)
    found, names = select_seeds(falls, ((STEADY, 0.9), (STEADY, 0.9)))
    assert found.chosen == names[1][0] and found.passed_over == (names[0][0],)
    fallen = found.cells[0]
    assert (fallen.gate, found.n_collapsed, found.eligible) == ("unstable", 0, (found.cells[1],))
    assert [fallen.run_gate(run) for run in fallen.runs] == ["grounded", "collapsed"]
    # With nothing sound beside it, it stands for its projector.
    assert select_seeds(falls)[0].chosen == names[0][0]


# --- halves of one held-out split, which choose for each other ----------------------------------

CELLS = [cell("x", rate) for rate in (1e-5, 1e-4, 1e-3)]
NAMES = [own.name for own in CELLS]


def halves(level: dict[str, float], seed: int, **within: list[float]) -> list:
    """Both halves of a captioner by the level of its margins; two clips a source video."""
    scored = []
    for half, n in zip(HALVES, (8, 12), strict=True):
        # The same draws whatever the level of the other half.
        margins = np.random.default_rng([seed, n]).normal(level[half], 0.1, n)
        groups = [f"{half}-{i // 2}" for i in range(n)]
        own = within.get(half, margins.tolist())
        scored.append(split_scores(margins, half, groups=groups, within=own))
    return scored


@pytest.fixture
def choose(tmp_path: Path):
    """Choose on both halves among three cells, given the level of each on each half."""

    def run(levels: dict[str, tuple[float, float, float]], **within: list[float]) -> dict:
        references = tmp_path / "references"
        write_captioner(references, *halves(dict.fromkeys(HALVES, 0.5), 1))
        cells = []
        for place, own in enumerate(CELLS):
            level = {half: by_cell[place] for half, by_cell in levels.items()}
            scored = halves(level, 5 + place, **(within if place == 0 else {}))
            cells.append([(own, write_captioner(tmp_path / own.name, *scored))])
        out = tmp_path / "selection.json"
        select_tuned(cells, references, GateThresholds(), out, halves=HALVES)
        return read_json(out, SELECTION_SCHEMA)

    return run


def test_each_half_is_reported_by_the_cell_that_the_other_chose(choose):
    told = choose({"selection": (0.9, 0.3, 0.3), "report": (0.3, 0.9, 0.3)})
    row = told["projectors"]["x"]
    assert row["reports"] == {"selection": NAMES[1], "report": NAMES[0]}
    assert row["chosen"] is None and row["n_cells"] == 3
    chose = {half: rows["x"]["chosen"] for half, rows in told["halves"].items()}
    assert chose == {"selection": NAMES[0], "report": NAMES[1]}


def test_halves_that_agree_have_one_cell_and_figures_over_both(choose):
    told = choose(dict.fromkeys(HALVES, (0.3, 0.3, 0.9)))
    row = told["projectors"]["x"]
    assert row["chosen"] == NAMES[2] and set(row["reports"].values()) == {NAMES[2]}
    means = [told["halves"][half]["x"]["mean_margin"] for half in HALVES]
    assert row["mean_margin"] == row["cells"][2]["mean_margin"] == pytest.approx(np.mean(means))


@pytest.mark.parametrize("reported", HALVES)
def test_who_reports_a_half_does_not_depend_on_that_half(choose, reported):
    """Whatever the captions of a half come to, the cell that reports it stays."""
    (chooses,) = set(HALVES) - {reported}
    found = []
    for levels in ((0.9, 0.1, 0.5), (0.1, 0.1, 0.9), (-0.5, 0.2, 0.1)):
        told = choose({chooses: (0.3, 0.6, 0.2), reported: levels})
        found.append(told["projectors"]["x"]["reports"])
    assert len({reports[reported] for reports in found}) == 1
    # The other half's reporter does follow what this half says.
    assert len({reports[chooses] for reports in found}) == 3


def test_a_cell_of_the_category_alone_is_passed_over_by_the_half_that_saw_it(choose):
    nothing = [0.1, 0.1, -0.1, -0.1] * 2
    told = choose(dict.fromkeys(HALVES, (0.9, 0.5, 0.3)), selection=nothing)
    # Half A passes it over and chooses the next for B; B, which did not see it fail, keeps it.
    row = told["projectors"]["x"]
    assert row["reports"] == {"selection": NAMES[0], "report": NAMES[1]}
    assert (row["n_category_only"], row["passed_over"], row["gate"]) == (1, [NAMES[0]], "grounded")
    assert row["cells"][0]["verdict"]["verdict"] == "category_only"
    assert [told["halves"][h]["x"]["n_category_only"] for h in HALVES] == [1, 0]
