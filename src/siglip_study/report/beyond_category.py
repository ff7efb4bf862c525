"""Is more seen than a captioner can guess? Negatives of the same category, adversaries that see
nothing, what models say without a video, and the order of the known facts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from siglip_study.base.io import read_json
from siglip_study.report import wording, words
from siglip_study.report.controls import WITHIN
from siglip_study.report.results import ROLES, CellResult, only
from siglip_study.report.trust import by_cell
from siglip_study.study.paths import Paths

if TYPE_CHECKING:
    import numpy as np

    from siglip_study.ranking.gate import Verdict
    from siglip_study.ranking.procedure import Ranking

D = "grounding_margin"
_TRAINED = ("report", "control_blind", "control_noise", "control_permuted", "control_hot")


def sight(
    results: Path,
    ranking: Ranking,
    controls: list[dict[str, Any]],
    cells: list[CellResult],
) -> dict[str, Any]:
    """View of what stands between a score and sight.

    Args:
        results: output folder of the study.
        ranking: the ranking.
        controls: the ``controls`` table.
        cells: every cell of the study.
    """
    path = results / "tables" / "clips.parquet"
    facts = ("cell", "projector", "role", "seed", "id", "group", "category", "caption")
    keep = (*facts, D, WITHIN[0])
    roles = ("report", "references", "control_category")
    # Two trainings that report a half each have rows too, but are none of the cells.
    names = [cell.name for cell in cells if cell.role in roles]
    table = pl.scan_parquet(path).select(keep).filter(pl.col("cell").is_in(names)).collect()
    gates = {row["cell"]: row["gate"] for row in controls}
    return {
        **_negatives(cells, controls, table),
        "generic": _generic(cells, gates),
        "category": _category(cells, gates, table, ranking.alpha),
        "unseeing": _unseeing(results, cells),
        "truth_order": _truth_order(results, table, ranking),
    }


def _negatives(
    cells: list[CellResult], controls: list[dict[str, Any]], clips: pl.DataFrame
) -> dict[str, Any]:
    shown = [cell for cell in cells if cell.role not in ("tuning", "preset")]
    reasons = {cell.metrics["not_computed"].get(WITHIN[0]) for cell in shown} - {None}
    rows = []
    chance = None
    for found in by_cell(controls):
        first = found.get(WITHIN[0])
        if first is None or first["value"] is None:
            continue
        chance = chance or (found.get(WITHIN[2]) or {}).get("chance")
        published = first["role"] == "report"
        rows.append(
            {
                "label": first["projector"] if published else ROLES[first["role"]],
                "seed": first["seed"] if published else None,
                "figures": [
                    _figure(found.get(name), 4 if name == WITHIN[0] else 3) for name in WITHIN
                ],
            }
        )
    # Compared within a half, where there are two: the metric itself knows who has company there.
    human = clips.filter(pl.col("role") == "references")
    own = human.drop_nulls(WITHIN[0])
    kinds = own["category"].n_unique()
    word = "category" if kinds == 1 else "categories"
    note = f"{own.height} of {human.height} clips, in {kinds} {word} of 3 or more."
    why = "; ".join(sorted(str(reason) for reason in reasons))
    return {
        "negatives": rows,
        "negatives_chance": words.number(chance),
        "negatives_note": note if rows else f"Not computed: {why or 'no cell has these figures'}.",
    }


def _figure(row: dict[str, Any] | None, digits: int) -> dict[str, str]:
    found = row or {}
    return {
        "value": words.number(found.get("value"), digits),
        "interval": words.interval(found.get("low"), found.get("high"), 3),
    }


def _generic(cells: list[CellResult], gates: dict[str, Verdict | None]) -> str | None:
    """What the raw score makes of one caption for all, from this study's numbers."""
    generic, human = only(cells, "control_generic"), only(cells, "references")
    if generic is None:
        return None
    raw, margin = generic.value("siglip_cosine"), generic.value(D)
    trained = [c for c in cells if c.role in _TRAINED and c.value("siglip_cosine") is not None]
    below = [c for c in trained if (c.value("siglip_cosine") or 0.0) < (raw or 0.0)]
    sentence = (
        f"One caption for all clips, chosen on other clips, has a SigLIP cosine of "
        f"{words.number(raw)}"
    )
    if human is not None and human.value(D) is not None:
        # Mean D is the mean of the diagonal less the mean off it.
        other = (human.value("siglip_cosine") or 0.0) - (human.value(D) or 0.0)
        sentence += f" (a human caption of another clip: {words.number(other)})"
    sentence += f", above that of {len(below)} of {len(trained)} trained runs"
    names = sorted({c.projector or c.name if c.role == "report" else ROLES[c.role] for c in below})
    sentence += f" ({', '.join(names)})" if names else ""
    sentence += f"; its D is {words.number(margin, 4)}"
    return f"{sentence}, and the gate says: {wording.gate_name(gates.get(generic.name)).lower()}."


