"""Captions → sentence chunks that fit a text tower, without losing a word."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

#: text → number of tokens, special tokens included
TokenCounter = Callable[[str], int]

_CLOSING = "\"'”’」』)\\]》〉"
# Hangul syllables that end in a consonant: "있", "간", "습".
_CLOSED = "".join(f"{chr(code + 1)}-{chr(code + 27)}" for code in range(0xAC00, 0xD7A4, 28))
# Korean tells the end of a sentence by the verb, with or without a full stop: "있다", "갑니다",
# "이에요". Nouns that end alike do not follow these syllables: "바다", "보다", "필요".
_VERB_END = rf"(?<=[{_CLOSED}니이하크르쁘]다|[어아여해네세예에지군나까워와져려]요)"
# An end mark, then a blank. Without a blank only between Hangul: "걷는다.그리고" ends a sentence,
# "3.5" and "a.m." do not.
_END = re.compile(
    rf"(?:[.!?…。！？]+[{_CLOSING}]*(?=\s)|[。！？]+[{_CLOSING}]*|(?<=[가-힣])[.!?]+(?=[가-힣])|\n"
    rf"|{_VERB_END}[,;]?\s)"
)
# Each alternative begins with one of these; searching for them alone is three times as fast.
_MARK = re.compile(r"[.!?…。！？\n]|(?<=[다요])[,;\s]")
# Ends that are none: titles, and a Latin letter that stands alone (an initial, "e.g.").
_NO_END = re.compile(r"\b(?:mr|mrs|ms|dr|prof|st|vs|[a-z])\.$", re.IGNORECASE | re.ASCII)
_WORDY = re.compile(r"\w")


def split_sentences(text: str) -> list[str]:
    """Korean or English sentences, stripped; a piece without a letter joins its neighbour.

    Korean ones are found without full stops too, by the endings of their verbs.
    """
    pieces: list[str] = []
    start = 0
    for match in _ends(text):
        piece = text[start : match.end()]
        # A line's end is an end, whatever stands before it.
        if (match.group() != "\n" and _is_no_end(piece)) or not _WORDY.search(piece):
            continue
        pieces.append(piece.strip())
        start = match.end()
    tail = text[start:].strip()
    if tail and pieces and not _WORDY.search(tail):
        pieces[-1] = f"{pieces[-1]} {tail}"
    elif tail:
        pieces.append(tail)
    return pieces


def _is_no_end(piece: str) -> bool:
    # Only a Latin letter before the mark is worth a search.
    return piece[-2:].isascii() and _NO_END.search(piece) is not None


def _ends(text: str) -> Iterator[re.Match[str]]:
    """As ``_END.finditer(text)``."""
    start = 0
    while mark := _MARK.search(text, start):
        end = _END.match(text, mark.start())
        if end is None:
            start = mark.end()
        else:
            yield end
            start = end.end()


def chunk_text(text: str, count: TokenCounter, max_tokens: int) -> list[str]:
    """Sentences of at most ``max_tokens`` tokens; an empty text has none.

    A longer sentence is cut between words, a longer word between characters. Joined without
    blanks, the chunks are the text without blanks.

    Raises:
        ValueError: not even one character fits into ``max_tokens``.
    """
    chunks: list[str] = []
    for sentence in split_sentences(text):
        if count(sentence) <= max_tokens:
            chunks.append(sentence)
            continue
        words = sentence.split()
        while words:
            taken = _longest(words, " ", count, max_tokens)
            if taken:
                chunks.append(" ".join(words[:taken]))
                words = words[taken:]
                continue
            taken = _longest(list(words[0]), "", count, max_tokens)
            if not taken:
                raise ValueError(f"a character of {words[0]!r} exceeds {max_tokens} tokens")
            chunks.append(words[0][:taken])
            words[0] = words[0][taken:]
    return chunks


def _longest(parts: list[str], glue: str, count: TokenCounter, max_tokens: int) -> int:
    """How many of the first parts fit: bisection, then one by one, since counts may not ascend."""
    low, high = 0, len(parts)
    while low < high:
        middle = (low + high + 1) // 2
        if count(glue.join(parts[:middle])) <= max_tokens:
            low = middle
        else:
            high = middle - 1
    while low and count(glue.join(parts[:low])) > max_tokens:
        low -= 1
    return low
