"""The first screen: context, answer, what to avoid, whether to believe it, a line a projector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from siglip_study.config.axes import EPOCHS, RATE
from siglip_study.ranking.caveats import MIN_SEEDS
from siglip_study.ranking.procedure import Ranking
from siglip_study.report.controls import MUST_FAIL, M
from siglip_study.report.language import Text, join
from siglip_study.report.results import CellResult, mean, report_runs
from siglip_study.report.wording import headline as told
from siglip_study.report.wording.labels import label as say
from siglip_study.report.words import duration

#: A projector whose share of the seed variance is above this is named.
LOUD = 0.5
#: The micro models of the embedded demo, by what they are.
DEMO_MODELS = {"vision": "micro CLIP", "llm": "micro Qwen3", "scorer": "micro SigLIP"}


@dataclass(frozen=True)
class Check:
    """One line of "can you believe it?", ticked or flagged."""

    good: bool
    text: Text


@dataclass(frozen=True)
class ProjectorLine:
    """One projector in one line of the table; ``None`` where a figure is unknown.

    Attributes:
        projector: its label.
        ranked: whether it takes part in the ranking.
        rank_low: best place that the data allows; ``rank_high``: the worst.
        margin: mean standardised margin M, with its interval from ``low`` to ``high``.
        of_human: M as a share of the human captions'; ``None`` where that scale is not firm.
        beats_copying: whether it is shown to beat the nearest training clip's caption.
        distinct: effective captions, a share of the clips.
        sees_order: what its model makes of the order of frames.
        tokens: of a video; ``parameters``: of the projector.
        learning_rate: chosen one of stage 2; ``epochs``: chosen ones; ``settings``: those of
            other axes, as JSON.
        gpu_s: GPU-seconds of a run, both stages; ``wall_s``: its seconds by the clock.
        verdict: the gate's.
    """

    projector: str
    ranked: bool
    rank_low: int | None
    rank_high: int | None
    margin: float
    low: float | None
    high: float | None
    of_human: float | None
    beats_copying: bool | None
    distinct: float | None
    sees_order: str | None
    tokens: int | None
    parameters: int | None
    learning_rate: float | None
    epochs: float | None
    settings: str | None
    gpu_s: float | None
    wall_s: float | None
    verdict: str


@dataclass(frozen=True)
class FirstScreen:
    """All that the first screen says."""

    context: Text
    headline: Text
    advice: tuple[Text, ...]
    checks: tuple[Check, ...]
    lines: tuple[ProjectorLine, ...]


def first_screen(
    ranking: Ranking,
    tables: Mapping[str, list[dict[str, Any]]],
    cells: list[CellResult],
    config: Mapping[str, Any],
    date: str | None,
    orders: tuple[int, list[tuple[Text, tuple[str, ...]]]] | None,
) -> FirstScreen:
    """The first screen of a study.

    ``date`` is the day on which the study was made; ``orders`` says how many other measures put the
    best guess first, and which do not, with theirs (``None`` where there are none).
    """
    motion = motion_known(cells)
    settings = {row["projector"]: row["settings"] for row in tables["ledger"]}
    parts = (
        told.avoid_sentence(ranking.answer.avoid, ranking.answer.guess),
        told.next_step_sentence(ranking.answer.guess, ranking.answer.next_step),
    )
    return FirstScreen(
        context=_context(ranking, tables, cells, config, date),
        headline=told.headline(ranking),
        advice=tuple(part for part in parts if part),
        checks=_checks(ranking, tables["controls"], motion, orders),
        lines=tuple(
            _line(row, ranking, cells, settings.get(row["projector"])) for row in tables["ranking"]
        ),
    )


# ---- The context line.


def _context(
    ranking: Ranking,
    tables: Mapping[str, list[dict[str, Any]]],
    cells: list[CellResult],
    config: Mapping[str, Any],
    date: str | None,
) -> Text:
    parts: list[Text | str] = [
        dataset_name(config),
        say("context.clips", n=ranking.n_clips),
        say("context.projectors", n=len(ranking.projectors), s=ranking.n_seeds),
    ]
    encoder, llm, scorer = (model_names(config, kind, cells) for kind in DEMO_MODELS)
    if encoder and llm:
        parts.append(f"{encoder} → {llm}")
    if scorer:
        parts.append(say("context.scorer", m=scorer))
    if date:
        parts.append(date)
    parts.append(_spent(tables["cells"]))
    return join(" · ", [part for part in parts if part])


def dataset_name(config: Mapping[str, Any]) -> Text:
    """The config's name of the dataset, else its folder's, else that of the demo."""
    named = (config.get("report") or {}).get("dataset")
    root = (config.get("data") or {}).get("root")
    if named or root:
        return Text.same(named or PurePosixPath(str(root)).name)
    return say("context.demo")


def model_names(config: Mapping[str, Any], kind: str, cells: list[CellResult]) -> str | None:
    """The models that reported runs have, or the config's, without their owners or folders."""
    own = [
        model for cell in cells if cell.role == "report" and (model := cell.key(f"{kind}.model"))
    ]
    paths = dict.fromkeys(own) or [(config.get(kind) or {}).get("model")]
    names = [
        DEMO_MODELS[kind]
        if str(path).startswith("resources/demo/")
        else PurePosixPath(str(path)).name
        for path in paths
        if path is not None
    ]
    return " / ".join(names) or None


