"""What the result folder says, read once and checked: the input of tables and page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from siglip_study.base.errors import StudyError
from siglip_study.base.io import read_json, read_parquet
from siglip_study.ranking.selection import StudySelection
from siglip_study.report.language import Text, texts
from siglip_study.scoring.score_files import of_half, read_metrics
from siglip_study.study.paths import Paths

#: Roles in reading order, with the words that a reader sees.
ROLES = texts("roles")


def role_name(role: str) -> Text:
    """A role's words for the middle of a line."""
    return ROLES[role].lower()


#: Said of one of two trainings that report a half each.
OF_ONE_HALF = Text(" of one half", "(절반)")
#: Captioners that train nothing of their own and so have no ``cell.json``.
UNTRAINED = (
    *("references", "control_retrieval", "control_generic", "control_category"),
    "control_stage1",
)


@dataclass(frozen=True)
class CellResult:
    """One captioner: ``metrics`` is its metrics.json, ``run`` its cell.json, ``stage1`` the
    stage.json of the first stage it started from (both {} if untrained).

    ``runs`` names the runs of a control that it stands for, with their means; () for a single one.
    ``halves`` are the two trainings that report a half each, of which this is both together.
    """

    name: str
    role: str
    metrics: dict[str, Any]
    run: dict[str, Any] = field(default_factory=dict)
    stage1: dict[str, Any] = field(default_factory=dict)
    runs: tuple[str, ...] = ()
    halves: tuple[CellResult, ...] = ()

    @property
    def projector(self) -> str | None:
        """Label of the projector; None for captioners that have none."""
        label = self.run.get("projector") or self.metrics.get("projector")
        return str(label) if label is not None else None

    @property
    def seed(self) -> int | None:
        """Seed of the run, None for captioners that have none."""
        seed = self.run.get("seed", self.metrics.get("seed"))
        return None if seed is None else int(seed)

    def value(self, metric: str, part: str = "value") -> float | None:
        """A part of a corpus metric (``value``, ``low``, ``high``, ``reference``), if known."""
        found = self.metrics["values"].get(metric)
        return None if found is None else found.get(part)

    def figure(self, metric: str) -> dict[str, float | None]:
        """A corpus metric with its interval: ``value``, ``low``, ``high``."""
        return {part: self.value(metric, part) for part in ("value", "low", "high")}

    def cost(self, key: str) -> float | int | None:
        """A cost by its column name: ``gpu_s``, or ``stage1_gpu_s`` for the first stage."""
        if key.startswith("stage1_"):
            return self.stage1.get(key.removeprefix("stage1_"))
        return self.run.get(key)

    def key(self, dotted: str) -> Any:
        """What its run had for a key (``llm.lora.r``); None if untrained or not known."""
        found: Any = self.run.get("run")
        for part in dotted.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        return found

    def gap(self, name: str, part: str = "value") -> float | None:
        """A loss gap (``shuffled_gap``, ``reversed_gap``; nats a token), if it was measured."""
        found = (self.metrics.get("losses") or {}).get(name)
        return None if found is None else found.get(part)


def read_cell(results: Path, name: str, role: str, half: str | None = None) -> CellResult:
    """Read one cell's metrics and run description; only what it reports of a half, if one is named.

    Raises:
        StudyError: a file is missing, of another schema, or speaks of another cell.
    """
    if role not in ROLES:
        raise StudyError(f"cell {name!r} has role {role!r}; expected one of {', '.join(ROLES)}.")
    folder = Paths(results).run(name)
    metrics = read_metrics(folder)
    if metrics.get("parts"):
        return _joined(results, name, role, metrics)
    if half is not None:
        metrics = of_half(metrics, half, folder)
    run = {} if role in UNTRAINED else read_json(folder / "cell.json", schema="cell/1")
    for path, found in (("metrics.json", metrics), ("cell.json", run or metrics)):
        if found.get("cell") != name:
            raise StudyError(
                f"{folder / path}: speaks of cell {found.get('cell')!r}; expected {name!r}."
            )
    parent = run.get("stage1_cell")
    stage1 = {}
    if parent is not None:
        stage1 = read_json(Paths(results).stage1(str(parent)) / "stage.json", schema="stage/1")
    return CellResult(name=name, role=role, metrics=metrics, run=run, stage1=stage1)


