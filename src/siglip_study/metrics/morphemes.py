"""Korean morphemes by Kiwi, a sentence at a time, each different sentence once.

Kiwi needs some 5 ms for a caption of 500 characters, more than all other metrics of it together.
Sentences come again, in the captions of other runs and in the next scoring: what was analysed is
kept in memory, and between runs in a folder.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from siglip_study.base.errors import StudyError
from siglip_study.features.chunking import split_sentences

if TYPE_CHECKING:
    from kiwipiepy import Kiwi

#: Raised when sentences are kept in another form, or give other morphemes under the same Kiwi.
FORMAT = 2
#: Between two morphemes; no normalised text holds it.
TAB = "\t"


@functools.cache
def _kiwi(workers: int) -> Kiwi:
    from kiwipiepy import Kiwi

    return Kiwi(num_workers=workers)


class Morphemes:
    """Text → its morphemes as ``"form/tag"``.

    Args:
        workers: threads that Kiwi may use; a job must not take more cores than it was given.
        folder: where analysed sentences are kept between runs; None: nowhere.
        known: what :meth:`sentences` of another analyser gave.
    """

    def __init__(
        self,
        workers: int = 1,
        folder: Path | None = None,
        known: Mapping[str, str] | None = None,
    ) -> None:
        self._workers = workers
        #: sentence → its morphemes in one string: a million sentences have to fit into memory
        self._known: dict[str, str] = dict(known or {})
        self._fresh: list[str] = []
        self._folder = folder and folder / _version_of_tokens()
        if self._folder is not None and self._folder.is_dir():
            self._read(self._folder)

    def __call__(self, texts: Sequence[str]) -> tuple[str, ...]:
        """The morphemes of each normalised, lower-cased text, tabs between."""
        known = self.sentences(texts)
        # A sentence that Kiwi finds nothing in leaves an empty string, as an empty text does.
        by_text = (map(known.__getitem__, split_sentences(text)) for text in texts)
        return tuple(TAB.join(filter(None, found)) for found in by_text)

    def sentences(self, texts: Sequence[str]) -> dict[str, str]:
        """The sentences of normalised, lower-cased texts with their morphemes, tabs between."""
        wanted = sorted({sentence for text in texts for sentence in split_sentences(text)})
        new = [sentence for sentence in wanted if sentence not in self._known]
        if new:
            for sentence, tokens in zip(new, _kiwi(self._workers).tokenize(new), strict=True):
                # "VA-I" and "VA-R" say how an adjective conjugates, in which captions never differ.
                found = (f"{t.form}/{t.tag.split('-')[0]}" for t in tokens)
                self._known[sentence] = TAB.join(found)
            self._fresh += new
        return {sentence: self._known[sentence] for sentence in wanted}

    def save(self) -> None:
        """Keep what is new: a file of its own, named by its content, so that jobs do not meet."""
        if self._folder is None or not self._fresh:
            return
        import polars as pl

        from siglip_study.base.io import write_digest, write_parquet

        name = hashlib.sha256("\n".join(sorted(self._fresh)).encode()).hexdigest()[:16]
        found = [self._known[sentence] for sentence in self._fresh]
        self._folder.mkdir(parents=True, exist_ok=True)
        table = pl.DataFrame({"sentence": self._fresh, "morphemes": found})
        write_parquet(path := self._folder / f"{name}.parquet", table)
        write_digest(path)
        self._fresh = []

    def _read(self, folder: Path) -> None:
        from siglip_study.base.io import read_parquet

        # Hidden files are half written: by a job that runs now, or by one that was killed.
        for path in sorted(folder.glob("[!.]*.parquet")):
            try:
                table = read_parquet(path, ["sentence", "morphemes"])
            except StudyError:  # damaged: its sentences are analysed again
                path.unlink(missing_ok=True)
                continue
            self._known |= dict(zip(table["sentence"], table["morphemes"], strict=True))


def _version_of_tokens() -> str:
    """A name that changes whenever a sentence might be analysed differently."""
    facts = f"{version('kiwipiepy')} {version('kiwipiepy_model')} {FORMAT}"
    return hashlib.sha256(facts.encode()).hexdigest()[:16]


_current = Morphemes()


def current() -> Morphemes:
    """The analyser that the tokenizer uses."""
    return _current


def use(analyser: Morphemes) -> None:
    """Let the tokenizer use this one from here on."""
    global _current
    _current = analyser
