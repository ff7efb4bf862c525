"""Each bad input is answered by the sentence that the docs show, and by no traceback."""

import sys
from pathlib import Path

import pytest

from tools.bad_inputs import CASES, row, sentence_of

PAGE = Path(__file__).parents[2] / "docs" / "bad-inputs.md"
#: The page holds what libraries of the lock say, and Python's own words differ by version.
IS_OF_THE_LOCK = sys.version_info[:2] == (3, 11)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}: {case.what}")
def test_a_bad_input_is_told_as_on_the_page(case, tmp_path):
    told = sentence_of(case, tmp_path)
    assert told and "\n" not in told and "defect" not in told
    if IS_OF_THE_LOCK:
        page = PAGE.read_text(encoding="utf-8")
        assert row(case, told) in page, f"run python -m tools.bad_inputs {PAGE}"


def test_the_page_has_no_other_rows():
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if " | `" in line]
    assert len(rows) == len(CASES) >= 120
    assert len({(case.kind, case.what) for case in CASES}) == len(CASES)
