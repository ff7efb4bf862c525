"""From scored folders to ``ranking.json``."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.scored import split_scores, write_captioner

from siglip_study.base.errors import StudyError
from siglip_study.base.io import write_json
from siglip_study.ranking.from_scores import choice_variances, rank_projectors
from siglip_study.ranking.gate import GateThresholds
from siglip_study.ranking.procedure import read_ranking
from siglip_study.ranking.scorer_check import check_scorer
from siglip_study.ranking.selection import Selection, StudySelection, TuningCell

N = 24
ORDER = [(7 * i) % N for i in range(N)]
GROUPS = [f"video{i // 2:02d}" for i in range(N)]
# References that the scorer tells apart: .5 on the diagonal, noise elsewhere.
MATRIX = np.random.default_rng(0).normal(0, 0.02, (N, N)) + 0.5 * np.eye(N)
SCORER = check_scorer(MATRIX, GROUPS)


def margins(mean: float, seed: int) -> list[float]:
    return (mean + np.random.default_rng(seed).normal(0, 0.02, N)).tolist()


def write(folder: Path, values: list[float], order=None, ids=None) -> Path:
    """A captioner of this study, its rows in any order."""
    made = split_scores(values, groups=GROUPS, ids=ids)
    write_captioner(folder, replace(made, clips=made.clips[order]) if order else made)
    return folder


@pytest.fixture
def study(tmp_path: Path):
    """Two projectors of two seeds, ``strong`` far ahead of ``weak``; rank them."""

    def run(name: str, order=None, retrieval_ids=None, weak_ids=None, weak_gate="grounded"):
        root = tmp_path / name
        runs = {
            label: [
                write(
                    root / f"{label}{seed}",
                    margins(mean, seed + 10 * place),
                    order,
                    weak_ids if label == "weak" else None,
                )
                for seed in (1, 2)
            ]
            for place, (label, mean) in enumerate({"weak": 0.1, "strong": 0.3}.items())
        }
        selection = StudySelection(
            {
                label: Selection(label, 0.1, gate, 1, 0, 0, (), ())
                for label, gate in (("weak", weak_gate), ("strong", "grounded"))
            }
        )
        rank_projectors(
            runs,
            write(root / "references", np.diag(MATRIX).tolist(), order),
            write(root / "retrieval", margins(0.2, 99), order, retrieval_ids),
            selection,
            SCORER,
            GateThresholds(),
            halved=weak_gate != "grounded",
            out=root / "ranking.json",
        )
        return read_ranking(root / "ranking.json")

    return run


def test_the_ranking_is_written(study):
    found = study("plain")
    assert (found.n_seeds, found.n_groups, found.n_clips) == (2, N // 2, N)
    assert found.scorer.can_tell and found.can_rank
    strong, weak = found.projectors
    assert (strong.projector, strong.rank_low, strong.rank_high) == ("strong", 1, 1)
    assert (weak.projector, weak.rank_low, weak.rank_high) == ("weak", 2, 2)
    assert weak.mean_margin == pytest.approx(np.mean([margins(0.1, 1), margins(0.1, 2)]))
    assert found.retrieval.mean_margin == pytest.approx(np.mean(margins(0.2, 99)))
    assert found.retrieval.cleared_by == ("strong",)


def test_rows_are_joined_by_id_not_position(study):
    assert study("shuffled", order=ORDER) == study("straight")


@pytest.mark.parametrize("which", ["weak_ids", "retrieval_ids"])
def test_clips_that_differ_are_named(study, which):
    ids = [f"report{i:02d}" for i in range(N - 1)] + ["stranger"]
    with pytest.raises(StudyError, match=r"'report23'.*'stranger'"):
        study("differing", **{which: ids})


def test_an_empty_selection_choice_is_a_caveat(study):
    told = {
        caveat.code: caveat.projectors for caveat in study("base", weak_gate="collapsed").caveats
    }
    assert "halved" in told
    assert told["all_tuning_collapsed"] == ("weak",)


def test_what_a_run_took_is_known_of_all_projectors_or_of_none(study, tmp_path):
    assert study("unknown").hours == {}
    for place, label in enumerate(("weak", "strong")):
        folder, stage1 = tmp_path / f"runs/{label}1", tmp_path / f"stage1/{label}"
        took = {"gpu_s": 0.0, "wall_s": 1800.0 * (1 + place)}
        write_json(folder / "cell.json", {"stage1_cell": label, **took}, "cell/1")
        write_json(stage1 / "stage.json", took, "stage/1")
        write_json(folder / "captions.json", {"gpu_s": 360.0, "wall_s": 900.0}, "captions/1")
    found = study("runs").hours
    assert (found["weak"].training, found["strong"].training) == (1.0, 2.0)
    # GPU time where there is any; one seed more is trained and captioned.
    assert found["weak"].captions == 0.1 and found["weak"].total == pytest.approx(1.1)


def test_halves_that_chose_for_each_other_are_charged_for_the_choice(tmp_path):
    """Two cells of one projector, each half choosing the first; the figures as by hand."""
    rng = np.random.default_rng(4)
    sizes = {"selection": 10, "report": 14}
    drawn = {
        name: {half: rng.normal(0.3, 0.1, n) for half, n in sizes.items()}
        for name in ("first", "second", "references")
    }
    # What a cell keeps: the fresh run is the tuning run with a little of its own.
    drawn["fresh"] = {
        half: own + rng.normal(0, 0.02, len(own)) for half, own in drawn["first"].items()
    }
    folders = {}
    for name, by_half in drawn.items():
        folder = tmp_path / ("baselines" if name == "references" else "runs") / name
        parts = [split_scores(own, half) for half, own in by_half.items()]
        folders[name] = write_captioner(folder, *parts)
    cells = tuple(TuningCell(name, "x", 0.3, "grounded", 1e-3, 1) for name in ("first", "second"))
    chose = Selection("first", 0.3, "grounded", 2, 0, 0, (), cells)
    selection = StudySelection({"x": chose}, {half: {"x": chose} for half in sizes})
    found = choice_variances({"x": [folders["fresh"]]}, folders["references"], selection)

    charged = 0.45 * 2 * 10 * 14 / 24**2
    for half, n in sizes.items():
        difference = drawn["first"][half] - drawn["second"][half]
        spread = difference.var(ddof=1)
        # Of two cells: cov((a − b)/2, f − (a + b)/2) · 2 and var((a − b)/2) · 2.
        kept = np.cov(difference / 2, drawn["fresh"][half] - drawn["second"][half] - difference / 2)
        charged *= min(2 * kept[0, 1], spread / 2) / np.sqrt(spread / 2 * n)
    assert found == pytest.approx({"x": charged}) and charged > 0

    one = Selection("first", 0.3, "grounded", 1, 0, 0, (), cells[:1])
    unchosen = StudySelection({"x": one}, {half: {"x": one} for half in sizes})
    assert choice_variances({"x": [folders["fresh"]]}, folders["references"], unchosen) == {}
    assert (
        choice_variances(
            {"x": [folders["fresh"]]}, folders["references"], StudySelection({"x": chose})
        )
        == {}
    )
