"""The metrics of many captioners, several at once, each in a process of its own.

Only what needs no model is done there: this process goes on embedding captions meanwhile. The
processes are joblib's, which do not run the calling script again, as those of ``multiprocessing``
would do with a job's script.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from siglip_study.metrics import morphemes
from siglip_study.metrics.tokens import morphemes_by_sentence
from siglip_study.scoring.cell_scores import Embedded, Split, write_scores

#: Captions below which other processes, which take seconds to start, save no time.
WORTHWHILE = 20_000
#: Captioners embedded ahead of each process: 20 MB each for 1,000 clips.
AHEAD = 2

_split: Split | None = None


def write_in_processes(split: Split, captioners: Iterable[Embedded], processes: int) -> None:
    """Write the scores of each captioner.

    Args:
        split: with the references' values.
        captioners: embedded one after the other, as processes come free.
        processes: how many, each with one thread.
    """
    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky import get_reusable_executor

    texts = [text for refs in (*split.references, *split.train) for text in refs]
    known = morphemes_by_sentence(texts) if split.language == "ko" else {}
    with parallel_config(
        "loky", inner_max_num_threads=1, initializer=_take, initargs=(split, known)
    ):
        # Arrays go through the pipe: joblib's files of them would stay until the last captioner.
        pool = Parallel(n_jobs=processes, pre_dispatch=(1 + AHEAD) * processes, max_nbytes=None)
        try:
            pool(delayed(_write)(made) for made in captioners)
        finally:
            # joblib would keep them waiting for more.
            get_reusable_executor(reuse=True).shutdown()


def _take(split: Split, known: Mapping[str, Sequence[str]]) -> None:
    """Keep what all captioners of the split share, the analysed references among it."""
    global _split
    _split = split
    morphemes.use(morphemes.Morphemes(known=known))


def _write(made: Embedded) -> None:
    assert _split is not None
    write_scores(_split, made)
