"""Figures from elsewhere beside a study's own: what is taken, what is told, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from siglip_study.base.io import read_parquet
from siglip_study.report import beside
from siglip_study.report.text_tables import code_span, table_cell
from siglip_study.report.words import significant

FINAL = {
    "meteor": 0.066,
    "bertscore_f1": 0.7057,
    "final": {"siglip": 0.1133, "diversity": 0.11, "losses": [1.6, 1.5]},
    "run": "E5-v2",
    "finished": True,
}
LOG = "epoch,train_loss,distinct_ratio\n1,1.8293,0.30\n2,1.6065,0.25\n\n"
NAMED = ("--as", "siglip_published=final.siglip", "--as", "distinct_ratio=final.diversity")


def write(folder: Path, found: Any) -> str:
    path = folder / "final_metrics.json"
    path.write_text(found if isinstance(found, str) else json.dumps(found), encoding="utf-8")
    return str(path)


@pytest.fixture
def final(tmp_path: Path) -> str:
    return write(tmp_path, FINAL)


@pytest.fixture
def log(tmp_path: Path) -> str:
    path = tmp_path / "training_log.csv"
    path.write_text(LOG, encoding="utf-8")
    return str(path)


@pytest.fixture
def told(study: Any, page: Any, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command on a finished study; what it prints."""

    def run(*words: str) -> str:
        assert beside.main([str(study.root), *words]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    return run


def rows(text: str) -> dict[str, dict[str, str]]:
    """First cell → column → cell."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    found = [line for line in lines if line[0] != "---"]
    head = ["label", "place", *found[0][-(len(found[2]) - 2) :]]
    return {line[0]: dict(zip(head, line, strict=False)) for line in found[2:]}


def test_keys_named_as_metrics_are_taken_and_others_by_their_name(told: Any, final: str) -> None:
    own = rows(told(final, *NAMED))["`final_metrics.json`"]
    expected = {"meteor": ".0660", "bertscore_f1": ".706", "siglip_published": ".113"}
    assert {name: own[name].removeprefix("0") for name in expected} == expected
    assert own["distinct_ratio"] == "0.110"
    assert own["place"] == "from elsewhere"


def test_of_a_log_the_last_row_counts(told: Any, log: str) -> None:
    assert rows(told(log))["`training_log.csv`"]["distinct_ratio"] == "0.250"


def test_files_stand_one_below_the_other_above_what_was_measured(
    told: Any, final: str, log: str, study: Any
) -> None:
    found = rows(told(final, log, *NAMED))
    assert list(found)[:2] == ["`final_metrics.json`", "`training_log.csv`"]
    assert found["Human captions"]["distinct_ratio"] == "1"
    assert found["`training_log.csv`"]["meteor"] == "–"
    cells = read_parquet(study.root / "tables/cells.parquet").filter(pl.col("role") == "report")
    means = cells.group_by("projector").agg(pl.col("distinct_ratio").mean()).iter_rows()
    for projector, mean in means:
        assert found[projector]["distinct_ratio"] == significant(mean)
        assert found[projector]["place"] == "measured here"


def test_what_was_not_taken_is_listed_by_name(told: Any, final: str) -> None:
    left = "`final.losses.0`, `final.losses.1`, `run`, `finished`."
    assert f"Not taken of `final_metrics.json`: {left}" in told(final, *NAMED)


def test_of_many_keys_the_first_are_listed_and_the_others_counted(
    told: Any, tmp_path: Path
) -> None:
    text = told(write(tmp_path, {"meteor": 0.1, **{f"loss_{i}": i for i in range(25)}}))
    assert "`loss_19` and 5 more." in text and "loss_20" not in text


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("en", ("was not measured here", "It is not tested and not ranked")),
        (
            "ko",
            ("여기서 잰 것이 아니라", "순위도 매기지 않으며", "높을수록 좋음", "다른 곳의 수치"),
        ),
    ],
)
def test_the_page_says_that_nothing_is_compared(
    told: Any, final: str, language: str, said: tuple[str, ...]
) -> None:
    text = told(final, "--language", language)
    assert all(words in text for words in said)


@pytest.mark.parametrize(
    ("found", "words", "says"),
    [
        ({"meteor": 6.6}, (), "'meteor' is 6.6; expected meteor, a number from 0 to 1."),
        ({"meteor": "good"}, (), "'meteor' is 'good'; expected meteor, a number"),
        ({"meteor": True}, (), "'meteor' is True; expected"),
        ('{"meteor": NaN}', (), "'meteor' is nan; expected"),
        ({"a": None}, ("--as", "meteor=a"), "'a' is None; expected meteor, a number"),
        ({"a": {"b": -2}}, ("--as", "meteor=a.b"), "'a.b' is -2; expected meteor, a number"),
        ({"a": 1}, ("--as", "meteor=b"), "no such key; expected one of `a`."),
        (
            {"a": 1},
            ("--as", "metoer=a"),
            "--as metoer=a: is no metric and key; expected METRIC=KEY",
        ),
        ({"a": 1}, ("--as", "meteor"), "--as meteor: is no metric and key"),
        ({"a": 1}, ("--as", "meteor=a") * 2, "--as meteor=a: is given twice"),
        ({"a": 1}, (), "none of its keys is named as a metric; say which is which, as in --as"),
        ("{", (), "final_metrics.json: not JSON ("),
        ("[" * 100_000, (), "final_metrics.json: not JSON ("),
        ("\ufeff\x00", (), "final_metrics.json: not JSON ("),
        ({}, (), "final_metrics.json: has 0 keys; expected 1 to 10000."),
        ([0] * 10_001, (), "final_metrics.json: has 10001 keys"),
        (" " * (2**20 + 1), (), "final_metrics.json: has over 1048576 bytes"),
    ],
)
def test_what_cannot_stand_there_is_one_sentence(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    found: Any,
    words: tuple[str, ...],
    says: str,
) -> None:
    assert beside.main(["results", write(tmp_path, found), *words]) == 1
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("log.csv", "meteor\n", "log.csv: not CSV (it has no row under its head)"),
        ("log.csv", "meteor,loss\n0.1,2\n0.2\n", "its last row has 1 cells for 2 names"),
        ("log.csv", "meteor,meteor\n0.1,2\n", "it has the key 'meteor' twice"),
        ("final.json", '{"meteor": 0.1, "meteor": 0.2}', "it has the key 'meteor' twice"),
        ("final.json", '{"a.b": 1, "a": {"b": 2}}', "it has the key 'a.b' twice"),
        ("log.csv", "meteor\n높음\n", "'meteor' is '높음'; expected meteor, a number from 0 to 1."),
        ("log.txt", "meteor 0.1", "log.txt: is neither .json nor .csv"),
        ("none.csv", None, "none.csv: cannot be read (No such file or directory)."),
    ],
)
def test_a_table_that_tells_nothing_is_one_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, text: str | None, says: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert beside.main(["results", str(tmp_path / name)]) == 1
    assert says in capsys.readouterr().err


def test_a_study_that_is_not_finished_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, final: str
) -> None:
    assert beside.main([str(tmp_path), final]) == 1
    assert "report.json: no such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a|b\n# c", "`a\\|b # c`"),
        ("<img src=x>", "`<img src=x>`"),  # code is no HTML
        ("", "`–`"),
        ("a`b``c", "``` a`b``c ```"),
    ],
)
def test_a_name_of_the_data_stays_within_its_code(text: str, written: str) -> None:
    assert code_span(text) == written


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, "–"),
        (8, "8"),
        ("a | b\nc", "a \\| b c"),
        ("<b>&", "&lt;b&gt;&amp;"),
        ("[best](//evil)", "[best]\\(//evil)"),
    ],
)
def test_a_value_of_the_data_stays_within_its_cell(value: Any, written: str) -> None:
    assert table_cell(value) == written


def test_a_hostile_key_ends_no_line_of_the_page(told: Any, tmp_path: Path) -> None:
    text = told(write(tmp_path, {"meteor": 0.1, "x`\n\n# <script>alert(1)</script>": 1}))
    assert "\n# <script>" not in text
    assert "`` x` # <script>alert(1)</script> ``" in text
