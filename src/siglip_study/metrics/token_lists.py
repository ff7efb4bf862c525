"""Token lists as numbers: each different string is kept and looked up once, however often it comes.

A hundred thousand captions hold some twenty million tokens and a few thousand different ones.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tokens = Sequence[str]
Integers = NDArray[np.int64]


def lengths(token_lists: Sequence[Sequence[object]]) -> Integers:
    """Entries of each list, ``[N]``."""
    return np.fromiter(map(len, token_lists), dtype=np.int64, count=len(token_lists))


def code_points(text: str) -> Integers:
    """Of each character, ``[len(text)]``."""
    return np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32).astype(np.int64)


def numbering(strings: Sequence[str]) -> dict[str, int]:
    """String → its place."""
    return {string: place for place, string in enumerate(strings)}


class TokenLists(Sequence[list[str]]):
    """N token lists.

    Attributes:
        strings: ``[V]`` the different tokens, ascending: so the same lists have the same numbers,
            whatever was read before them.
        numbers: ``[T]`` the tokens of all lists in a row.
        sizes: ``[N]`` tokens of each list.
    """

    def __init__(self, strings: list[str], numbers: Integers, sizes: Integers) -> None:
        self.strings = strings
        self.numbers = numbers
        self.sizes = sizes
        self._ends = np.cumsum(sizes)

    def __reduce__(self) -> tuple[Any, ...]:
        # Between processes in as few bytes a token as will do: mostly two for eight.
        return _unpacked, (self.strings, _packed(self.numbers), _packed(self.sizes))

    @classmethod
    def of(cls, token_lists: Sequence[Tokens]) -> TokenLists:
        """Number the tokens of lists of strings."""
        if isinstance(token_lists, TokenLists):
            return token_lists
        # Each token is looked up once: a new one gets the next number.
        places: defaultdict[str, int] = defaultdict(itertools.count().__next__)
        numbers = map(places.__getitem__, itertools.chain.from_iterable(token_lists))
        found = np.fromiter(numbers, dtype=np.int64)
        return cls.drawn_from(list(places), found, lengths(token_lists))

    @classmethod
    def drawn_from(cls, known: Sequence[str], numbers: Integers, sizes: Integers) -> TokenLists:
        """Lists whose tokens are places in ``known``: what they do not hold is left out."""
        used = np.flatnonzero(np.bincount(numbers, minlength=len(known)))
        ascending = sorted((known[place], place) for place in used.tolist())
        own = np.zeros(len(known), dtype=np.int64)
        own[[place for _, place in ascending]] = np.arange(len(ascending))
        return cls([string for string, _ in ascending], own[numbers], sizes)

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, place: int) -> list[str]:  # type: ignore[override]
        end = int(self._ends[place])
        row = self.numbers[end - int(self.sizes[place]) : end]
        return [self.strings[number] for number in row.tolist()]

    def __iter__(self) -> Iterator[list[str]]:
        return map(self.__getitem__, range(len(self)))

    @property
    def owner(self) -> Integers:
        """``[T]`` list of each token."""
        return np.repeat(np.arange(len(self)), self.sizes)

    def only(self, wanted: Callable[[str], bool]) -> TokenLists:
        """The same lists without the tokens that are not wanted."""
        kept = np.fromiter(map(wanted, self.strings), dtype=bool, count=len(self.strings))
        here = kept[self.numbers]
        sizes = np.bincount(self.owner[here], minlength=len(self))
        return TokenLists.drawn_from(self.strings, self.numbers[here], sizes)

    def numbers_in(self, places: Mapping[str, int]) -> Integers:
        """``[V]`` the place of each different token among others; −1 for one not there."""
        found = (places.get(string, -1) for string in self.strings)
        return np.fromiter(found, dtype=np.int64, count=len(self.strings))


def _packed(numbers: Integers) -> NDArray[np.unsignedinteger]:
    return numbers.astype(np.min_scalar_type(numbers.max(initial=0)))


def _unpacked(strings: list[str], *arrays: NDArray[np.unsignedinteger]) -> TokenLists:
    return TokenLists(strings, *(array.astype(np.int64) for array in arrays))


@dataclass(frozen=True)
class ReferenceLists:
    """The references of N clips, R of them, as token lists in a row.

    Attributes:
        flat: R token lists.
        counts: ``[N]`` references of each clip.
    """

    flat: TokenLists
    counts: Integers

    @classmethod
    def of(cls, references: ReferenceLists | Sequence[Sequence[Tokens]]) -> ReferenceLists:
        """From N lists of token lists."""
        if isinstance(references, ReferenceLists):
            return references
        flat = TokenLists.of([tokens for refs in references for tokens in refs])
        return cls(flat, lengths(references))

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def clip(self) -> Integers:
        """``[R]`` clip of each reference."""
        return np.repeat(np.arange(len(self)), self.counts)

    @property
    def first(self) -> Integers:
        """``[N]`` each clip's first reference."""
        return np.cumsum(self.counts) - self.counts
