"""Tokens: what counts as content, and that the form of storage of Korean does not matter."""

import random
import unicodedata
from collections import Counter

import pytest

from siglip_study.base.errors import StudyError
from siglip_study.base.io import atomic_path
from siglip_study.metrics import morphemes as kiwi
from siglip_study.metrics.tokens import (
    ngrams,
    normalise,
    tokenize,
    tokenizer_names,
)

BALL = "빨간 공이 왼쪽으로 굴러간다."


def morphemes(texts):
    return tokenize(texts, "ko").all


def words(texts):
    return tokenize(texts, "en").all


def content_morphemes(texts):
    return tokenize(texts, "ko").content


def characters(texts):
    return tokenize(texts, "ko").characters


def spaced_words(texts):
    return tokenize(texts, "ko").words


def test_content_leaves_out_particles_endings_and_punctuation():
    assert content_morphemes([BALL]) == (("빨갛/VA", "공/NNG", "왼쪽/NNG", "굴러가/VV"),)


def test_all_morphemes_keep_them():
    tokens = morphemes([BALL])[0]
    assert {"이/JKS", "으로/JKB", "./SF"} <= set(tokens)
    content = content_morphemes([BALL])[0]
    assert tuple(token for token in tokens if token in set(content)) == content


def test_numbers_are_content_however_they_are_written():
    assert "두/MM" in content_morphemes(["두 개의 큰 별"])[0]
    assert "3/SN" in content_morphemes(["별 3개"])[0]
    assert "개/NNB" not in content_morphemes(["두 개의 큰 별"])[0]


def test_a_determiner_that_is_no_number_is_not_content():
    assert not [token for token in content_morphemes(["이 모든 별"])[0] if token.endswith("/MM")]


def test_auxiliary_verbs_are_not_content():
    assert content_morphemes(["별이 움직이고 있다"]) == (("별/NNG", "움직이/VV"),)


@pytest.mark.parametrize("split", [morphemes, content_morphemes, characters, words, spaced_words])
def test_nfd_and_nfc_give_the_same_tokens_and_empty_gives_none(split):
    decomposed = unicodedata.normalize("NFD", BALL)
    assert decomposed != BALL
    assert split([decomposed]) == split([BALL])
    assert split(["", "  \n", BALL])[:2] == ((), ())
    assert split([]) == ()


def test_a_batch_gives_what_single_calls_give():
    texts = [BALL, "", "카메라가 멈춰 있다.", "CLIP 모델"]
    assert list(morphemes(texts)) == [morphemes([text])[0] for text in texts]


def test_latin_letters_are_lower_cased():
    assert content_morphemes(["CLIP 모델"]) == content_morphemes(["clip 모델"])


def test_english_words_split_punctuation():
    assert words(["A dog, running."]) == (("a", "dog", ",", "running", "."),)
    english = tokenize(["A dog, running.", ""], "en")
    assert english.content == (("a", "dog", "running"), ())
    assert english.all == (("a", "dog", ",", "running", "."), ())
    assert english.words == (("A", "dog,", "running."), ())


def test_characters_have_no_spaces():
    assert characters(["가 나\n다"]) == (("가", "나", "다"),)


def test_tokenizer_names_of_a_language():
    assert "kiwipiepy" in tokenizer_names("ko")["content"]
    assert set(tokenizer_names("ko")) == set(tokenizer_names("other"))


def test_unknown_language_is_named():
    with pytest.raises(StudyError, match=r"'jp'.*ko, en, other"):
        tokenize([BALL], "jp")


def test_normalise_collapses_white_space():
    assert normalise(" 가\t나\n ") == "가 나"


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_ngrams_are_every_run_of_n(n):
    rng = random.Random(n)
    tokens = [f"w{rng.randrange(3)}" for _ in range(12)]
    expected = Counter(tuple(tokens[i : i + n]) for i in range(12 - n + 1))
    assert Counter(ngrams(tokens, n)) == expected
    assert list(ngrams(tokens[: n - 1], n)) == []


def test_sentences_are_kept_between_runs(tmp_path, monkeypatch):
    texts = ["빨간 공이 굴러간다. 눈이 온다.", "", "눈이 온다. 밤이다."]
    first = kiwi.Morphemes(folder=tmp_path)
    found = first(texts)
    first.save()
    first.save()
    assert len(list(tmp_path.rglob("*.parquet"))) == 1
    again = kiwi.Morphemes(folder=tmp_path)
    monkeypatch.setattr(kiwi, "_kiwi", _nobody)
    assert again(texts) == found
    # Nor are they analysed again for other processes.
    assert set("\t".join(again.sentences(texts).values()).split("\t")) == {
        token for row in found if row for token in row.split("\t")
    }


def _nobody(workers):
    raise AssertionError("Kiwi is not asked, nor loaded, for sentences that are known")


def test_sentences_that_another_job_is_writing_or_was_killed_over_are_not_read(tmp_path):
    first = kiwi.Morphemes(folder=tmp_path)
    expected = first(["공이 구른다."])
    first.save()
    (whole,) = tmp_path.rglob("*.parquet")
    with atomic_path(whole.with_name("another.parquet")) as partial:
        partial.write_bytes(whole.read_bytes()[:100])
        again = kiwi.Morphemes(folder=tmp_path)
        partial.write_bytes(whole.read_bytes())
    assert again(["공이 구른다."]) == expected


def test_a_damaged_file_of_sentences_is_named(tmp_path):
    first = kiwi.Morphemes(folder=tmp_path)
    first(["공이 구른다."])
    first.save()
    (whole,) = tmp_path.rglob("*.parquet")
    whole.write_bytes(whole.read_bytes()[:100])
    with pytest.raises(StudyError, match=f"{whole.name}: found a damaged file; expected Parquet"):
        kiwi.Morphemes(folder=tmp_path)


def test_a_sentence_has_the_same_morphemes_wherever_it_stands():
    alone = kiwi.Morphemes()
    bird, hunger = alone(["나는 새를 본다.", "배가 고프다."])
    assert alone(["나는 새를 본다. 배가 고프다."]) == (f"{bird}\t{hunger}",)
