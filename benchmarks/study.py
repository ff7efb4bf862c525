"""The published experiments from clips to metrics, projected from what was measured.

Nothing is timed here: seconds of a step, a caption, a clip and a score, all taken on one machine,
are multiplied by how often each side needs them.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from benchmarks.inputs import Size
from benchmarks.tables import Result, Table

TRAIN, HELD_OUT = 865, 97
SELECTION, REPORT = 48, 49  # the halves of the held-out clips, as the workflow splits them
CONDITIONS = 6  # losses of each report clip: matched, four shuffled, reversed
RUNS = Path(__file__).parents[1] / "resources" / "published_runs.json"
# Which measured projector stands for which: the same number of vision tokens and clips.
STANDS_FOR = {
    "linear": "linear",
    "mlp_2l": "linear",
    "query_abstractor": "query_abstractor",
    "query_perceiver": "query_abstractor",
}
NEEDED = ("training", "captions", "tower", "scoring")
PIECES = ("features", "stage 1", "stage 2", "after each epoch", "at the end")


@dataclass(frozen=True)
class Run:
    """A published experiment, with the epochs that it took or was planned to take."""

    name: str
    projector: str
    batch: int
    epochs: tuple[int, int]
    stage1: tuple[object, ...]  # what its first stage depends on

    @property
    def measured(self) -> str:
        """The projector whose times it is given."""
        return STANDS_FOR[self.projector]

    @property
    def passes(self) -> int:
        """Forward passes of an epoch."""
        return math.ceil(TRAIN / self.batch)


def published_runs() -> list[Run]:
    """The five experiments of ``resources/published_runs.json``."""
    found = []
    for raw in json.loads(RUNS.read_text(encoding="utf-8"))["runs"]:
        first, second = raw["stage1"], raw["stage2"]
        epochs = (first["epochs"], second.get("stopped_at_epoch", second["epochs"]))
        key = (raw["projector"], raw["batch_size"], first["epochs"], first["lr"])
        found.append(Run(raw["id"], raw["projector"], raw["batch_size"], epochs, key))
    return found


@dataclass(frozen=True)
class Sides:
    """Measured seconds of both sides."""

    parts: dict[str, float]
    lengths: str
    first_lengths: str
    decoder: str | None  # the project's, None: decoding was not timed

    def step(self, run: Run, stage: int, side: str) -> float:
        return self.parts[f"training/{run.measured}/{stage}/{self.lengths}/{side}/step"]

    def caption(self, run: Run, budget: int, side: str) -> float:
        return self.parts[f"captions/{run.measured}/{budget}/{side}"]

    def features(self, side: str) -> float:
        """Seconds of one clip, decoding included where it was timed."""
        tower = self.parts[f"tower/{side}"]
        if self.decoder is None:
            return tower
        decoding = self.parts[f"{self.decoder}/{side}"]
        # The project decodes while the tower works; the published code one after the other.
        return max(tower, decoding) if side == "ours" else tower + decoding

    def published(self, run: Run, budget: int) -> dict[str, float]:
        """Seconds of each piece by the published method."""
        epochs = sum(run.epochs)
        each = self.caption(run, budget, "published") + self.parts["scoring/published"]
        return {
            "features": (TRAIN + HELD_OUT) * self.features("published"),
            "stage 1": run.epochs[0] * run.passes * self.step(run, 1, "published"),
            "stage 2": run.epochs[1] * run.passes * self.step(run, 2, "published"),
            "after each epoch": epochs * HELD_OUT * each,
            "at the end": 0.0,  # its last epoch's captions are its result
        }

    def ours(self, run: Run, budget: int, caption_every_epoch: bool) -> dict[str, float]:
        """Seconds of each piece by this project's workflow."""
        validation = {s: self._validation(run, s) for s in (1, 2)}
        scores = self.parts["scoring/ours"]
        caption = self.caption(run, budget, "ours")
        found = {"features": (TRAIN + HELD_OUT) * self.features("ours")}
        for stage in (1, 2):
            start = self.parts[f"training/{run.measured}/{stage}/{self.first_lengths}/ours/startup"]
            steps = run.epochs[stage - 1] * run.passes * self.step(run, stage, "ours")
            found[f"stage {stage}"] = start + steps
        images = HELD_OUT * self.parts["scoring/ours/image"]
        ready = self.parts[f"captions/{run.measured}/ready/ours"]
        losses = sum(run.epochs[s - 1] * SELECTION * validation[s] for s in (1, 2))
        if caption_every_epoch:
            looks = sum(run.epochs) * HELD_OUT * (caption + scores)
            found |= {"after each epoch": losses + looks, "at the end": images + ready}
        else:
            looks = sum(run.epochs) * self.parts[f"captions/{run.measured}/quick/ours"]
            found["after each epoch"] = losses + looks
            found["at the end"] = (
                images + ready + REPORT * (caption + scores) + CONDITIONS * REPORT * validation[2]
            )
        return found

    def _validation(self, run: Run, stage: int) -> float:
        return self.parts[f"training/{run.measured}/{stage}/{self.lengths}/ours/validation"]


