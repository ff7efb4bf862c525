"""Truth in the demo, through the evaluation's door."""

import pytest

from siglip_study.scoring.cell_scores import truth_of

RED, BLUE = {"colour": "red", "weather": "clear"}, {"colour": "blue", "weather": "clear"}


def test_right_wrong_and_silent_captions():
    facts = [RED, BLUE, BLUE, RED]
    found = truth_of(["빨간 공", "파란 공", "빨간 공", ""], facts)["colour"]
    # Two of four are right; always saying red (or blue) is right twice as well.
    assert found["accuracy"] == 0.5 and found["majority"] == 0.5 and found["n"] == 4
    assert found["kappa"] == 0.0


def test_all_right_is_one():
    found = truth_of(["빨간 공", "파란 공"], [RED, BLUE])["colour"]
    assert found["kappa"] == 1.0


def test_a_fact_that_never_varies_has_no_kappa():
    found = truth_of(["맑은 하늘", "비가 온다"], [RED, BLUE])
    assert list(found) == ["colour", "weather"]
    weather = found["weather"]
    assert weather["kappa"] is None and weather["low"] is None and weather["high"] is None
    assert weather["accuracy"] == 0.5 and weather["majority"] == 1.0


def test_captions_and_facts_must_be_as_many():
    with pytest.raises(ValueError, match="1 predictions for 2 truths"):
        truth_of(["빨간 공"], [RED, BLUE])
