"""The n-grams of token lists, counted for all captions at once.

Whatever reads n-grams (CIDEr, self-BLEU, distinct-n, repetition) reads them here: Python loops over
the n-grams of a hundred thousand captions take minutes, sorted integers seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from siglip_study.metrics.token_lists import Integers, TokenLists, Tokens

ORDERS = 4
_DIGIT = 16
#: Greatest value of a table, as a multiple of how many are looked up in it.
_DENSE = 8


def ascending(values: Integers) -> Integers:
    """As ``np.argsort(values, kind="stable")`` of integers that are not negative.

    numpy sorts numbers of 16 bits in linear time; greater ones digit by digit, the last one first,
    which takes a fifth of the time of its other sorts.
    """
    order = np.argsort(values.astype(np.uint16), kind="stable")
    for shift in range(_DIGIT, int(values.max(initial=0)).bit_length(), _DIGIT):
        digit = (values >> shift).astype(np.uint16)
        order = order[np.argsort(digit[order], kind="stable")]
    return order


def numbered(values: Integers) -> tuple[Integers, Integers]:
    """The different values, ascending, and the place of each value among them.

    As ``np.unique(values, return_inverse=True)`` of integers that are not negative.
    """
    number = np.empty(len(values), dtype=np.int64)
    if _are_dense(values):
        table = np.zeros(int(values.max(initial=-1)) + 1, dtype=bool)
        table[values] = True
        different = np.flatnonzero(table)
        place = np.empty(len(table), dtype=np.int64)
        place[different] = np.arange(len(different))
        return different, place.take(values, out=number)
    order = ascending(values)
    in_order = values[order]
    first = _first(in_order)
    number[order] = np.cumsum(first) - 1
    return in_order[first], number


def counted(values: Integers) -> tuple[Integers, Integers]:
    """The different values, ascending, and how often each occurs; as :func:`numbered`."""
    if _are_dense(values):
        table = np.bincount(values)
        different = np.flatnonzero(table)
        return different, table[different]
    in_order = values[ascending(values)]
    starts = np.flatnonzero(_first(in_order))
    return in_order[starts], np.diff(starts, append=len(values))


def _are_dense(values: Integers) -> bool:
    """Whether a table of all values up to the greatest, which needs no sort, is small enough."""
    return int(values.max(initial=-1)) < _DENSE * len(values)


def _first(values: Integers) -> NDArray[np.bool_]:
    """Where a value differs from the one before it."""
    first = np.ones(len(values), dtype=bool)
    first[1:] = values[1:] != values[:-1]
    return first


def occurrence(owner: Integers, token: Integers) -> Integers:
    """How many equal tokens of the same owner stand before each one, ``[T]``.

    An owner's tokens stand in a row.
    """
    # A stable sort by token keeps owners together and places in order within each token.
    order = ascending(token)
    pair = token * (int(owner.max(initial=0)) + 1) + owner
    starts = np.flatnonzero(_first(pair[order]))
    lengths = np.diff(starts, append=len(order))
    result = np.empty(len(order), dtype=np.int64)
    result[order] = np.arange(len(order)) - np.repeat(starts, lengths)
    return result


@dataclass(frozen=True)
class Held:
    """Which n-grams each list holds, of T of them given as codes.

    Attributes:
        codes: ``[G]`` the different codes, ascending.
        number: ``[T]`` place of each n-gram's code among them.
        owner: ``[K]`` lists, ascending, of each pair of a list and an n-gram that it holds.
        gram: ``[K]`` places in ``codes`` of the pairs, ascending within a list.
        count: ``[K]`` how often the list holds the n-gram.
    """

    codes: Integers
    number: Integers
    owner: Integers
    gram: Integers
    count: Integers

    @classmethod
    def of(cls, owner: Integers, code: Integers) -> Held:
        """Count; neither is negative, both ``[T]``."""
        codes, number = numbered(code)
        grams = max(len(codes), 1)
        pairs, count = counted(owner * grams + number)
        return cls(codes, number, pairs // grams, pairs % grams, count)


@dataclass(frozen=True)
class Order:
    """The n-grams of one order in N lists.

    An n-gram is its first n − 1 tokens and its last one: ``prefix`` numbers the former among the
    n-grams of the order below (0 for single tokens).

    Attributes:
        prefix: ``[G]`` of each different n-gram.
        last: ``[G]`` its last token.
        owner: ``[K]`` lists, ascending, of each pair of a list and an n-gram that it holds.
        gram: ``[K]`` n-grams of the pairs, ascending within a list.
        count: ``[K]`` how often the list holds the n-gram.
        total: ``[N]`` n-grams of each list, repeated ones included.
    """

    prefix: Integers
    last: Integers
    owner: Integers
    gram: Integers
    count: Integers
    total: Integers


@dataclass(frozen=True)
class Ngrams:
    """The n-grams of N lists of token numbers, orders 1 to 4.

    Attributes:
        sizes: ``[N]`` tokens of each list.
        orders: one :class:`Order` each for n = 1 to 4.
    """

    sizes: Integers
    orders: tuple[Order, ...]

    @classmethod
    def of(cls, token_lists: Sequence[Tokens]) -> Ngrams:
        """Count; tokens have the numbers of ``TokenLists``."""
        lists = TokenLists.of(token_lists)
        return cls.of_numbers(lists.numbers, lists.sizes, len(lists.strings))

    @classmethod
    def of_numbers(cls, tokens: Integers, sizes: Integers, vocabulary: int) -> Ngrams:
        """Count in lists that stand in a row: ``tokens`` ``[T]`` below ``vocabulary``."""
        n = len(sizes)
        owner = np.repeat(np.arange(n), sizes)
        # Places that are left of the list from each token on, itself included.
        left = np.repeat(np.cumsum(sizes), sizes) - np.arange(len(tokens))
        number = np.zeros(len(tokens), dtype=np.int64)
        orders = []
        for order in range(1, ORDERS + 1):
            here = np.flatnonzero(left >= order)
            held = Held.of(owner[here], number[here] * vocabulary + tokens[here + order - 1])
            number[here] = held.number
            orders.append(
                Order(
                    held.codes // max(vocabulary, 1),
                    held.codes % max(vocabulary, 1),
                    held.owner,
                    held.gram,
                    held.count,
                    np.maximum(sizes - order + 1, 0),
                )
            )
        return cls(sizes, tuple(orders))
