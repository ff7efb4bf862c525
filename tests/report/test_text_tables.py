"""Tables for a paper: what LaTeX would stumble over is escaped, and the figures are the table's."""

from __future__ import annotations

import pytest

from siglip_study.base.io import read_json
from siglip_study.report.text_tables import booktabs, escape


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("mlp_2l", r"mlp\_2l"),
        ("50 % & more", r"50 \% \& more"),
        (r"\input{x}", r"\textbackslash{}input\{x\}"),
        ("−0.5", "$-$0.5"),
        ("a\x00b\n", "a b "),
    ],
)
def test_text_of_the_data_is_no_command(text: str, printed: str) -> None:
    assert escape(text) == printed


def test_a_table_is_rules_a_head_and_rows() -> None:
    lines = booktabs(("a", "b"), [("x", "1"), ("y", "2")]).splitlines()
    assert lines[1:-1] == [
        r"\begin{tabular}{lr}", r"\toprule", r"a & b \\", r"\midrule", r"x & 1 \\", r"y & 2 \\",
        r"\bottomrule",
    ]  # fmt: skip


def test_the_study_has_its_tables_for_a_paper(study) -> None:
    ranking = (study.root / "tables/ranking.tex").read_text(encoding="utf-8")
    assert r"mlp\_2l & 1--2" in ranking
    assert (study.root / "tables/pairs.tex").read_text(encoding="utf-8").count(r"\\") > 3


def test_the_answer_is_a_file_of_its_own(study, page) -> None:
    told = read_json(study.root / "report.json", "report/1")
    assert set(told["headline"]) == {"en", "ko"}
    assert [line["projector"] for line in told["lines"]][:1] == ["mlp_2l"]
    assert all({"good", "text"} == set(check) for check in told["checks"])
    assert told["answer"]["code"] == "no_first"
