"""Simulate the ranking procedure: false orders, coverage, power.

Run with::

    python -m tools.simulation.simulate                          # the tables of docs/simulations.md
    python -m tools.simulation.simulate --into docs/simulations.md   # … put between its markers
    python -m tools.simulation.simulate --rows                   # every kind of world
    python -m tools.simulation.simulate --quick                  # seconds

All projectors are equally good in every world, so any order claimed is false. Monte Carlo error of
a share of 5 % is .5 points at 2,000 worlds.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

from tools.pages import write_tables
from tools.simulation import (
    category_trial,
    draws_trial,
    neighbour_trial,
    selection_trial,
    tuning_seeds_trial,
)
from tools.simulation.crossfit_trial import Design, TunedOutcome, TunedWorld, play
from tools.simulation.crossfit_trial import worlds as tuned_worlds
from tools.simulation.trial import Outcome, Tried, evaluate, evaluate_all
from tools.simulation.worlds import Noise, World

#: Name → method; ``None`` is the bootstrap over clips with one seed.
METHODS: dict[str, Tried] = {
    "this procedure": "floor",
    "mean of all": "mean",
    "bootstrap, one seed": None,
}
DESIGNS: tuple[Design, ...] = ("cross-fitted", "one half", "no split")
#: What an interval at 95 % may cover before the table marks it.
COVERED = (0.93, 0.97)
#: So many kinds, those of the most false orders, are played again, in so many times as many worlds:
#: the largest of some hundred shares is too large by chance.
AGAIN, TIMES = 8, 50

Row = tuple[str, str, World, Outcome]
TunedRow = tuple[str, TunedWorld, Design, TunedOutcome]


#: Kinds of clips, by the words that a family's name takes from them.
CLIPS = {
    "": World(),
    "seeds shift all clips alike": World(interaction=0.0),
    "grouped clips": World(group_size=3),
    "hub clips": World(hubs=True),
    "heavy tails": World(heavy=True),
}


def families() -> dict[str, World]:
    """The kinds of clips and seeds, by the name that the table gives them."""
    found = {}
    every: tuple[Noise, ...] = get_args(Noise)
    for clips, kind in CLIPS.items():
        for noise in every if kind in (World(), World(interaction=0.0)) else every[:1]:
            name = ", ".join(filter(None, (f"{noise} noise" if noise == "equal" else noise, clips)))
            found[name] = replace(kind, noise=noise)
    return found


def simulate(n_worlds: int, seed: int, quick: bool = False) -> list[Row]:
    """Every method in every kind of world: n = 60, 400; P = 2, 3, 4, 8; S = 1, 2, 3, 5."""
    clips = (60,) if quick else (60, 400)
    projectors = (2, 4) if quick else (2, 3, 4, 8)
    seeds = (1, 3) if quick else (1, 2, 3, 5)
    names = {method: name for name, method in METHODS.items()}
    rows: list[Row] = []
    for index, kind in enumerate(CLIPS.values()):
        family_of = {
            w.noise: name for name, w in families().items() if w == replace(kind, noise=w.noise)
        }
        for n, p in itertools.product(clips, projectors):
            # All kinds of seed noise see the same clips.
            worlds = [
                replace(kind, n_clips=n, n_projectors=p, n_seeds=s, seed_sd=sd, noise=noise)
                for noise in family_of
                for s in seeds
                for sd in ((0.0, 1.0, 2.0) if noise == "equal" else (1.0, 2.0))
            ]
            found = evaluate_all(worlds, n_worlds, seed + index, list(METHODS.values()))
            rows += [
                (names[method], family_of[world.noise], world, outcome)
                for (world, method), outcome in found.items()
                # With two seeds both charge a mean; with one nobody ranks, whatever the noise.
                if (world.n_seeds > 2 or method != "mean")
                and (world.n_seeds > 1 or world.noise == "equal")
            ]
    order = list(METHODS)
    return sorted(rows, key=lambda r: (order.index(r[0]), list(families()).index(r[1])))


def simulate_tuned(n_worlds: int, seed: int, quick: bool = False) -> list[TunedRow]:
    """Every design of splitting in every kind of tuned world."""
    return [
        (name, world, design, play(world, n_worlds, seed, design))
        for name, world in tuned_worlds()
        if not quick or (world.n_clips, world.n_projectors) == (60, 2)
        for design in DESIGNS
    ]


def simulate_categories(
    n_worlds: int, seed: int, quick: bool = False
) -> list[tuple[str, category_trial.CategoryOutcome]]:
    """Captioners of the category alone beside projectors that see, in every kind of world."""
    kinds = category_trial.worlds()[: 2 if quick else None]
    return [(name, category_trial.play(world, n_worlds, seed)) for name, world in kinds]


def simulate_selection(
    n_worlds: int, seed: int, quick: bool = False
) -> list[tuple[str, selection_trial.TuningOutcome]]:
    """Which tuning cell is chosen, in every kind of world."""
    kinds = selection_trial.worlds()[: 2 if quick else None]
    return [(name, selection_trial.play(world, n_worlds, seed)) for name, world in kinds]


def simulate_tuning_seeds(
    n_worlds: int, seed: int, quick: bool = False
) -> list[tuple[str, tuning_seeds_trial.TuningSeeds, tuning_seeds_trial.Luck]]:
    """How often the best tuning cell is chosen, in every kind of world."""
    kinds = tuning_seeds_trial.worlds()[: 3 if quick else None]
    return [(name, world, tuning_seeds_trial.play(world, n_worlds, seed)) for name, world in kinds]


def _range(values: Iterable[float], digits: int = 1, scale: float = 100) -> str:
    numbers = [scale * value for value in values]
    low, high = f"{min(numbers):.{digits}f}", f"{max(numbers):.{digits}f}"
    return low if low == high else f"{low}–{high}"


def _coverage(values: Sequence[float]) -> str:
    """A range of coverages, with how many kinds of worlds fall outside of what was promised."""
    under = sum(round(value, 3) < COVERED[0] for value in values)
    over = sum(round(value, 3) > COVERED[1] for value in values)
    said = [f"{n} {word}" for n, word in ((under, "under"), (over, "over")) if n]
    return _range(values) + (f" ({', '.join(said)})" if said else "")


def summary(rows: Sequence[Row]) -> list[str]:
    """Markdown table: one line a method, family and number of seeds; ranges over its worlds."""
    lines = [
        "| method | worlds | seeds | kinds | false order, mean % | worst % | … gated, worst % "
        "| … with a true winner, worst % | coverage of differences % | … of all together % "
        "| … of means % | power % |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    keys = dict.fromkeys((name, family, world.n_seeds) for name, family, world, _ in rows)
    for name, family, s in keys:
        own = [o for m, f, w, o in rows if (m, f, w.n_seeds) == (name, family, s)]
        if s == 1 and METHODS[name] is not None:
            claims = ["no ranks", "0", "0", "0"]
            power = "0"
        else:
            false = [o.false_order for o in own]
            claims = [
                f"{100 * sum(false) / len(own):.1f}",
                f"{100 * max(false):.1f}",
                "–" if s == 1 else f"{100 * max(o.false_gated for o in own):.1f}",
                f"{100 * max(o.false_with_winner for o in own):.1f}",
            ]
            power = _range(o.power for o in own)
        cells = [name, family, str(s), str(len(own)), *claims]
        joint = "–" if s == 1 else _range(o.joint_coverage for o in own)
        cells += [_coverage([o.coverage for o in own]), joint]
        cells.append(_coverage([o.mean_coverage for o in own]))
        lines.append("| " + " | ".join([*cells, power]) + " |")
    return lines


def tuned_summary(rows: Sequence[TunedRow]) -> list[str]:
    """Markdown table of the designs: one line a design and kind of world."""
    lines = [
        "| split | worlds | kinds | both halves agree % | false order, worst % "
        "| coverage of differences % | … of means % | bias of a mean | smallest detectable |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for design in DESIGNS:
        for name in dict.fromkeys(r[0] for r in rows):
            own = [o for n, _, d, o in rows if (n, d) == (name, design)]
            lines.append(
                f"| {design} | {name} | {len(own)} | {_range((o.agree for o in own), 0)} "
                f"| {100 * max(o.false_order for o in own):.1f} "
                f"| {_coverage([o.coverage for o in own])} "
                f"| {_coverage([o.mean_coverage for o in own])} "
                f"| {_range((o.bias for o in own), 2, 1)} "
                f"| {_range((o.detectable for o in own), 1, 1)} |"
            )
    return lines


def worst_again(rows: Sequence[Row], n_worlds: int, seed: int) -> list[tuple[str, World, Outcome]]:
    """The kinds with the most false orders at three seeds and more, in new and more worlds."""
    own = {
        world: (outcome.false_order, family)
        for name, family, world, outcome in rows
        if METHODS[name] == "floor" and world.n_seeds >= 3
    }
    worst = sorted(own, key=lambda world: -own[world][0])[:AGAIN]
    return [(own[w][1], w, evaluate(w, TIMES * n_worlds, seed + 1000)) for w in worst]


def again_summary(rows: Sequence[tuple[str, World, Outcome]]) -> list[str]:
    """Markdown table of :func:`worst_again`."""
    lines = [
        "| worlds | clips | projectors | seeds | seed SD | false order % | … gated % "
        "| coverage of differences % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for family, world, found in rows:
        lines.append(
            f"| {family} | {world.n_clips} | {world.n_projectors} | {world.n_seeds} "
            f"| {world.seed_sd:g} | {100 * found.false_order:.1f} | {100 * found.false_gated:.1f} "
            f"| {100 * found.coverage:.1f} |"
        )
    return lines


def row(name: str, family: str, world: World, outcome: Outcome) -> str:
    """One tab-separated line for one method in one kind of world."""
    shares = (
        "false_order",
        "false_gated",
        "false_with_winner",
        "coverage",
        "joint_coverage",
        "first_coverage",
        "mean_coverage",
        "passed",
        "power",
    )
    return "\t".join(
        [
            name,
            family,
            f"n={world.n_clips}",
            f"P={world.n_projectors}",
            f"S={world.n_seeds}",
            f"seed_sd={world.seed_sd:g}",
            f"noise={world.noise}",
            *(f"{key}={100 * getattr(outcome, key):.1f}" for key in shares),
            f"detectable={outcome.detectable:.2f}",
        ]
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of ``python -m tools.simulation.simulate``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--worlds", type=int, default=2000, help="studies of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="few sizes: 60 clips, 1 and 3 seeds")
    parser.add_argument("--rows", action="store_true", help="print every kind of world as well")
    parser.add_argument("--into", type=Path, help="Markdown file with markers for the tables")
    options = parser.parse_args(argv)
    started = time.process_time()
    rows = simulate(options.worlds, options.seed, options.quick)
    again = worst_again(rows, options.worlds, options.seed)
    tuned = simulate_tuned(options.worlds, options.seed, options.quick)
    categories = simulate_categories(options.worlds, options.seed, options.quick)
    chosen = simulate_selection(options.worlds, options.seed, options.quick)
    lucky = simulate_tuning_seeds(options.worlds, options.seed, options.quick)
    streets = neighbour_trial.streets()[: 1 if options.quick else None]
    beside = [
        (name, neighbour_trial.play(street, options.worlds, options.seed))
        for name, street in streets
    ]
    draws = draws_trial.simulate_draws(options.worlds, options.seed, options.quick)
    if options.rows:
        print("\n".join(row(*each) for each in rows))
    text = "\n".join(
        [
            f"{options.worlds:,} worlds of each kind, seed {options.seed}.",
            "",
            *summary(rows),
            "",
            f"The {AGAIN} kinds of the most false orders with three seeds or more, played again in "
            f"{TIMES} times as many worlds:",
            "",
            *again_summary(again),
            "",
            f"Claims of {', '.join(neighbour_trial.PAIRS)} (%) among three projectors beside a "
            "fourth:",
            "",
            *neighbour_trial.summary(beside),
            "",
            "One held-out split, cells chosen on its clips:",
            "",
            *tuned_summary(tuned),
            "",
            "Captioners that know the category at most, "
            "without → with D within category asked for:",
            "",
            *category_trial.summary(categories),
            "",
            "Tuning cells of one projector, chosen by the highest D → as the study chooses:",
            "",
            *selection_trial.summary(chosen),
            "",
            "What one tuning seed loses:",
            "",
            *tuning_seeds_trial.summary(lucky),
            "",
            f"Draws of permuted captions, {draws_trial.TIMES} times as many worlds; SD in units of "
            "the standard error that clips give one draw:",
            "",
            *draws_trial.summary(draws),
        ]
    )
    print(text)
    if options.into is not None:
        write_tables(options.into, {"simulation": text})
    print(f"{time.process_time() - started:.0f} s of one core", file=sys.stderr)


if __name__ == "__main__":
    main()