def _joined(results: Path, name: str, role: str, metrics: dict[str, Any]) -> CellResult:
    """Two trainings as one: what they share, and the mean of what they took."""
    halves = tuple(read_cell(results, part, role, half) for half, part in metrics["parts"].items())
    run = {**shared([cell.run for cell in halves]), "cell": name, "stage1_cell": None}
    stage1 = shared([cell.stage1 for cell in halves])
    return CellResult(name, role, metrics, run, stage1, halves=halves)


#: What a training takes, of which two trainings have a mean.
_TAKEN = ("optimizer_steps", "samples_seen", "wall_s", "gpu_s", "train_s", "flops")


def shared(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Keys that all runs hold alike, and means of what they took; the rest is left out."""
    found: dict[str, Any] = {}
    for key, value in runs[0].items():
        others = [run.get(key) for run in runs]
        if isinstance(value, dict):
            found[key] = shared([other or {} for other in others])
        elif key in _TAKEN:
            found[key] = mean(others)
        elif key == "peak_gpu_gb":
            found[key] = max(other or 0.0 for other in others)
        elif all(other == value for other in others):
            found[key] = value
    return found


def read_cells(results: Path, cells: dict[str, list[str]]) -> list[CellResult]:
    """All cells of ``{role: [name, ...]}``, in the order of :data:`ROLES`.

    Two trainings that report a half each stand in the one that they are together, and nowhere else.
    """
    order = {role: place for place, role in enumerate(ROLES)}
    pairs = [(role, name) for role, names in cells.items() for name in names]
    pairs.sort(key=lambda pair: order.get(pair[0], len(order)))
    found = [read_cell(results, name, role) for role, name in pairs]
    parts = part_names(found)
    return [cell for cell in found if cell.name not in parts]


def part_names(cells: list[CellResult]) -> set[str]:
    """Names of the trainings that report one half each."""
    return {half.name for cell in cells for half in cell.halves}


def only(cells: list[CellResult], role: str) -> CellResult | None:
    """The first cell of a role, or None."""
    return next((cell for cell in cells if cell.role == role), None)


def report_runs(cells: list[CellResult]) -> dict[str, list[CellResult]]:
    """Report runs by projector, in the order of ``cells``."""
    runs: dict[str, list[CellResult]] = {}
    for cell in cells:
        if cell.role == "report":
            runs.setdefault(str(cell.projector), []).append(cell)
    return runs


def mean(values: Sequence[float | None]) -> float | None:
    """Mean of the known values; None where none is known."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def chosen_text(selection: StudySelection, projector: str) -> str | None:
    """The chosen tuning cells of a projector, in words; None where it is unknown."""
    own = selection.projectors.get(projector)
    return ", ".join(dict.fromkeys(own.reports.values())) if own else None


def settings_json(selection: StudySelection, cell: CellResult) -> str | None:
    """JSON of a training's values on the grid's axes, but for rate and epochs; None without any."""
    keys = axes_of(selection)
    if not keys or not cell.run:
        return None
    return json.dumps({key: cell.key(key) for key in keys}, ensure_ascii=False)


def axes_of(selection: StudySelection) -> list[str]:
    """Dotted keys that tuning varies beside rate and epochs."""
    cells = [cell for own in selection.projectors.values() for cell in own.cells]
    return list(dict.fromkeys(key for cell in cells for key in cell.settings))


#: Of ``report.json``: the first screen and the answer as data, and the whole config.
ANSWER_SCHEMA = "report/1"


def read_answer(paths: Paths) -> dict[str, Any]:
    """``report.json`` of a finished study.

    Raises:
        StudyError: it is not finished, or its page is of an older version.
    """
    told = read_json(paths.report_answer, ANSWER_SCHEMA)
    if "config" not in told:
        raise StudyError(
            f"{paths.report_answer}: without the study's config, as older versions wrote it; "
            "expected one of today: run the study's command again, which trains nothing."
        )
    return told


# ---- The history of a cell's training, with what its captions came to: what a diagnosis reads.

#: Tokens whose share of the video falls under this part of what it was before training lost it.
LOST = 0.1
#: A share of the video under this is none, also before training.
NOTHING = 0.005


@dataclass(frozen=True)
class History:
    """One cell's training: rows of ``epochs.parquet`` and ``steps.parquet``, stage 1 first.

    ``collapsed`` and ``grounded`` are what the gate says of its captions (None: it was not asked).
    ``design`` tells runs of one projector with the same options. ``reports_half``: of two trainings
    with one seed, each reports a half of the held-out clips.
    """

    cell: str
    projector: str
    role: str
    seed: int | None
    epochs: tuple[dict[str, Any], ...]
    steps: tuple[dict[str, Any], ...]
    stage1_rate: float | None
    effective_captions: float | None
    reference_captions: float | None
    collapsed: bool | None
    grounded: bool | None = None
    design: str = ""
    reports_half: bool = False

    @property
    def measured(self) -> list[dict[str, Any]]:
        """Epochs in which clips were looked at."""
        return [row for row in self.epochs if row.get("diag_n")]

    @property
    def start(self) -> dict[str, Any]:
        """``diag_…`` columns before the first step, as far as they are kept."""
        if not self.measured:
            return {}
        kept = {k: v for k, v in self.measured[0].items() if k.startswith("diag_start_")}
        return {k.replace("diag_start_", "diag_"): v for k, v in kept.items()}

    @property
    def low_diversity(self) -> bool | None:
        """Whether captions have under half the effective captions of people's, as in the gate."""
        if self.effective_captions is None or self.reference_captions is None:
            return None
        return self.effective_captions < self.reference_captions / 2


def lost_in(history: History) -> dict[str, Any] | None:
    """The first epoch after which tokens say hardly anything of the video, if there is one."""
    first = history.start.get("diag_video_share_after")
    if first is None or first < NOTHING:
        return None
    for row in history.measured:
        share = row["diag_video_share_after"]
        if share is not None and share < LOST * first:
            return row
    return None


def read_histories(
    results: Path, cells: list[CellResult], tables: Mapping[str, list[dict[str, Any]]]
) -> list[History]:
    """Histories of every trained cell, collapsed ones first, then by role.

    ``tables`` has ``cells``, ``ranking`` and ``controls``.
    """
    gates = {row["cell"]: row["gate"] for row in tables["controls"] if row["gate"]}
    verdicts = {row["projector"]: row["gate"] for row in tables["ranking"]}
    for row in tables["cells"]:
        if row["role"] == "report" and row["projector"] in verdicts:
            gates[row["cell"]] = verdicts[row["projector"]]
    paths, stages = Paths(results), {}
    known = {own.name: own for cell in cells for own in (cell, *cell.halves)}
    parts = part_names(cells)
    human = only(cells, "references")
    reference = None if human is None else human.value("effective_captions")
    histories = []
    for row in tables["cells"]:
        cell = known.get(row["cell"])
        if cell is None or row["optimizer_steps"] is None:
            continue
        parent = row["stage1_cell"]
        if parent is not None and parent not in stages:
            stages[parent] = _stage(paths.stage1(parent))
        first, second = stages.get(parent, ([], [])), _stage(paths.run(row["cell"]))
        run = cell.run.get("run") or {}
        gate = gates.get(row["cell"])
        histories.append(
            History(
                cell=row["cell"],
                projector=row["projector"] or row["cell"],
                role=row["role"],
                seed=row["seed"],
                reports_half=row["cell"] in parts,
                epochs=(*first[0], *second[0]),
                steps=(*first[1], *second[1]),
                stage1_rate=(run.get("stage1") or {}).get("learning_rate"),
                effective_captions=row["effective_captions"],
                reference_captions=reference,
                collapsed=row["collapsed"],
                grounded=None if gate is None else gate == "grounded",
                design=json.dumps(
                    [run.get("projector"), run.get("options"), run.get("sabotage")], sort_keys=True
                ),
            )
        )
    return sorted(histories, key=lambda own: (not own.collapsed, list(ROLES).index(own.role)))


def _stage(folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of epochs.parquet, and stage, step and gradient norm of each row of steps.parquet."""
    epochs = read_parquet(folder / "epochs.parquet").to_dicts()
    steps = read_parquet(folder / "steps.parquet", columns=["stage", "step", "grad_norm"])
    return epochs, steps.to_dicts()
