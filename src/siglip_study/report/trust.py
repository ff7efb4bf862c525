"""Why the ranking can be trusted, or why it cannot: controls, negatives of the same category,
captioners and models that see nothing, and the facts that only the demo knows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from siglip_study.base.io import check_digest
from siglip_study.ranking.gate import Verdict
from siglip_study.ranking.orders import check_order, facts_score
from siglip_study.ranking.pairs import baseline_tests
from siglip_study.ranking.procedure import Ranking
from siglip_study.ranking.scores import group_means
from siglip_study.report.controls import FIGURES, GAPS, GATED, MUST_FAIL, WITHIN, M, by_projector
from siglip_study.report.grain import grain_view
from siglip_study.report.language import Text, capital
from siglip_study.report.results import ROLES, CellResult, mean, only, report_runs
from siglip_study.report.wording.claims import (
    category_sentence,
    company,
    copying_sentence,
    generic_sentence,
    not_computed,
    truth_order,
)
from siglip_study.report.wording.gate import gate_name
from siglip_study.report.wording.metrics import NAMES
from siglip_study.scoring.inputs import read_captions, read_facts
from siglip_study.study.paths import Paths

#: Whose captions are compared with the facts.
KNOWN_FACTS = ("report", "control_retrieval", "references", "control_hot")


def trust(
    ranking: Ranking, controls: list[dict[str, Any]], cells: list[CellResult]
) -> dict[str, Any]:
    """What the trust section shows beside the ranking and its pairs; ``controls`` is the table."""
    bar = ranking.retrieval
    return {
        "figures": [(name, capital(NAMES[name])) for name in FIGURES],
        "gaps": GAPS,
        "reasons": {row["cell"]: gate_name(row["gate"]) for row in controls if row["gate"]},
        "controls": [rows for rows in by_cell(controls) if M in rows],
        # Without a trained one, nothing shows what the study makes of a blind model.
        "trained_controls": any(cell.role in MUST_FAIL for cell in cells),
        "measured": [
            cell for cell in cells if cell.role in ("report", *GATED) and cell.metrics.get("losses")
        ],
        "retrieval": copying_sentence(bar.cleared_by if bar else None, len(ranking.projectors)),
    }


def by_cell(controls: list[dict[str, Any]]) -> list[dict[str, dict[str, Any]]]:
    """Rows of the ``controls`` table by cell, in its order: metric → row."""
    cells: dict[str, dict[str, dict[str, Any]]] = {}
    for row in controls:
        cells.setdefault(row["cell"], {})[row["metric"]] = row
    return list(cells.values())


# ---- Is more seen than a captioner can guess?


def beyond_category(
    results: Path, ranking: Ranking, controls: list[dict[str, Any]], cells: list[CellResult]
) -> dict[str, Any]:
    """View of what stands between a score and sight; ``controls`` is the table."""
    # Two trainings that report a half each have rows too, but are none of the cells.
    roles = ("report", "references", "control_category")
    names = [cell.name for cell in cells if cell.role in roles]
    columns = ("cell", "projector", "role", "seed", "id", "group", "category", "caption")
    check_digest(table := Paths(results).tables / "clips.parquet")
    clips = (
        pl.scan_parquet(table)
        .select(*columns, M, WITHIN[0])
        .filter(pl.col("cell").is_in(names))
        .collect()
    )
    gates = {row["cell"]: row["gate"] for row in controls}
    path = Paths(results).demo / "facts.json"
    facts = read_facts(path) if path.is_file() else None
    sizes = {
        label: runs[0].run.get("tokens_per_video") for label, runs in report_runs(cells).items()
    }
    grounded = [own.projector for own in ranking.projectors if own.gate.verdict == "grounded"]
    tokens = {label: size for label in grounded if (size := sizes.get(label)) is not None}
    return {
        **_negatives(cells, controls, clips),
        "generic": _generic(cells, gates),
        "category": _category(cells, gates, clips, ranking.alpha),
        "blind_captions": _blind_captions(results, cells),
        "truth_order": _truth_order(facts, clips, ranking),
        "grain": grain_view(clips, facts, tokens, ranking.alpha),
    }


def _negatives(
    cells: list[CellResult], controls: list[dict[str, Any]], clips: pl.DataFrame
) -> dict[str, Any]:
    rows = [
        found
        for found in by_cell(controls)
        if WITHIN[0] in found and found[WITHIN[0]]["value"] is not None
    ]
    chances = [found[WITHIN[2]]["chance"] for found in rows if WITHIN[2] in found]
    if not rows:
        shown = [cell for cell in cells if cell.role not in ("tuning", "preset")]
        reasons = {cell.metrics["not_computed"].get(WITHIN[0]) for cell in shown} - {None}
        why = "; ".join(sorted(str(reason) for reason in reasons))
        note = not_computed(why)
    else:
        # Compared within a half, where there are two: the metric itself knows who has company.
        human = clips.filter(pl.col("role") == "references")
        own = human.drop_nulls(WITHIN[0])
        note = company(own.height, human.height, own["category"].n_unique())
    return {
        "within": WITHIN,
        "negatives": rows,
        "negatives_chance": next((chance for chance in chances if chance), None),
        "negatives_note": note,
    }


def _generic(cells: list[CellResult], gates: dict[str, Verdict | None]) -> Text | None:
    """What the raw score makes of one caption for all, from this study's numbers."""
    generic, human = only(cells, "control_generic"), only(cells, "references")
    if generic is None:
        return None
    raw = generic.value("siglip_cosine")
    trained = [
        cell
        for cell in cells
        if cell.role in ("report", *MUST_FAIL) and cell.value("siglip_cosine") is not None
    ]
    below = [c for c in trained if (c.value("siglip_cosine") or 0.0) < (raw or 0.0)]
    other = None
    if human is not None and human.value(M) is not None:
        # Mean D is the mean of the diagonal less the mean off it.
        other = (human.value("siglip_cosine") or 0.0) - (human.value("grounding_margin") or 0.0)
    return generic_sentence(
        raw,
        other,
        len(below),
        len(trained),
        {
            c.projector or c.name: None if c.role == "report" else ROLES[c.role]
            for c in sorted(below, key=lambda c: c.projector or c.name)
        },
        generic.value(M),
        gates.get(generic.name),
    )


