"""From scored folders to ``ranking.json``."""

from pathlib import Path

import numpy as np
import pytest

from siglip_study.base.errors import StudyError
from siglip_study.base.io import read_json, write_json
from siglip_study.ranking.gate import GateThresholds
from siglip_study.ranking.ranking_file import rank_projectors
from siglip_study.ranking.scorer_check import check_scorer
from siglip_study.study.grid import SELECTION_SCHEMA

N = 24
ORDER = [(7 * i) % N for i in range(N)]
GROUPS = [f"video{i // 2:02d}" for i in range(N)]
# References that the scorer tells apart: .5 on the diagonal, noise elsewhere.
MATRIX = np.random.default_rng(0).normal(0, 0.02, (N, N)) + 0.5 * np.eye(N)
SCORER = check_scorer(MATRIX, GROUPS)


def margins(mean: float, seed: int) -> list[float]:
    return (mean + np.random.default_rng(seed).normal(0, 0.02, N)).tolist()


@pytest.fixture
def study(tmp_path: Path, write_scored):
    """Two projectors of two seeds, ``strong`` far ahead of ``weak``; rank them."""

    def run(name: str, order=None, retrieval_ids=None, weak_ids=None):
        root = tmp_path / name
        references = write_scored(
            root / "references",
            np.diag(MATRIX).tolist(),
            groups=GROUPS,
            order=order,
        )
        runs = {
            label: [
                write_scored(
                    root / f"{label}{seed}",
                    margins(mean, seed + 10 * place),
                    groups=GROUPS,
                    order=order,
                    ids=weak_ids if label == "weak" else None,
                )
                for seed in (1, 2)
            ]
            for place, (label, mean) in enumerate({"weak": 0.1, "strong": 0.3}.items())
        }
        retrieval = write_scored(
            root / "retrieval", margins(0.2, 99), groups=GROUPS, order=order, ids=retrieval_ids
        )
        selection = {label: {"chosen": label, "gate": "grounded"} for label in runs}
        write_json(root / "selection.json", {"projectors": selection}, SELECTION_SCHEMA)
        rank_projectors(
            runs,
            references,
            retrieval,
            root / "selection.json",
            SCORER,
            GateThresholds(),
            halved=False,
            out=root / "ranking.json",
        )
        return read_json(root / "ranking.json", "ranking/1")

    return run


def test_the_ranking_is_written(study):
    found = study("plain")
    assert found["seeds"] == 2 and found["n_groups"] == N // 2 and found["n_clips"] == N
    assert found["scorer_can_tell"] and found["can_rank"]
    rows = {row["projector"]: row for row in found["projectors"]}
    assert (rows["strong"]["rank_low"], rows["strong"]["rank_high"]) == (1, 1)
    assert (rows["weak"]["rank_low"], rows["weak"]["rank_high"]) == (2, 2)
    assert rows["weak"]["mean_margin"] == pytest.approx(np.mean([margins(0.1, 1), margins(0.1, 2)]))
    assert found["retrieval"]["mean_margin"] == pytest.approx(np.mean(margins(0.2, 99)))
    assert found["retrieval"]["cleared_by"] == ["strong"]


def test_rows_are_joined_by_id_not_position(study):
    assert study("shuffled", order=ORDER) == study("straight")


@pytest.mark.parametrize("which", ["weak_ids", "retrieval_ids"])
def test_clips_that_differ_are_named(study, which):
    ids = [f"clip{i:02d}" for i in range(N - 1)] + ["stranger"]
    with pytest.raises(StudyError, match=r"'clip23'.*'stranger'"):
        study("differing", **{which: ids})


def test_an_empty_selection_choice_is_a_caveat(study, tmp_path):
    study("base")
    root = tmp_path / "base"
    chosen = {
        "weak": {"chosen": "weak", "gate": "collapsed"},
        "strong": {"chosen": "strong", "gate": "grounded"},
    }
    write_json(root / "selection.json", {"projectors": chosen}, SELECTION_SCHEMA)
    rank_projectors(
        {label: [root / f"{label}{seed}" for seed in (1, 2)] for label in chosen},
        root / "references",
        root / "retrieval",
        root / "selection.json",
        SCORER,
        GateThresholds(),
        halved=True,
        out=root / "ranking.json",
    )
    caveats = read_json(root / "ranking.json", "ranking/1")["caveats"]
    assert any("halved by source video" in sentence for sentence in caveats)
    assert any("weak" in sentence and "collapsed" in sentence for sentence in caveats)
