"""What gate and ranking make of captioners that see nothing of a clip, or almost nothing.

Each is entered as one more projector beside those of a finished study, by the study's own metrics,
gate and ranking. Run with:

    python -m tools.simulation.attacks config/config.yaml --into docs/simulations.md
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from siglip_study.base.errors import StudyError
from siglip_study.config import load
from siglip_study.data.clips import ClipFile
from siglip_study.data.decoding import read_frames
from siglip_study.features.scorer import Scorer, TextScorer
from siglip_study.features.store import read_frame_embeddings
from siglip_study.metrics import siglip
from siglip_study.metrics.diversity import clusters, effective_captions, top_cluster_share
from siglip_study.metrics.grounding import (
    grounding_margin,
    large_categories,
    means_by_group,
    standardised_margin,
    standardised_margin_within,
)
from siglip_study.metrics.retrieval import retrieval_r1
from siglip_study.metrics.tokens import normalise
from siglip_study.ranking.gate import GateThresholds, References
from siglip_study.ranking.procedure import Entry, Ranking, rank_study
from siglip_study.ranking.scorer_check import ScorerCheck, read_check
from siglip_study.ranking.within import known_group_means
from siglip_study.scoring.baselines import pooled_features
from siglip_study.study import Study
from siglip_study.study.grid import Choice, read_choice
from tools.pages import write_tables
from tools.simulation.attackers import ATTACKS, Attack, Clips, Clues
from tools.simulation.edits import report_captions, similarity

#: Label of an attacker among the projectors.
ATTACKER = "the attacker"


@dataclass(frozen=True)
class Scored:
    """One run's captions: M, M within category and D of each clip ``[N]``, and figures of all.

    ``raw`` is the mean cosine with the own clips.
    """

    margins: np.ndarray
    within: np.ndarray
    cosine: np.ndarray
    effective: float
    top_share: float
    raw: float
    r1: float


def entry_of(runs: Sequence[Scored]) -> Entry:
    """One captioner's runs as the ranking takes them."""
    return Entry(
        margins=[run.margins for run in runs],
        effective=[run.effective for run in runs],
        top_share=[run.top_share for run in runs],
        within=[run.within for run in runs],
        cosine=[run.cosine for run in runs],
    )


@dataclass(frozen=True)
class Arena:
    """A study into which attackers are entered: its clips, and its projectors' runs.

    Attributes:
        clips: the report clips' rows of the manifest, in order of ids.
        projectors: label → captions of each of its S runs.
        images: the scorer's vectors of the clips, ``[N, E]``.
        scorer: the study's.
        check: what the scorer makes of people's captions, if it was asked.
        thresholds: of the gate.
    """

    clips: pl.DataFrame
    projectors: Mapping[str, Sequence[Sequence[str]]]
    images: np.ndarray
    scorer: TextScorer
    check: ScorerCheck | None = None
    thresholds: GateThresholds | None = None

    def scores(self, captions: Sequence[str]) -> Scored:
        """By the metrics of the study that gate and ranking read."""
        matrix = similarity(captions, self.scorer, self.images)
        empty = np.array([normalise(caption) == "" for caption in captions])
        category = large_categories(self.clips["category"].to_list())
        cluster = clusters(captions, self.clips["id"].to_list())
        return Scored(
            margins=standardised_margin(matrix, empty),
            within=standardised_margin_within(matrix, category, empty),
            cosine=grounding_margin(matrix, empty),
            effective=effective_captions(cluster),
            top_share=top_cluster_share(cluster),
            raw=float(siglip.siglip_cosine(matrix).mean()),
            r1=float(retrieval_r1(matrix, empty).mean()),
        )


@dataclass(frozen=True)
class Outcome:
    """What became of an attacker: its S runs, and the study's ranking with it.

    ``people`` is the mean cosine of people's captions with their clips.
    """

    attack: Attack
    runs: Sequence[Scored]
    people: float
    ranking: Ranking

    @property
    def place(self) -> int | None:
        """From 1 on, by M among the ranked; ``None`` where it has none."""
        ranked = [own.projector for own in self.ranking.projectors if own.ranked]
        return ranked.index(ATTACKER) + 1 if ATTACKER in ranked else None

    @property
    def below(self) -> tuple[str, ...]:
        """Grounded projectors above which it is ranked: there should be none."""
        if self.place is None:
            return ()
        ranked = [own for own in self.ranking.projectors if own.ranked]
        return tuple(own.projector for own in ranked[self.place :])


