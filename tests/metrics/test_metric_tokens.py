"""Tokens: what counts as content, and that the form of storage of Korean does not matter."""

import unicodedata

import pytest

from siglip_study.base.errors import StudyError
from siglip_study.metrics.tokens import (
    characters,
    content_morphemes,
    morphemes,
    normalise,
    spaced_words,
    tokenizer_for,
    words,
)

BALL = "빨간 공이 왼쪽으로 굴러간다."


def test_content_leaves_out_particles_endings_and_punctuation():
    assert list(content_morphemes([BALL])) == [["빨갛/VA", "공/NNG", "왼쪽/NNG", "굴러가/VV"]]


def test_all_morphemes_keep_them():
    tokens = morphemes([BALL])[0]
    assert {"이/JKS", "으로/JKB", "./SF"} <= set(tokens)
    content = content_morphemes([BALL])[0]
    assert [token for token in tokens if token in set(content)] == content


def test_numbers_are_content_however_they_are_written():
    assert "두/MM" in content_morphemes(["두 개의 큰 별"])[0]
    assert "3/SN" in content_morphemes(["별 3개"])[0]
    assert "개/NNB" not in content_morphemes(["두 개의 큰 별"])[0]


def test_a_determiner_that_is_no_number_is_not_content():
    assert not [token for token in content_morphemes(["이 모든 별"])[0] if token.endswith("/MM")]


def test_auxiliary_verbs_are_not_content():
    assert list(content_morphemes(["별이 움직이고 있다"])) == [["별/NNG", "움직이/VV"]]


@pytest.mark.parametrize("split", [morphemes, content_morphemes, characters, words, spaced_words])
def test_nfd_and_nfc_give_the_same_tokens_and_empty_gives_none(split):
    decomposed = unicodedata.normalize("NFD", BALL)
    assert decomposed != BALL
    assert list(split([decomposed])) == list(split([BALL]))
    assert list(split(["", "  \n", BALL]))[:2] == [[], []]
    assert list(split([])) == []


def test_a_batch_gives_what_single_calls_give():
    texts = [BALL, "", "카메라가 멈춰 있다.", "CLIP 모델"]
    assert list(morphemes(texts)) == [morphemes([text])[0] for text in texts]


def test_latin_letters_are_lower_cased():
    assert list(content_morphemes(["CLIP 모델"])) == list(content_morphemes(["clip 모델"]))


def test_english_words_split_punctuation():
    assert list(words(["A dog, running."])) == [["a", "dog", ",", "running", "."]]
    english = tokenizer_for("en")(["A dog, running.", ""])
    assert list(english.content) == [["a", "dog", "running"], []]
    assert list(english.all) == [["a", "dog", ",", "running", "."], []]
    assert list(english.words) == [["A", "dog,", "running."], []]


def test_characters_have_no_spaces():
    assert list(characters(["가 나\n다"])) == [["가", "나", "다"]]


def test_tokenizer_of_a_language():
    korean = tokenizer_for("ko")
    assert list(korean([BALL]).content) == list(content_morphemes([BALL]))
    assert list(korean([BALL]).all) == list(morphemes([BALL]))
    assert "kiwipiepy" in korean.names["content"]
    assert set(korean.names) == set(tokenizer_for("other").names)


def test_unknown_language_is_named():
    with pytest.raises(StudyError, match=r"'jp'.*ko, en, other"):
        tokenizer_for("jp")


def test_normalise_collapses_white_space():
    assert normalise(" 가\t나\n ") == "가 나"
