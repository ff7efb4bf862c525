"""Korean morphemes by Kiwi, a sentence at a time, each different sentence once.

Kiwi needs some 5 ms for a caption of 500 characters, more than all other metrics of it together.
Sentences come again, in the captions of other runs and in the next scoring: what was analysed is
kept in memory, and between runs in a folder.
"""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from siglip_study.features.chunking import split_sentences

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
    """

    def __init__(self, workers: int = 1, folder: Path | None = None) -> None:
        self._workers = workers
        self._known: dict[str, list[str]] = {}
        self._fresh: list[str] = []
        self._lock = threading.Lock()
        self._folder = folder and folder / _version_of_tokens()
        if self._folder is not None and self._folder.is_dir():
            self._read(self._folder)

    def __call__(self, texts: Sequence[str]) -> list[list[str]]:
        """The morphemes of normalised, lower-cased texts."""
        sentences = [split_sentences(text) for text in texts]
        with self._lock:
            known = self._known
            new = list(dict.fromkeys(s for some in sentences for s in some if s not in known))
            for sentence, tokens in zip(new, _kiwi(self._workers).tokenize(new), strict=True):
                # "VA-I" and "VA-R" say how an adjective conjugates, in which captions never differ.
                known[sentence] = [f"{t.form}/{t.tag.split('-')[0]}" for t in tokens]
            self._fresh += new
            return [[token for s in some for token in known[s]] for some in sentences]

    def save(self) -> None:
        """Keep what is new: a file of its own, named by its content, so that jobs do not meet."""
        if self._folder is None or not self._fresh:
            return
        import polars as pl

        from siglip_study.io import write_parquet

        name = hashlib.sha256("\n".join(sorted(self._fresh)).encode()).hexdigest()[:16]
        table = pl.DataFrame(
            {"sentence": self._fresh, "morphemes": [self._known[s] for s in self._fresh]},
            schema={"sentence": pl.String, "morphemes": pl.List(pl.String)},
        )
        self._folder.mkdir(parents=True, exist_ok=True)
        write_parquet(self._folder / f"{name}.parquet", table)
        self._fresh = []

    def _read(self, folder: Path) -> None:
        import polars as pl

        for path in sorted(folder.glob("*.parquet")):
            table = pl.read_parquet(path)
            rows = zip(table["sentence"].to_list(), table["morphemes"].to_list(), strict=True)
            self._known.update(rows)


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
