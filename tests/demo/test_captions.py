"""Captions are varied, compact, grammatical and of two families."""

import re
import unicodedata

import numpy as np
import pytest

from siglip_study.demo.captions import OPTIONAL, STYLES, TEMPLATES, caption, compose, fact_words
from siglip_study.demo.lexicon import COUNTERS, SYNONYMS, Verb, final_consonant, josa
from siglip_study.demo.world import ATTRIBUTES, facts, sample_scene


def texts(style: str, n: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [caption(sample_scene(rng, "clips"), rng, style) for _ in range(n)]


@pytest.mark.parametrize(
    ("word", "pair", "expected"),
    [
        ("새", "이/가", "새가"),
        ("공", "이/가", "공이"),
        ("바다", "을/를", "바다를"),
        ("산", "을/를", "산을"),
        ("나무", "은/는", "나무는"),
        ("별", "은/는", "별은"),
        ("왼쪽", "으로/로", "왼쪽으로"),
        ("위", "으로/로", "위로"),
        ("들", "으로/로", "들로"),  # ㄹ takes 로
    ],
)
def test_particles_follow_the_final_consonant(word, pair, expected):
    assert josa(word, pair) == expected


def test_particles_of_other_scripts_are_refused():
    with pytest.raises(ValueError, match="Hangul"):
        josa("car", "이/가")


@pytest.mark.parametrize(
    ("stem", "plain", "polite", "also"),
    [
        ("움직이", "움직인다", "움직입니다", "움직이고"),
        ("떠오르", "떠오른다", "떠오릅니다", "떠오르고"),
        ("멈춰 있", "멈춰 있다", "멈춰 있습니다", "멈춰 있고"),
        ("점점 멀어지", "점점 멀어진다", "점점 멀어집니다", "점점 멀어지고"),
    ],
)
def test_verbs_inflect(stem, plain, polite, also):
    verb = Verb(stem, "")
    assert (verb.plain, verb.polite, verb.also) == (plain, polite, also)


@pytest.mark.parametrize("style", STYLES)
def test_captions_are_compact_clean_and_varied(style):
    found = texts(style, 2000)
    lengths = [len(text) for text in found]
    assert max(lengths) <= 90
    assert 45 <= np.median(lengths) <= 80
    assert len(set(found)) > 1990
    for text in found:
        assert text == unicodedata.normalize("NFC", text).strip()
        assert re.fullmatch(r"[가-힣 .]+", text), text
        assert "  " not in text and " ." not in text and ".." not in text
        assert text.endswith(".")
        assert 1 <= text.count(".") <= 3


def test_subject_particles_agree_in_whole_captions():
    # Every word that carries a subject or topic particle, by the final consonant of its stem.
    stems = {form.split()[-1] for forms in SYNONYMS["thing"].values() for form in forms}
    stems |= set(COUNTERS.values()) | {"화면", "카메라", "하늘", "날씨", "비", "눈"}
    checked = 0
    for text in texts("clips", 1500) + texts("scorer", 1500):
        for token in re.findall(r"[가-힣]+", text):
            stem, particle = token[:-1], token[-1]
            if stem in stems and particle in "이가은는을를":
                closed = final_consonant(stem) != 0
                assert particle in ("이은을" if closed else "가는를"), text
                checked += 1
    assert checked > 4000


def test_the_two_families_share_no_template_and_no_sentence_ending():
    clips, scorer = ({*some, *apart} for some, apart in (TEMPLATES["clips"], TEMPLATES["scorer"]))
    assert not clips & scorer
    for text in texts("clips", 500):
        assert all(s.endswith("다") and not s.endswith("니다") for s in text.split(".")[:-1]), text
    for text in texts("scorer", 500):
        assert all(s.endswith(("니다", "요")) for s in text.split(".")[:-1]), text


def test_most_captions_state_everything_and_the_rest_leave_out_one_fact():
    rng = np.random.default_rng(3)
    stated = [compose(sample_scene(rng, "lm"), rng)[1] for _ in range(2000)]
    complete = sum(s == set(ATTRIBUTES) for s in stated) / len(stated)
    assert complete == pytest.approx(0.85, abs=0.03)
    left_out = [set(ATTRIBUTES) - s for s in stated if s != set(ATTRIBUTES)]
    assert all(len(one) == 1 for one in left_out)
    assert set().union(*left_out) == set(OPTIONAL)


def test_captions_repeat_with_their_seed_and_refuse_unknown_styles():
    assert texts("clips", 20, seed=1) == texts("clips", 20, seed=1) != texts("clips", 20, seed=2)
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="style is 'poem'"):
        caption(sample_scene(rng, "clips"), rng, style="poem")


def test_words_name_every_value_by_one_word_of_its_own():
    rng = np.random.default_rng(0)
    seen: dict[str, tuple[str, str]] = {}
    for _ in range(400):
        scene = sample_scene(rng, "lm")
        for attribute, word in fact_words(scene).items():
            assert " " not in word
            meant = (attribute, facts(scene)[attribute])
            assert seen.setdefault(word, meant) == meant
    assert len(seen) == sum(len(values) for values in ATTRIBUTES.values())
