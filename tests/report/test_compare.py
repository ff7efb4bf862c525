"""Two finished studies held against each other: what is claimed, and what is refused."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from support.scored import split_scores, write_captioner

from siglip_study.base.errors import StudyError
from siglip_study.base.io import read_parquet, write_json, write_parquet
from siglip_study.config import parse, plain_config
from siglip_study.ranking.from_scores import rank_projectors
from siglip_study.ranking.gate import GateThresholds
from siglip_study.ranking.scorer_check import CHECK_SCHEMA, StudyCheck, check_scorer
from siglip_study.ranking.selection import Selection, StudySelection, write_selection
from siglip_study.report.compare import FinishedStudy, comparison
from siglip_study.report.schema import frame
from siglip_study.study.paths import Paths

N = 24
GROUPS = [f"video{i // 2:02d}" for i in range(N)]
SCORER = check_scorer(np.random.default_rng(0).normal(0, 0.02, (N, N)) + 0.5 * np.eye(N), GROUPS)


def margins(mean: float, seed: int) -> list[float]:
    return (mean + np.random.default_rng(seed).normal(0, 0.02, N)).tolist()


def write_study(root: Path, mean: float, human: float = 0.5, seeds: int = 2, **keys) -> Path:
    """A finished study of one projector, ``linear``, whose M is about ``mean``."""
    paths = Paths(root)
    runs = [f"linear_{seed}" for seed in range(seeds)]
    for place, run in enumerate(runs):
        made = split_scores(margins(mean, round(1000 * mean) + place), groups=GROUPS)
        write_captioner(paths.run(run), made, cell=run, projector="linear", seed=place)
        took = {"wall_s": 1.5, "gpu_s": 1.0}
        write_json(paths.run(run) / "cell.json", {"stage1_cell": run, **took}, "cell/1")
        write_json(paths.run(run) / "captions.json", took, "captions/1")
        write_json(paths.stage1(run) / "stage.json", took, "stage/1")
    for name, level in (("references", human), ("retrieval", 0.05)):
        write_captioner(paths.run(name), split_scores(margins(level, 7), groups=GROUPS), cell=name)
    selection = StudySelection({"linear": Selection("linear", 0.1, "grounded", 1, 0, 0, (), ())})
    write_selection(paths.selection, selection)
    check = StudyCheck("scorer", None, "report", {"report": SCORER})
    write_json(paths.scorer_check, asdict(check), CHECK_SCHEMA)
    rank_projectors(
        {"linear": [paths.run(run) for run in runs]},
        *(paths.run(name) for name in ("references", "retrieval")),
        selection,
        SCORER,
        GateThresholds(),
        halved=False,
        out=paths.ranking,
    )
    rows = [{"projector": "linear", "cell": run} for run in runs]
    write_parquet(paths.tables / "runs.parquet", frame("runs", rows))
    ids = read_parquet(paths.run("references") / "clips.parquet")["id"]
    clips = {"id": ids, "sha256": ids, "group": GROUPS, "captions": [[f"a {clip}"] for clip in ids]}
    none = pl.Series([None] * N, dtype=pl.Float64)
    clips |= {"start_s": none, "end_s": none, "category": none.cast(pl.String)}
    write_parquet(paths.manifest, pl.DataFrame(clips))
    config = plain_config(parse({"data": {"root": "clips"}, "projectors": {"linear": {}}, **keys}))
    write_json(paths.report_answer, {"config": config}, "report/1")
    return root


def compared(a: Path, b: Path, language="en") -> str:
    return comparison(FinishedStudy.read("A", a), FinishedStudy.read("B", b), language)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("a"), 0.2)


def test_the_better_study_is_told_with_its_difference_and_the_keys_that_differ(base, tmp_path):
    text = compared(base, write_study(tmp_path, 0.4, vision={"layer": -1}))
    assert "B:linear beats A:linear by 0.2" in text
    assert "| `vision.layer` | -2 | -1 |" in text and text.count("| `") == 1
    # B's M is 0.2 higher, so A − B is negative, and its interval too.
    (row,) = (line for line in text.splitlines() if line.startswith("| A:linear | B:linear |"))
    assert row.count("−") == 3


def test_studies_that_do_not_differ_are_not_ordered(base, tmp_path):
    text = compared(base, write_study(tmp_path, 0.203))
    assert "Neither study is shown to be better" in text and "could have been missed" in text
    assert "어느 연구가 낫다고 확인되지 않았습니다" in compared(base, tmp_path, "ko")


def other_captions(root: Path) -> None:
    path = Paths(root).manifest
    clips = read_parquet(path).with_columns(captions=pl.Series([["other"]] * N))
    write_parquet(path, clips)


def other_clips(root: Path) -> None:
    for name in ("references", "linear_0", "linear_1"):
        made = split_scores(margins(0.3, 1), groups=GROUPS, ids=[f"other{i:02}" for i in range(N)])
        write_captioner(Paths(root).run(name), made, cell=name)


@pytest.mark.parametrize(
    ("changes", "edit", "said"),
    [
        ({}, other_captions, f"{N} held-out clips have other captions, such as 'report00'"),
        ({}, other_clips, f"{N} held-out clips are in one of them alone"),
        ({"human": 0.9}, None, "their scorers judge the human captions otherwise"),
        ({"seeds": 3}, None, "'A:linear' has 2 seeds, projector 'B:linear' has 3"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_the_reason(base, tmp_path, changes, edit, said):
    other = write_study(tmp_path, 0.3, **changes)
    if edit:
        edit(other)
    with pytest.raises(StudyError, match=said):
        compared(base, other)