def fight(
    arena: Arena, clues: Sequence[Clues], attacks: Sequence[Attack] = ATTACKS, seed: int = 0
) -> list[Outcome]:
    """Enter each attacker by itself; ``clues`` are what there is to see in each of S runs."""
    groups = arena.clips["group"].to_list()
    people = arena.scores([texts[0] for texts in arena.clips["captions"]])
    references = References(
        people.effective,
        people.top_share,
        float(means_by_group(people.margins, groups).mean()),
        known_group_means(people.within, groups),
    )
    own = {
        label: entry_of([arena.scores(captions) for captions in runs])
        for label, runs in arena.projectors.items()
    }
    outcomes = []
    for number, attack in enumerate(attacks):
        runs = []
        for run, known in enumerate(clues):
            rng = np.random.default_rng([seed, number, 0 if attack.alike else run])
            seen = clues[0] if attack.alike else known
            runs.append(arena.scores(attack.say(seen.half(rng), rng)))
        ranking = rank_study(
            {**own, ATTACKER: entry_of(runs)},
            groups,
            references,
            arena.check,
            thresholds=arena.thresholds,
        )
        outcomes.append(Outcome(attack, runs, people.raw, ranking))
    return outcomes


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """Markdown: one line an attacker."""
    lines = [
        "| attack | sees | cosine / people's | M (lower bound) | M within (lower bound) "
        "| effective captions | R@1 | verdict | place | above a grounded projector |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for outcome in outcomes:
        own = next(o for o in outcome.ranking.projectors if o.projector == ATTACKER)
        place = (
            "–"
            if outcome.place is None
            else f"{outcome.place} of {len(outcome.ranking.projectors)}"
        )
        if outcome.ranking.answer.refusal is not None:
            place = f"no ranks: {outcome.ranking.answer.refusal.code.replace('_', ' ')}"
        tests = [
            "–" if test is None else f"{test.mean:z.2f} ({test.lower:z.2f})"
            for test in (own.gate.margin, own.gate.within)
        ]
        cells = [
            outcome.attack.name,
            outcome.attack.sees,
            f"{np.mean([run.raw for run in outcome.runs]):z.2f} / {outcome.people:z.2f}",
            *tests,
            f"{np.mean([run.effective for run in outcome.runs]):z.2f}",
            f"{np.mean([run.r1 for run in outcome.runs]):z.2f}",
            own.gate.reason.replace("_", " "),
            place,
            ", ".join(outcome.below) or "no",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


# ---- A finished study.


def _clips(study: Study, rows: pl.DataFrame, split: str) -> Clips:
    root = study.config.data_root
    middle = [read_frames(ClipFile(root / path), 1).mean(axis=(0, 1, 2)) for path in rows["path"]]
    folder = study.paths.features(study.encoder_slug, split)
    return Clips(
        [texts[0] for texts in rows["captions"]],
        rows["category"].to_list(),
        np.stack(middle),
        pooled_features(folder, rows["id"].to_list()),
    )


def read_study(study: Study) -> tuple[Arena, list[Clues]]:
    """Arena and clues of a finished study.

    Raises:
        StudyError: it has no blind-trained control, or halves that report for each other.
    """
    paths, config = study.paths, study.config
    if study.cross_fit:
        raise StudyError("the study's halves choose for each other; expected a split 'report'.")
    choice: Choice = read_choice(paths.selection)
    blind = study.by_role(choice).get("control_blind")
    if not blind:
        raise StudyError("controls.blind_trained is off; expected a study with this control.")
    manifest = pl.read_parquet(paths.manifest).sort("id")
    train, shown = (manifest.filter(split=split) for split in ("train", "report"))
    frames = read_frame_embeddings(paths.scorer_features(study.scorer_slug, "report"))
    said: dict[str, list[list[str]]] = {}
    for entrant in study.entrants(choice):
        said.setdefault(entrant.label, []).append(report_captions(paths.run(entrant.name)))
    arena = Arena(
        shown,
        said,
        siglip.clip_vectors([frames[clip].numpy() for clip in shown["id"]]),
        Scorer.from_config(config.scorer, "cpu"),
        read_check(paths.scorer_check).deciding,
        GateThresholds(**config.gate.model_dump()),
    )
    clues = Clues(
        _clips(study, train, "train"),
        _clips(study, shown, "report"),
        similarity([texts[0] for texts in train["captions"]], arena.scorer, arena.images),
        [],
        report_captions(paths.run(blind[0])),
        arena.images,
        arena.scorer,
    )
    first = next(iter(said.values()))
    return arena, [replace(clues, projector=run) for run in first]


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table of a finished study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("config", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--into", type=Path, help="Markdown file with markers for the table")
    options = parser.parse_args(argv)
    study = Study(load(options.config))
    outcomes = fight(*read_study(study), seed=options.seed)
    text = "\n".join(table(outcomes))
    print(text)
    if options.into is not None:
        write_tables(options.into, {"attacks": text})


if __name__ == "__main__":
    main()
