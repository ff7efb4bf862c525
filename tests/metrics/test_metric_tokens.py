"""Tokens: what counts as content, and that the form of storage of Korean does not matter."""

import random
import unicodedata
from collections import Counter

import pytest

from siglip_study.base.errors import StudyError
from siglip_study.base.io import atomic_path
from siglip_study.metrics import morphemes as kiwi
from siglip_study.metrics.tokens import ngrams, tokenize
from tools.fault_campaign import DAMAGES

BALL = "빨간 공이 왼쪽으로 굴러간다."


@pytest.mark.parametrize(
    ("text", "content"),
    [
        # Particles, endings, punctuation, auxiliary verbs and counters are left out, and
        # determiners that are no numbers.
        (BALL, ("빨갛/VA", "공/NNG", "왼쪽/NNG", "굴러가/VV")),
        ("별이 움직이고 있다", ("별/NNG", "움직이/VV")),
        ("두 개의 큰 별", ("두/MM", "크/VA", "별/NNG")),
        ("이 모든 별 3개", ("별/NNG", "3/SN")),
        ("CLIP 모델", ("clip/SL", "모델/NNG")),
    ],
)
def test_korean_content(text, content):
    assert tokenize([text], "ko").content == (content,)


def test_all_morphemes_keep_particles_endings_and_punctuation():
    tokens = tokenize([BALL], "ko")
    assert {"이/JKS", "으로/JKB", "./SF"} <= set(tokens.all[0])
    content = set(tokens.content[0])
    assert tuple(token for token in tokens.all[0] if token in content) == tokens.content[0]


@pytest.mark.parametrize("language", ["ko", "en", "other"])
@pytest.mark.parametrize("kind", ["all", "content", "characters", "words"])
def test_nfd_and_nfc_give_the_same_tokens_and_empty_gives_none(language, kind):
    decomposed = unicodedata.normalize("NFD", BALL)
    assert decomposed != BALL
    nfc, nfd, *empty = getattr(tokenize([BALL, decomposed, "", "  \n"], language), kind)
    assert nfc == nfd and empty == [(), ()]
    assert getattr(tokenize([BALL], language), kind) == (nfc,)


def test_words_and_characters():
    english = tokenize(["A dog,  running.", ""], "en")
    assert english.all == (("a", "dog", ",", "running", "."), ())
    assert english.content == (("a", "dog", "running"), ())
    assert english.words == (("A", "dog,", "running."), ())
    assert tokenize(["가 나\n다"], "en").characters == (("가", "나", "다"),)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("一个人在跑。", "一 个 人 在 跑 。"),
        ("犬がボールを見る。", "犬 が ボ ー ル を 見 る 。"),
        ("ที่นี่ดี", "ที่ นี่ ดี"),  # a character has its vowel sign and its tone
        ("ខ្មែរ", "ខ្មែ រ"),
        ("AI技术, 3个", "ai 技 术 , 3 个"),
        # Marks stay in their word where words are parted by blanks.
        ("कुत्ता दौड़ रहा है।", "कुत्ता दौड़ रहा है ।"),
        ("شَمْسٌ كبيرة", "شَمْسٌ كبيرة"),
        ("Ein großer Hund, läuft!", "ein großer hund , läuft !"),
        ("می\u200cرود", "می\u200cرود"),
    ],
)
def test_other_languages_are_parted_at_characters_where_they_have_no_blanks(text, tokens):
    expected = tuple(unicodedata.normalize("NFC", tokens).split(" "))
    assert tokenize([text], "other").all == (expected,)


def test_in_other_languages_a_character_keeps_its_marks():
    assert tokenize(["ดี है"], "other").characters == (("ดี", "है"),)
    assert tokenize(["一个。"], "other").content == (("一", "个"),)


def test_an_unknown_language_is_named():
    with pytest.raises(StudyError, match=r"'jp'.*ko, en, other"):
        tokenize([BALL], "jp")


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


@pytest.mark.parametrize("damage", DAMAGES)
def test_sentences_of_a_damaged_file_are_analysed_again(tmp_path, damage):
    first = kiwi.Morphemes(folder=tmp_path)
    expected = first(["공이 구른다."])
    first.save()
    (whole,) = tmp_path.rglob("*.parquet")
    damage(whole)
    again = kiwi.Morphemes(folder=tmp_path)
    assert not whole.exists()
    assert again(["공이 구른다."]) == expected


def test_a_sentence_has_the_same_morphemes_wherever_it_stands():
    alone = kiwi.Morphemes()
    bird, hunger = alone(["나는 새를 본다.", "배가 고프다."])
    assert alone(["나는 새를 본다. 배가 고프다."]) == (f"{bird}\t{hunger}",)