def project(size: Size, earlier: dict[str, Result]) -> Result:
    """Add the measured parts up; every assumption is a note of the tables."""
    absent = [name for name in NEEDED if name not in earlier or earlier[name].skipped]
    if absent:
        return Result(skipped=f"the study is not projected: {', '.join(absent)} not timed.")
    machines = {earlier[name].machine for name in NEEDED}
    if len(machines) > 1:
        return Result(skipped=f"the parts were timed on different machines: {sorted(machines)}.")
    timed = earlier.get("decoding")
    decoding = timed if timed is not None and not timed.skipped else None
    parts = {k: v for name in NEEDED for k, v in earlier[name].parts.items()}
    parts |= decoding.parts if decoding else {}
    lengths = list(size.training_lengths)
    sides = Sides(parts, lengths[-1], lengths[0], _decoder(decoding))
    result = Result()
    notes = _notes(sides, decoding, earlier["training"].machine)
    runs = published_runs()
    for budget in size.caption_budgets:
        result.tables.append(_one_run(runs[0], budget, sides))
    result.tables.append(_all_runs(runs, size.caption_budgets, sides, notes))
    return result


def _decoder(decoding: Result | None) -> str | None:
    """The faster of the project's decoders on clips with few keyframes."""
    if decoding is None:
        return None
    suffix = "/250/ours"
    keys = [key for key in decoding.parts if key.endswith(suffix)]
    return min(keys, key=lambda key: decoding.parts[key]).removesuffix("/ours")


def _one_run(run: Run, budget: int, sides: Sides) -> Table:
    published = sides.published(run, budget)
    ours, alike = (sides.ours(run, budget, every) for every in (False, True))
    columns = ["part", "published min", "ours min", "ratio"]
    columns += ["ours min, all captioned after each epoch", "ratio"]
    table = Table(f"{run.name} from clips to metrics, {budget} new tokens a caption", columns)
    sides_of = {p: (published[p], ours[p], alike[p]) for p in PIECES}
    sides_of["total"] = (sum(published.values()), sum(ours.values()), sum(alike.values()))
    for name, (theirs, mine, same) in sides_of.items():
        # What one side does not do at all has no ratio.
        both = (theirs / mine, theirs / same) if theirs and mine and same else (None, None)
        table.rows.append([name, theirs / 60, mine / 60, both[0], same / 60, both[1]])
    table.notes = ["What was counted and assumed: below the last table."]
    return table


def _all_runs(runs: list[Run], budgets: tuple[int, ...], sides: Sides, notes: list[str]) -> Table:
    columns = ["run"]
    for budget in budgets:
        columns += [f"published h, {budget} tokens", "ours h", "ratio"]
        columns += ["ours h, all captioned after each epoch", "ratio"]
    table = Table("The five published runs, features shared", columns)
    features = {side: (TRAIN + HELD_OUT) * sides.features(side) for side in ("published", "ours")}
    trained: set[tuple[object, ...]] = set()
    sums = {budget: [0.0, 0.0, 0.0] for budget in budgets}
    for run in runs:
        row: list[str | float | None] = [f"{run.name} ({run.projector}, {run.batch} clips)"]
        for budget in budgets:
            mine = [sides.ours(run, budget, every) for every in (False, True)]
            if run.stage1 in trained:
                mine = [side | {"stage 1": 0.0} for side in mine]
            three = [
                sum(side.values()) - side["features"]
                for side in (sides.published(run, budget), *mine)
            ]
            row += _hours(three)
            sums[budget] = [a + b for a, b in zip(sums[budget], three, strict=True)]
        trained.add(run.stage1)
        table.rows.append(row)
    once = [features["published"], features["ours"], features["ours"]]
    for name, given in (("features", 0.0), ("total", 1.0)):
        row = [name]
        for budget in budgets:
            row += _hours([a + given * b for a, b in zip(once, sums[budget], strict=True)])
        table.rows.append(row)
    table.notes = [
        f"{len(trained)} of {len(runs)} first stages differ in projector, batch, epochs or rate; "
        "each of these is trained on both sides. Features are made once on both sides.",
        *notes,
    ]
    return table


def _hours(seconds: list[float]) -> list[float]:
    """Published, ours and its ratio, ours captioning as often and its ratio."""
    published, ours, alike = seconds
    return [published / 3600, ours / 3600, published / ours, alike / 3600, published / alike]


def _notes(sides: Sides, decoding: Result | None, machine: str) -> list[str]:
    decoded = (
        "Decoding was not timed and is left out of both sides."
        if decoding is None
        else f"Decoding (1080p, {sides.decoder}) was timed on {decoding.machine}: beside the tower "
        "on our side, before it on the other."
    )
    return [
        f"Projected, not run: parts timed on {machine}. {TRAIN} training and {HELD_OUT} held-out "
        f"clips, captions of {sides.lengths} tokens. mlp_2l takes the times of linear, "
        "query_perceiver those of query_abstractor; a run that stopped early counts the epochs "
        "that it took, one that its authors cut short those that it was planned for.",
        "Published: after every epoch of both stages all held-out clips are captioned one by one "
        "and scored; a step here is one forward and backward pass with its optimizer step, though "
        "the optimizer moves every second time only, on both sides.",
        f"Ours, as the workflow does it: after every epoch the loss of {SELECTION} clips and the "
        f"quick captions; at the end captions of {REPORT} clips, their losses under {CONDITIONS} "
        "videos (counted as that many full passes, though a prompt is read once for five of them), "
        "and scores; planning and compilation once a stage. Beside it, as if it captioned "
        "and scored all held-out clips after every epoch too.",
        "Left out of both sides: loading models, saving, and metrics that need no GPU. Stage 1 "
        "captions are taken to cost what those of stage 2 do.",
        decoded,
    ]
