"""How many clips a study has and how long their captions are: counted if possible, else assumed."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from siglip_study.base.errors import StudyError
from siglip_study.config.study import Config
from siglip_study.data.layouts import scan_split
from siglip_study.study.paths import Paths

#: Clips of the published study, assumed where there is no dataset yet.
ASSUMED_CLIPS = {"train": 865, "held_out": 97}
#: Mean tokens of the published study's captions (311 to 708 long).
ASSUMED_TOKENS = 450
#: Around an assumed mean, lengths are spread evenly between these multiples of it.
_ASSUMED_SPREAD = (0.7, 1.4)
#: Characters a token where captions are at hand and the tokenizer is not (Korean, Qwen3).
_CHARACTERS_A_TOKEN = 1.6
#: Captions that are tokenised; more would not change the mean.
_SAMPLE = 400


@dataclass(frozen=True)
class Dataset:
    """Clips of each split, and the caption lengths in tokens (EOS included), ascending.

    ``sources`` says in sentences where each of the two comes from.
    """

    clips: dict[str, int]
    lengths: tuple[int, ...]
    sources: tuple[str, ...]

    @property
    def mean_tokens(self) -> float:
        """Mean caption length in tokens."""
        return sum(self.lengths) / len(self.lengths)

    def typical(self, n: int) -> list[int]:
        """``n`` lengths spread over the distribution: the middles of ``n`` equal shares."""
        last = len(self.lengths) - 1
        return [self.lengths[min(last, int((i + 0.5) / n * len(self.lengths)))] for i in range(n)]


def describe_dataset(
    config: Config,
    tokenizer: Any = None,
    clips: dict[str, int] | None = None,
    tokens: int | None = None,
) -> Dataset:
    """Count clips and measure captions, or assume them.

    Args:
        config: the study.
        tokenizer: the LLM's, if it is at hand.
        clips: clips to assume, by name of ``data.splits``, in place of what is on disk.
        tokens: mean caption length to assume, likewise.

    Raises:
        StudyError: the dataset is there and a split of it is not.
    """
    counted, captions, source = _clips(config, clips)
    limit = config.training.max_target_tokens
    if tokens is None and captions and tokenizer is not None:
        flat = tokenizer(captions, add_special_tokens=False)["input_ids"]
        lengths, told = [len(row) + 1 for row in flat], f"{len(flat)} captions, tokenised"
    elif tokens is None and captions:
        lengths = [round(len(text) / _CHARACTERS_A_TOKEN) + 1 for text in captions]
        told = (
            f"characters of {len(captions)} captions over {_CHARACTERS_A_TOKEN}, "
            "since the tokenizer is not at hand"
        )
    else:
        mean = tokens or min(ASSUMED_TOKENS, max(1, round(0.75 * limit)))
        low, high = _ASSUMED_SPREAD
        # Symmetric in number, not in length: as many below the mean as above it.
        lengths = [round(mean * (low + (1 - low) * i / 8)) for i in range(8)]
        lengths += [round(mean * (1 + (high - 1) * i / 6)) for i in range(1, 7)]
        told = "assumed"
    cut = sorted(max(1, min(length, limit)) for length in lengths)
    mean_tokens = sum(cut) / len(cut)
    sources = (source, f"captions of {mean_tokens:.0f} tokens on average: {told}")
    return Dataset(_halved(counted), tuple(cut), sources)


def _clips(config: Config, given: dict[str, int] | None) -> tuple[dict[str, int], list[str], str]:
    """Clips of each split, captions if they can be read, and where both come from."""
    if given is not None:
        return given, [], f"clips {_listed(given)}: as given"
    manifest = Paths(config.output_dir).manifest
    # The rehearsal also runs on machines without the table reader.
    if manifest.is_file() and importlib.util.find_spec("polars") is not None:
        import polars as pl

        rows = pl.read_parquet(manifest, columns=["split", "captions"])
        counted = dict(rows["split"].value_counts().iter_rows())
        captions = [texts[0] for texts in rows["captions"].to_list()]
        return counted, _sampled(captions), f"clips {_listed(counted)}: counted in {manifest}"
    root = config.data_root
    if root.is_dir():
        data = config.data
        scans = {split: scan_split(data, root, folder) for split, folder in data.splits.items()}
        counted = {split: len(scan.clips) for split, scan in scans.items()}
        empty = next((split for split, n in counted.items() if n == 0), None)
        if empty is not None:
            raise StudyError(
                f"{root / data.splits[empty]}: no clip with a label for split '{empty}'; "
                "expected at least one."
            )
        captions = [clip.captions[0] for scan in scans.values() for clip in scan.clips]
        return counted, _sampled(captions), f"clips {_listed(counted)}: counted in {root}"
    if config.demo is not None:
        demo = config.demo
        counted = {"train": demo.train, "selection": demo.selection, "report": demo.report}
        return counted, [], f"clips {_listed(counted)}: as the demo will make them"
    assumed = dict(ASSUMED_CLIPS)
    return assumed, [], f"clips {_listed(assumed)}: assumed, since {root} is not there"


def _halved(clips: dict[str, int]) -> dict[str, int]:
    """One held-out split becomes ``selection`` and ``report``, half each."""
    if "held_out" not in clips:
        return clips
    half = clips["held_out"] // 2
    return {"train": clips["train"], "selection": half, "report": clips["held_out"] - half}


def _sampled(captions: Sequence[str]) -> list[str]:
    step = max(1, len(captions) // _SAMPLE)
    return list(captions[::step])


def _listed(clips: dict[str, int]) -> str:
    return ", ".join(f"{n} {split}" for split, n in clips.items())


def assumed_from_arguments(train: int | None, held_out: int | None) -> dict[str, int] | None:
    """Clips given on a command line; a number that is left out is the published study's."""
    if train is None and held_out is None:
        return None
    return {
        "train": train or ASSUMED_CLIPS["train"],
        "held_out": held_out or ASSUMED_CLIPS["held_out"],
    }


def manifest_path(config: Config) -> Path:
    """Where the manifest is, once it is made."""
    return Paths(config.output_dir).manifest
