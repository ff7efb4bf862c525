"""Korean morphemes by Kiwi, a sentence at a time, each different sentence once.

Kiwi needs some 5 ms for a caption of 500 characters, more than all other metrics of it together.
Sentences come again, in the captions of other runs and in the next scoring: what was analysed is
kept in memory, and between runs in a folder.
"""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from siglip_study.base.errors import StudyError
from siglip_study.features.chunking import split_sentences
from siglip_study.metrics.token_lists import TokenLists

if TYPE_CHECKING:
    from kiwipiepy import Kiwi

#: Raised when the same sentence would give other morphemes for a reason other than Kiwi's version.
ALGORITHM = 1


@functools.cache
def _kiwi(workers: int) -> Kiwi:
    from kiwipiepy import Kiwi

    return Kiwi(num_workers=workers)


class Morphemes:
    """Sentence → its morphemes as ``"form/tag"``.

    Args:
        workers: threads that Kiwi may use; a job must not take more cores than it was given.
        folder: where analysed sentences are kept between runs; None: nowhere.
        known: sentences analysed elsewhere, with their morphemes.
    """

    def __init__(
        self,
        workers: int = 1,
        folder: Path | None = None,
        known: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._workers = workers
        #: sentence → its morphemes as places in ``_strings``
        self._known: dict[str, NDArray[np.int32]] = {}
        self._strings: list[str] = []
        self._places: dict[str, int] = {}
        self._fresh: list[str] = []
        self._lock = threading.Lock()
        for sentence, found in (known or {}).items():
            self._learn(sentence, found)
        self._folder = folder and folder / _version_of_tokens()
        if self._folder is not None and self._folder.is_dir():
            self._read(self._folder)

    def __call__(self, texts: Sequence[str]) -> TokenLists:
        """The morphemes of normalised, lower-cased texts."""
        by_text = [split_sentences(text) for text in texts]
        sentences = [sentence for some in by_text for sentence in some]
        with self._lock:
            self._analyse({s for s in sentences if s not in self._known})
            rows = [self._known[s] for s in sentences]
            ends = np.cumsum([0, *map(len, rows)])[np.cumsum([0, *map(len, by_text)])]
            numbers = np.concatenate([np.zeros(0, dtype=np.int32), *rows])
            return TokenLists.drawn_from(self._strings, numbers, np.diff(ends))

    def sentences(self, texts: Sequence[str]) -> dict[str, list[str]]:
        """The sentences of normalised, lower-cased texts with their morphemes."""
        wanted = {sentence for text in texts for sentence in split_sentences(text)}
        with self._lock:
            self._analyse({s for s in wanted if s not in self._known})
            return {s: [self._strings[i] for i in self._known[s]] for s in sorted(wanted)}

    def _analyse(self, sentences: set[str]) -> None:
        if not sentences:
            return
        new = sorted(sentences)
        for sentence, tokens in zip(new, _kiwi(self._workers).tokenize(new), strict=True):
            # "VA-I" and "VA-R" say how an adjective conjugates, in which captions never differ.
            found = [f"{t.form}/{t.tag.split('-')[0]}" for t in tokens]
            self._learn(sentence, found)
        self._fresh += new

    def _learn(self, sentence: str, found: Sequence[str]) -> None:
        self._known[sentence] = np.array([self._place(s) for s in found], dtype=np.int32)

    def _place(self, morpheme: str) -> int:
        place = self._places.setdefault(morpheme, len(self._strings))
        if place == len(self._strings):
            self._strings.append(morpheme)
        return place

    def save(self) -> None:
        """Keep what is new: a file of its own, named by its content, so that jobs do not meet."""
        if self._folder is None or not self._fresh:
            return
        import polars as pl

        from siglip_study.base.io import write_parquet

        name = hashlib.sha256("\n".join(sorted(self._fresh)).encode()).hexdigest()[:16]
        table = pl.DataFrame(
            {
                "sentence": self._fresh,
                "morphemes": [[self._strings[i] for i in self._known[s]] for s in self._fresh],
            },
            schema={"sentence": pl.String, "morphemes": pl.List(pl.String)},
        )
        self._folder.mkdir(parents=True, exist_ok=True)
        write_parquet(self._folder / f"{name}.parquet", table)
        self._fresh = []

    def _read(self, folder: Path) -> None:
        import polars as pl

        # Hidden files are half written: by a job that runs now, or by one that was killed.
        for path in sorted(folder.glob("[!.]*.parquet")):
            try:
                table = pl.read_parquet(path)
            except pl.exceptions.ComputeError:
                raise StudyError(
                    f"{path}: found a damaged file; expected Parquet. Delete it, and its sentences "
                    "are analysed again."
                ) from None
            each = table["morphemes"].explode().drop_nulls()
            strings = each.unique(maintain_order=True)
            own = np.array([self._place(s) for s in strings.to_list()], dtype=np.int32)
            numbers = own[each.cast(pl.Enum(strings)).to_physical().to_numpy()]
            ends = np.cumsum(table["morphemes"].list.len().to_numpy()).tolist()
            starts = [0, *ends[:-1]]
            for sentence, start, end in zip(table["sentence"].to_list(), starts, ends, strict=True):
                self._known[sentence] = numbers[start:end]


def _version_of_tokens() -> str:
    """A name that changes whenever a sentence might be analysed differently."""
    facts = f"{version('kiwipiepy')} {version('kiwipiepy_model')} {ALGORITHM}"
    return hashlib.sha256(facts.encode()).hexdigest()[:16]


_current = Morphemes()


def current() -> Morphemes:
    """The analyser that the tokenizer uses."""
    return _current


def use(analyser: Morphemes) -> None:
    """Let the tokenizer use this one from here on."""
    global _current
    _current = analyser
