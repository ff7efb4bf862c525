"""The parser reads every reference caption right; κ matches figures worked by hand."""

import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siglip_study.demo.captions import STYLES, compose, fact_words
from siglip_study.demo.facts import kappa, parse_facts
from siglip_study.demo.world import ATTRIBUTES, POOLS, facts, sample_scene

NOTHING = dict.fromkeys(ATTRIBUTES)


@pytest.mark.parametrize("style", STYLES)
def test_every_reference_is_read_right(style):
    rng = np.random.default_rng(17)
    for i in range(2000):
        scene = sample_scene(rng, list(POOLS)[i % len(POOLS)])
        text, stated = compose(scene, rng, style)
        truth = {a: (v if a in stated else None) for a, v in facts(scene).items()}
        assert parse_facts(text) == truth, text
        assert parse_facts(" ".join(fact_words(scene).values())) == facts(scene)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("A red car drives left.", {}),
        ("빨간 자동차 두 대", {"thing": "car", "colour": "red", "count": "2"}),
        ("빨간 공과 파란 공", {"thing": "ball"}),  # two colours contradict
        ("왼쪽으로 가다가 오른쪽으로 간다", {}),
        ("배경이 비었다. 새하얀 공간, 눈부신 별명", {}),  # words that only begin like facts
        ("배가 바다에 있다", {"thing": "boat", "place": "sea"}),
        ("비가 내려온다", {"weather": "rain", "motion": "down"}),
        ("비가 내린다", {"weather": "rain"}),
        ("자동차   두\n대가", {"thing": "car", "count": "2"}),
        ("자동차 3대", {"thing": "car", "count": "3"}),
        ("이동한 대장", {}),  # 한 대 inside other words
    ],
)
def test_hard_strings(text, expected):
    assert parse_facts(text) == NOTHING | expected


def test_decomposed_hangul_is_read_like_composed():
    text = "눈 오는 산에서 작은 흰색 집 세 채가 위로 올라간다. 카메라가 뒤로 물러난다."
    found = parse_facts(text)
    assert parse_facts(unicodedata.normalize("NFD", text)) == found
    assert None not in found.values()


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.text(max_size=200) | st.text(alphabet="가나한대두배새비 눈에서은.", max_size=60))
def test_any_string_is_read_without_error(text):
    stated = parse_facts(text)
    assert list(stated) == list(ATTRIBUTES)
    assert all(v is None or v in ATTRIBUTES[a] for a, v in stated.items())


def said(*values: str | None) -> list[dict[str, str | None]]:
    return [{"place": value} for value in values]


def true(*values: str) -> list[dict[str, str]]:
    return [{"place": value} for value in values]


def test_kappa_by_hand():
    # Accuracy 3/4 (one unstated), majority 2/4: (.75 − .5) / (1 − .5) = .5.
    result = kappa(said("sea", "sea", "city", None), true("sea", "sea", "city", "field"), "place")
    assert (result.kappa, result.accuracy, result.majority, result.n) == (0.5, 0.75, 0.5, 4)


def test_kappa_is_one_when_right_zero_for_the_majority_answer_and_negative_when_silent():
    truth = true(*["sea"] * 20, *["city"] * 10, *["field"] * 10)
    right = kappa([dict(row) for row in truth], truth, "place")
    assert (right.kappa, right.low, right.high) == (1, 1, 1)
    majority = kappa(said(*["sea"] * 40), truth, "place")
    assert (majority.kappa, majority.low, majority.high) == (0, 0, 0)
    silent = kappa([{}] * 40, truth, "place")
    assert silent.accuracy == 0
    assert silent.kappa == pytest.approx(-1)  # (0 − .5) / .5


def test_interval_covers_and_shrinks_and_repeats():
    """Accuracy .6 and majority .25 → κ = .35/.75."""
    rng = np.random.default_rng(0)
    values = np.array(ATTRIBUTES["place"])

    def world(n: int):
        codes = rng.integers(0, 4, n)
        guess = np.where(rng.random(n) < 0.6, codes, (codes + 1) % 4)
        return said(*values[guess].tolist()), true(*values[codes].tolist())

    small, large = world(60), world(1000)
    a, b = kappa(*small, "place"), kappa(*large, "place")
    assert a.low < a.kappa < a.high
    assert b.low < 0.35 / 0.75 < b.high
    assert (b.high - b.low) < (a.high - a.low) / 2
    assert a == kappa(*small, "place")


def test_interval_of_a_guess_is_not_below_chance():
    """κ of guessing is 0: few intervals may lie off it, none above more often than 2.5 % and noise.

    With the largest share of every resample in the yardstick, 29 of 60 lay below.
    """
    rng = np.random.default_rng(3)
    values = np.array(ATTRIBUTES["thing"])
    below = above = 0
    for _ in range(60):
        codes, guess = rng.integers(0, len(values), (2, 60))
        stated, truth = ([{"thing": value} for value in values[drawn]] for drawn in (guess, codes))
        result = kappa(stated, truth, "thing", n_boot=300)
        assert result.low is not None and result.high is not None
        below, above = below + (result.high < 0), above + (result.low > 0)
    assert below <= 14
    assert above <= 4


def test_which_of_equal_answers_is_kept_does_not_depend_on_the_order_of_clips():
    truth = true(*["sea"] * 10, *["city"] * 10)
    stated = said(*["city"] * 20)
    for rows in (truth, truth[::-1]):
        found = kappa(stated, rows, "place")
        assert (found.kappa, found.low, found.high) == (0, 0, 0)


def test_constant_truth_has_no_kappa_and_bad_input_is_refused():
    one = kappa(said("sea"), true("sea"), "place")
    assert (one.kappa, one.low, one.high, one.accuracy, one.majority) == (None, None, None, 1, 1)
    with pytest.raises(ValueError, match="1 predictions for 2"):
        kappa(said("sea"), true("sea", "sea"), "place")
    with pytest.raises(ValueError, match="0 predictions"):
        kappa([], [], "place")