def _category(
    cells: list[CellResult], gates: dict[str, Verdict | None], clips: pl.DataFrame, alpha: float
) -> str | None:
    """What knowing the category alone is worth, and who is shown to see more."""
    found = only(cells, "control_category")
    if found is None:
        return None
    sentence = (
        f"One caption a category has D {words.number(found.value(D), 4)}, "
        f"of which {words.number(found.value(WITHIN[0]), 4)} within the category "
        f"(gate, taken as a projector: {wording.gate_name(gates.get(found.name)).lower()})."
    )
    bar = clips.filter(pl.col("role") == "control_category").sort("id")
    scores = _by_projector(clips)
    if not scores or not len(bar):
        return sentence
    from siglip_study.ranking.pairs import baseline_tests
    from siglip_study.ranking.scores import group_means

    level = group_means(bar[D].to_numpy(), bar["group"].to_list())[1]
    tests = baseline_tests(scores, level, alpha)
    above = [test.projector for test in tests if test.cleared]
    rest = [test.projector for test in tests if not test.cleared]
    sentence += f" Shown to exceed it: {', '.join(above) or 'no projector'}."
    return sentence + (f" Not shown to: {', '.join(rest)}." if rest else "")


def _by_projector(clips: pl.DataFrame, values: dict[str, Any] | None = None) -> dict[str, Any]:
    """Projector → ``[S, G]`` of D, or of ``values`` (cell → one a clip in the order of ids)."""
    import numpy as np

    from siglip_study.ranking.scores import group_means

    found: dict[str, list[np.ndarray]] = {}
    reports = clips.filter(pl.col("role") == "report").sort("projector", "seed", "id")
    for (label, _, cell), own in reports.group_by("projector", "seed", "cell", maintain_order=True):
        row = own[D].to_numpy() if values is None else values[str(cell)]
        found.setdefault(str(label), []).append(group_means(row, own["group"].to_list())[1])
    return {label: np.stack(rows) for label, rows in found.items()}


def _unseeing(results: Path, cells: list[CellResult]) -> list[dict[str, str]]:
    """What the first published run of each projector says of no video and of the mean video."""
    rows: dict[str, dict[str, str]] = {}
    for cell in (one for whole in cells for one in (whole, *whole.halves)):
        label = cell.projector or cell.name
        path = Paths(results).captions(cell.name)
        if cell.role != "report" or label in rows or not path.is_file():
            continue
        told = {
            record["condition"]: record["caption"]
            for record in read_json(path, "captions/1")["records"]
            if record["condition"] != "matched"
        }
        if told:
            rows[label] = {"projector": label, **{k: told.get(k, "") for k in ("blind", "mean")}}
    return list(rows.values())


def _truth_order(results: Path, clips: pl.DataFrame, ranking: Ranking) -> dict[str, Any] | None:
    """Whether D contradicts the facts, which only the demo knows."""
    path = Paths(results).demo / "facts.json"
    reports = clips.filter(pl.col("role") == "report").sort("id")
    if not path.is_file() or reports.is_empty() or not ranking.pairs:
        return None
    from siglip_study.ranking.orders import check_order, facts_score

    facts = read_json(path, "facts/1")
    scores = {
        str(cell): facts_score(own["caption"].to_list(), [facts[clip] for clip in own["id"]])
        for (cell,), own in reports.group_by("cell", maintain_order=True)
    }
    order = check_order(_by_projector(clips, scores), ranking.pairs, ranking.alpha)
    state = "bad" if order.contradict else "good" if order.told else "plain"
    return {"sentence": wording.truth_order(order), "state": state}
