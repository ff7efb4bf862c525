"""Edits of captions that change no meaning, and what they do to the figures: D, M, AUC, R@1.

Run with, for a finished study:

    python -m tools.simulation.edits config/config.yaml
"""

from __future__ import annotations

import argparse
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from siglip_study.base.io import read_json
from siglip_study.config import load
from siglip_study.features.chunking import split_sentences
from siglip_study.features.scorer import Scorer, TextScorer
from siglip_study.features.store import read_frame_embeddings
from siglip_study.metrics import siglip
from siglip_study.metrics.grounding import auc, grounding_margin, standardised_margin
from siglip_study.metrics.retrieval import retrieval_r1
from siglip_study.study import Study
from siglip_study.study.grid import chosen_cells, read_choice

#: Sentences that fit every clip.
FILLER = ("이것은 영상이다.", "화면에 장면이 보인다.", "영상은 몇 초 동안 이어진다.")


def without_inner_stops(caption: str) -> str:
    """The sentences run into one, as careless writers do."""
    return re.sub(r"[.!?](?=\s)", "", caption)


#: Edit → caption as edited. None of them says more or less of the clip, but for *first sentence*
#: and *keywords*, which say less.
EDITS: dict[str, Callable[[str], str]] = {
    "as they are": lambda caption: caption,
    "no inner full stops": without_inner_stops,
    "no full stops": lambda caption: re.sub(r"[.!?]", "", caption),
    "commas for inner full stops": lambda caption: re.sub(r"[.!?](?=\s)", ",", caption),
    "a line a sentence": lambda caption: "\n".join(split_sentences(caption)),
    "one filler sentence": lambda caption: f"{caption} {FILLER[0]}",
    "three filler sentences": lambda caption: " ".join((caption, *FILLER)),
    "twice": lambda caption: f"{caption} {caption}",
    "lower case": str.lower,
    "NFD": lambda caption: unicodedata.normalize("NFD", caption),
    "blanks": lambda caption: f"  {caption.replace(' ', '  ')} ",
    "first sentence": lambda caption: "".join(split_sentences(caption)[:1]),
}
FIGURES = {
    "D": grounding_margin,
    "M": standardised_margin,
    "AUC": auc,
    "R@1": retrieval_r1,
}


def similarity(captions: Sequence[str], scorer: TextScorer, images: np.ndarray) -> np.ndarray:
    """Cosine of captions with clips ``[N, E]``: ``[captions, N]``."""
    embedded = scorer.caption_embeddings(list(captions))
    chunks, weights = ([part[k].numpy() for part in embedded] for k in (0, 1))
    return siglip.score_matrix(chunks, weights, images)


def figures(captions: Sequence[str], scorer: TextScorer, images: np.ndarray) -> dict[str, float]:
    """Means of :data:`FIGURES` of N captions with N clips ``[N, E]``."""
    matrix = similarity(captions, scorer, images)
    return {name: float(np.mean(metric(matrix))) for name, metric in FIGURES.items()}


def table(
    captioners: Mapping[str, Sequence[str]], scorer: TextScorer, images: np.ndarray
) -> list[str]:
    """Markdown: D and M of each captioner under each edit."""
    lines = [
        "| edit | " + " | ".join(f"{name}: D, M" for name in captioners) + " |",
        "|" + "---|" * (1 + len(captioners)),
    ]
    for edit, change in EDITS.items():
        cells = []
        for captions in captioners.values():
            found = figures([change(caption) for caption in captions], scorer, images)
            cells.append(f"{found['D']:.3f}, {found['M']:.2f}")
        lines.append(f"| {edit} | " + " | ".join(cells) + " |")
    return lines


def report_captions(folder: Path) -> list[str]:
    """A captioner's captions of the report clips, in order of ids."""
    records = read_json(folder / "captions.json", "captions/1")["records"]
    matched = [r for r in records if (r["split"], r["condition"]) == ("report", "matched")]
    return [r["caption"] for r in sorted(matched, key=lambda record: str(record["id"]))]


def main() -> None:
    """Print the table of a study's first report seeds and of its human captions."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("config", type=Path)
    study = Study(load(parser.parse_args().config))
    paths = study.paths
    seed = study.config.seeds.report[0]
    chosen = chosen_cells(read_choice(paths.selection))
    names = {own.label: own.name for own in study.reported(chosen) if own.run.seed == seed}
    said = {label: report_captions(paths.run(name)) for label, name in names.items()}
    shown = pl.read_parquet(paths.clips("report")).sort("id")
    said["people"] = shown["captions"].list.first().to_list()
    frames = read_frame_embeddings(paths.scorer_features(study.scorer_slug, "report"))
    images = siglip.clip_vectors([frames[clip].numpy() for clip in sorted(frames)])
    scorer = Scorer.from_config(study.config.scorer, "cpu")
    print("\n".join(table(said, scorer, images)))


if __name__ == "__main__":
    main()