def _spent(cells: list[dict[str, Any]]) -> Text:
    """GPU-hours of all training, or its hours where there was no GPU; shared stages once."""
    gpu = wall = 0.0
    stages: set[str] = set()
    for cell in cells:
        gpu += cell["gpu_s"] or 0.0
        wall += cell["wall_s"] or 0.0
        if cell["stage1_cell"] not in stages:
            gpu += cell["stage1_gpu_s"] or 0.0
            wall += cell["stage1_wall_s"] or 0.0
        stages.add(cell["stage1_cell"])
    if gpu > 0:
        return say("context.gpu", h=gpu / 3600)
    return say("context.cpu", d=duration(wall))


# ---- Can you believe it?


def _checks(
    ranking: Ranking,
    controls: list[dict[str, Any]],
    motion: dict[str, float],
    orders: tuple[int, list[tuple[Text, tuple[str, ...]]]] | None,
) -> tuple[Check, ...]:
    tested = [row for row in controls if row["metric"] == M and row["as_expected"] is not None]
    met = [row for row in tested if row["as_expected"]]
    hot = next((bool(r["as_expected"]) for r in tested if r["role"] == "control_hot"), None)
    trained = any(row["role"] in MUST_FAIL for row in controls)
    good = trained and len(met) == len(tested)
    checks = [
        Check(bool(ranking.scorer and ranking.scorer.can_tell), told.scorer_line(ranking)),
        Check(good, told.controls_line(len(met), len(tested), hot, trained)),
    ]
    if orders is not None and ranking.answer.guess is not None:
        agree, differ = orders
        checks.append(Check(not differ, told.measures_line(ranking.answer.guess, agree, differ)))
    failed = sum(len(own.gate.failed_runs) for own in ranking.projectors)
    firm = ranking.n_seeds >= MIN_SEEDS and not failed
    loudest = _loudest(ranking)
    checks.append(
        Check(firm and loudest is None, told.seeds_line(ranking.n_seeds, failed, loudest))
    )
    order = ranking.time_order
    seen = order is not None and all(own.verdict == "sees" for own in order.projectors)
    checks.append(Check(seen, told.order_line(ranking, motion)))
    return tuple(checks)


def _loudest(ranking: Ranking) -> tuple[str, float] | None:
    """The projector that most of the variance between seeds is of, with its share."""
    variances = {own.projector: own.seed_sd**2 for own in ranking.projectors if own.seed_sd}
    if len(variances) < 2:
        return None
    label = max(variances, key=lambda name: variances[name])
    share = variances[label] / sum(variances.values())
    return (label, share) if share > LOUD else None


def motion_known(cells: list[CellResult]) -> dict[str, float]:
    """κ of the motion in the captions by projector, which only the demo knows."""
    found = {}
    for label, runs in report_runs(cells).items():
        facts = [(cell.metrics.get("truth") or {}).get("motion") for cell in runs]
        kappa = mean([fact["kappa"] for fact in facts if fact])
        if kappa is not None:
            found[label] = kappa
    return found


# ---- A line a projector.


def _line(
    row: dict[str, Any], ranking: Ranking, cells: list[CellResult], settings: str | None
) -> ProjectorLine:
    label = row["projector"]
    runs = report_runs(cells).get(label, [])
    seen = ranking.time_order.projectors if ranking.time_order else ()
    order = {own.projector: own.verdict for own in seen}
    human = row["reference_standardised_margin"]
    firm = ranking.scorer is not None and ranking.scorer.human_scale and human
    return ProjectorLine(
        projector=label,
        ranked=row["ranked"],
        rank_low=row["rank_low"],
        rank_high=row["rank_high"],
        margin=row["standardised_margin"],
        low=row["standardised_margin_low"],
        high=row["standardised_margin_high"],
        of_human=row["standardised_margin"] / human if firm else None,
        beats_copying=row["clears_retrieval"],
        distinct=row["effective_captions"],
        sees_order=order.get(label),
        tokens=row["tokens_per_video"],
        parameters=row["projector_parameters"],
        learning_rate=runs[0].key(RATE) if runs else None,
        epochs=runs[0].key(EPOCHS) if runs else None,
        settings=settings,
        gpu_s=(row["gpu_s"] or 0.0) + (row["stage1_gpu_s"] or 0.0) or None,
        wall_s=(row["wall_s"] or 0.0) + (row["stage1_wall_s"] or 0.0) or None,
        verdict=row["gate"],
    )
