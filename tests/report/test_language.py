"""Two languages: both are there, filled in alike, and particles follow the sound before them."""

from __future__ import annotations

import pytest

from siglip_study.report.language import NOTHING, Text, attribute, join, listed, particles, sentence

BOTH = Text("{n} clips of <b>", "영상 {n}개^은/는")


def test_a_text_is_filled_in_both_languages_and_may_hold_another() -> None:
    told = Text("{x}: {y}", "{x}^은/는 {y}").fill(x=Text("order", "순서"), y="a")
    assert told == Text("order: a", "순서는 a")


@pytest.mark.parametrize(
    ("names", "en", "ko"),
    [
        ([], "", ""),
        (["a"], "a", "a"),
        (["mlp", "linear"], "mlp and linear", "mlp와 linear"),
        (["가슴", "b"], "가슴 and b", "가슴과 b"),
        ("abc", "a, b and c", "a, b, c"),
    ],
)
def test_a_list_of_names(names, en: str, ko: str) -> None:
    assert listed(names) == Text(en, ko)


def test_a_clause_becomes_a_sentence() -> None:
    assert sentence(Text("a clause", "절")) == Text("A clause.", "절.")
    assert sentence(None) == NOTHING


def test_nothing_is_false() -> None:
    assert not NOTHING and BOTH


def test_a_list_of_alternatives() -> None:
    assert listed("abc", "or") == Text("a, b or c", "a, b 또는 c")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("공^이/가", "공이"),
        ("캡션^으로/로", "캡션으로"),
        ("서울^으로/로", "서울로"),
        ("사과^을/를", "사과를"),
        ("linear^은/는", "linear는"),
        ("mlp_2l^이/가", "mlp_2l이"),
        ("mlp_2l^으로/로", "mlp_2l로"),
        ("query_abstractor^이/가", "query_abstractor가"),
        ("0.42^을/를", "0.42를"),
        ("0.13^과/와", "0.13과"),
        ("84 %^은/는", "84 %는"),
        ("'클립'^이/가", "'클립'이"),
        ("(seed 3)^을/를", "(seed 3)을"),
        ("a^b, 2^3", "a^b, 2^3"),
    ],
)
def test_a_particle_follows_the_sound_before_it(written: str, read: str) -> None:
    assert particles(written) == read


def test_a_page_gets_both_languages_escaped() -> None:
    html = Text("a <b>", "가 <나>").__html__()
    assert html == (
        '<span class="t" lang="en">a &lt;b&gt;</span><span class="t" lang="ko">가 &lt;나&gt;</span>'
    )
    assert Text.same("<x>").__html__() == "&lt;x&gt;"


def test_an_attribute_stands_in_one_language_and_carries_both() -> None:
    told = attribute("title", Text('say "hi"', "안녕"), "ko")
    assert told == ('title="안녕" data-en-title="say &#34;hi&#34;" data-ko-title="안녕"')
    assert attribute("title", Text.same("x"), "en") == 'title="x"'


def test_texts_one_after_the_other() -> None:
    assert join(" · ", ["a", Text("b", "나")]) == Text("a · b", "a · 나")