def _category(
    cells: list[CellResult], gates: dict[str, Verdict | None], clips: pl.DataFrame, alpha: float
) -> Text | None:
    """What knowing the category alone is worth, and who is shown to see more."""
    found = only(cells, "control_category")
    if found is None:
        return None
    bar = clips.filter(pl.col("role") == "control_category").sort("id")
    scores = by_projector(clips)
    above: list[str] | None = None
    rest: list[str] = []
    if scores and len(bar):
        level = group_means(bar[M].to_numpy(), bar["group"].to_list())[1]
        tests = baseline_tests(scores, level, alpha)
        above = [test.projector for test in tests if test.cleared]
        rest = [test.projector for test in tests if not test.cleared]
    margins = found.value(M), found.value(WITHIN[0])
    return category_sentence(margins, gates.get(found.name), above, rest)


def _blind_captions(results: Path, cells: list[CellResult]) -> dict[str, dict[str, str]]:
    """What the first published run of each projector says, by condition: ``blind`` is no video,
    ``mean`` the mean video."""
    rows: dict[str, dict[str, str]] = {}
    for cell in (one for whole in cells for one in (whole, *whole.halves)):
        label = cell.projector or cell.name
        path = Paths(results).captions(cell.name)
        if cell.role != "report" or label in rows or not path.is_file():
            continue
        told = {
            record.condition: record.caption
            for record in read_captions(path)
            if record.condition != "matched"
        }
        if told:
            rows[label] = told
    return rows


# ---- The facts, which only the demo knows.


def _truth_order(
    facts: Mapping[str, Mapping[str, str]] | None, clips: pl.DataFrame, ranking: Ranking
) -> dict[str, Any] | None:
    """Whether M contradicts the facts."""
    reports = clips.filter(role="report").sort("id")
    if facts is None or reports.is_empty() or not ranking.pairs:
        return None
    scores = {
        str(cell): facts_score(own["caption"].to_list(), [facts[clip] for clip in own["id"]])
        for (cell,), own in reports.group_by("cell", maintain_order=True)
    }
    order = check_order(by_projector(clips, scores), ranking.pairs, ranking.alpha)
    state = "bad" if order.contradict else "good" if order.told else "plain"
    return {"sentence": truth_order(order), "state": state}


def truth(cells: list[CellResult], projectors: list[str]) -> dict[str, Any] | None:
    """View of the demo's truth: κ per attribute and projector, or None where facts are not known.

    A value is the mean over the projector's report seeds; its interval reaches from the lowest
    lower to the highest upper bound of those seeds, and so is wider than any one of them.
    """
    runs: dict[str, list[CellResult]] = {}
    for cell in cells:
        if cell.metrics.get("truth") and cell.role in KNOWN_FACTS:
            label = str(cell.projector) if cell.role == "report" else cell.role
            runs.setdefault(label, []).append(cell)
    if not runs:
        return None
    order = {label: place for place, label in enumerate(projectors)}
    labels = sorted(runs, key=lambda label: (order.get(label, len(order)), label))
    attributes = dict.fromkeys(
        attribute for label in labels for cell in runs[label] for attribute in cell.metrics["truth"]
    )
    return {
        "projectors": labels,
        "names": {label: ROLES.get(label, Text.same(label)) for label in labels},
        "rows": {a: [_kappa(runs[label], a) for label in labels] for a in attributes},
    }


def _kappa(cells: list[CellResult], attribute: str) -> dict[str, Any]:
    found = [c.metrics["truth"][attribute] for c in cells if attribute in c.metrics["truth"]]

    def known(key: str) -> list[float]:
        return [f[key] for f in found if f.get(key) is not None]

    return {
        **{key: mean(known(key)) for key in ("kappa", "accuracy", "majority")},
        "low": min(known("low"), default=None),
        "high": max(known("high"), default=None),
        "n": found[0].get("n") if found else None,
    }
