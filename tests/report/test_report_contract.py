"""What the ranking really writes goes through tables and page, the poor cases too."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from siglip_study.ranking.gate import References
from siglip_study.ranking.procedure import Entry, rank_study, write_ranking
from siglip_study.ranking.scorer_check import check_scorer
from siglip_study.report import wording
from siglip_study.report.tables import build_tables


def real_ranking(n, seeds, groups, labels=("linear", "mlp_2l", "c_abstractor", "query_perceiver")):
    rng = np.random.default_rng(0)
    matrix = rng.normal(0, 0.05, (n, n)) + 0.3 * np.eye(n)
    entries = {
        label: Entry(rng.normal(0.1 * i, 0.03, (seeds, n)), [0.8] * seeds, [0.05] * seeds)
        for i, label in enumerate(labels)
    }
    return rank_study(
        entries,
        groups,
        References(0.9, 0.05, 0.3),
        check_scorer(matrix, groups, [None] * n, 0.05),
        retrieval=rng.normal(0.1, 0.03, n),
    )


@pytest.mark.parametrize(
    ("seeds", "groups", "shown"),
    [
        (3, [f"g{i // 2}" for i in range(24)], "clips and seeds"),
        (1, [f"g{i}" for i in range(24)], "No ranks are claimed. There is one run each"),
        (2, ["g"] * 24, "No ranks are claimed. "),
    ],
)
def test_rankings_of_every_kind_are_shown(make_study, tmp_path, seeds, groups, shown):
    study = make_study(tmp_path, seeds=max(seeds, 2), steps=8)
    found = real_ranking(24, seeds, groups)
    write_ranking(tmp_path / "tables/ranking.json", found)
    build_tables(tmp_path, study.cells)
    pairs = pl.read_parquet(tmp_path / "tables/pairs.parquet")
    assert pairs.height == 6 and (pairs["better"].null_count() == 6) == (not found.can_rank)
    html = study.report()
    assert shown in " ".join(html.replace("</strong>", "").split())
    for caveat in wording.caveats(found):
        assert caveat.split("'")[0] in html


def test_a_study_without_truth_rejections_or_retrieval(make_study, tmp_path):
    study = make_study(tmp_path, truth=False, steps=8)
    empty = pl.DataFrame(schema={"id": pl.String, "path": pl.String, "reason": pl.String})
    empty.write_parquet(tmp_path / "data/rejected.parquet")
    found = real_ranking(24, 2, [f"g{i}" for i in range(24)])
    write_ranking(tmp_path / "tables/ranking.json", replace(found, retrieval=None))
    build_tables(tmp_path, study.cells)
    html = study.report()
    assert 'id="truth"' not in html and "None: every clip of the dataset could be used." in html
    assert "clear the retrieval baseline" not in html.lower().split("<script")[0]


def test_one_clip_is_a_report_too(make_study, tmp_path):
    study = make_study(tmp_path, clips=1, steps=1)
    assert '"total":1' in study.report()
