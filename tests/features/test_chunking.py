import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siglip_study.features.chunking import _END, _ends, chunk_text, split_sentences


def words(text: str) -> int:
    """A tokenizer that can be worked by hand: a token a word, and one at the end."""
    return len(text.split()) + 1


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", []),
        (" \n\t ", []),
        ("공이 구른다", ["공이 구른다"]),
        ("공이 구른다. 비가 온다!", ["공이 구른다.", "비가 온다!"]),
        ("걷는다.그리고 뛴다.", ["걷는다.", "그리고 뛴다."]),
        ("한 줄\n두 줄", ["한 줄", "두 줄"]),
        ("정말? 네… 그래요.", ["정말?", "네…", "그래요."]),
        ('그가 "가자." 하고 말했다. 갔다.', ['그가 "가자."', "하고 말했다.", "갔다."]),
        ("A man runs. He falls.", ["A man runs.", "He falls."]),
        ("a man runs. he falls.", ["a man runs.", "he falls."]),
        ("Dr. Kim drives 3.5 km, e.g. fast. Then stops.", 2),
        ("길이는 3.5미터이다. 끝.", ["길이는 3.5미터이다.", "끝."]),
        ("끝났다. ...", ["끝났다. ..."]),
        ("...", ["..."]),
        ("Wait... what?!", ["Wait...", "what?!"]),
        ("日本。中国！", ["日本。", "中国！"]),
        ("공이 구른다 비가 온다", ["공이 구른다", "비가 온다"]),
        ("공이 구른다, 비가 온다", ["공이 구른다,", "비가 온다"]),
        ("배가 떠 있습니다 좋아요 끝", ["배가 떠 있습니다", "좋아요", "끝"]),
        ("바다 위에 새가 개보다 많고 날마다 필요 없다", 1),
    ],
)
def test_sentences(text, sentences):
    found = split_sentences(text)
    assert (len(found) if isinstance(sentences, int) else found) == sentences


def test_a_long_sentence_is_cut_between_words():
    chunks = chunk_text("하나 둘 셋 넷 다섯 여섯 일곱. 끝.", words, 4)
    assert chunks == ["하나 둘 셋", "넷 다섯 여섯", "일곱.", "끝."]


def test_a_long_word_is_cut_between_characters():
    assert chunk_text("abcdefgh ij", lambda t: len(t) + 1, 4) == ["abc", "def", "gh", "ij"]


def test_a_character_that_cannot_fit_is_an_error():
    with pytest.raises(ValueError, match="exceeds 2 tokens"):
        chunk_text("가", lambda t: len(t.encode()), 2)


@settings(max_examples=300, deadline=None)
@given(
    st.text(alphabet="가있나다요, abcAB.?!…。\"'\n3 ", max_size=80),
    st.integers(min_value=5, max_value=30),
)
def test_nothing_is_lost_and_nothing_is_too_long(text, limit):
    def count(piece: str) -> int:
        return len(piece.encode()) + 1

    chunks = chunk_text(text, count, limit)
    assert all(chunk.strip() and count(chunk) <= limit for chunk in chunks)
    assert re.sub(r"\s", "", "".join(chunks)) == re.sub(r"\s", "", text)


@given(st.text(alphabet="가있다, aB1.!?…。！？\n\"')」", max_size=20))
@settings(max_examples=500, deadline=None)
def test_searching_for_marks_finds_every_end(text):
    assert [m.span() for m in _ends(text)] == [m.span() for m in _END.finditer(text)]
