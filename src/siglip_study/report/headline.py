"""The first screen: one sentence, the ranking table, the figures to read it by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from siglip_study.report import wording, words
from siglip_study.report.glossary import metric_heading
from siglip_study.report.results import CellResult, only

if TYPE_CHECKING:
    from siglip_study.ranking.gate import GateVerdict
    from siglip_study.ranking.procedure import Ranking

_CLEARS = {
    True: "Clears the retrieval baseline.",
    False: "Does not clear the retrieval baseline.",
    None: "",
}


def headline(
    rows: list[dict[str, Any]], ranking: Ranking, cells: list[CellResult]
) -> dict[str, Any]:
    """View of the headline section: ``verdict``, ``tiles``, ``columns``, ``rows``, ``bars``.

    Args:
        rows: the ``ranking`` table.
        ranking: the ranking.
        cells: every cell of the study.
    """
    references = only(cells, "references")
    retrieval = only(cells, "control_retrieval")
    gates = {own.projector: own.gate for own in ranking.projectors}
    return {
        "verdict": wording.answer(ranking),
        "can_rank": ranking.can_rank,
        "basis": ", ".join(sorted({r["interval_basis"] for r in rows if r["interval_basis"]})),
        "why_not": wording.sentence(wording.why_no_ranks(ranking)),
        "tiles": _tiles(rows, ranking, cells),
        "columns": _columns(references, cells),
        "rows": [_row(row, ranking, gates[row["projector"]]) for row in rows],
        "bars": [
            _bar("Human references", references),
            _bar("Retrieval baseline", retrieval),
        ],
        "references_margin": references.value("grounding_margin") if references else None,
        "retrieval_margin": retrieval.value("grounding_margin") if retrieval else None,
    }


def _tiles(
    rows: list[dict[str, Any]], ranking: Ranking, cells: list[CellResult]
) -> list[dict[str, str]]:
    reports = [c for c in cells if c.role == "report"]
    clips = max((c.metrics.get("n_clips") or 0 for c in reports), default=0)
    tuning = sum(c.role == "tuning" for c in cells)
    among = {row["projector"] for row in rows if row["ranked"]}
    pairs = [p for p in ranking.pairs if {p.a, p.b} <= among] or ranking.pairs
    detectable = [d for p in pairs if (d := p.smallest_detectable) is not None]
    return [
        {
            "label": "Projectors",
            "value": str(len(rows)),
            "note": f"{sum(r['ranked'] for r in rows)} ranked",
        },
        {
            "label": "Report clips",
            "value": str(clips),
            "note": f"in {ranking.n_groups} independent groups",
        },
        {
            "label": "Report seeds",
            "value": str(ranking.n_seeds),
            "note": f"fresh ones, after {tuning} tuning runs",
        },
        {
            "label": "Smallest detectable difference",
            "value": words.number(max(detectable, default=None), 4),
            "note": "in D with 80 % power, of the pair that is hardest to tell",
        },
    ]


def _columns(references: CellResult | None, cells: list[CellResult]) -> list[dict[str, Any]]:
    def figure(label: str, metric: str, digits: int = 3) -> dict[str, Any]:
        human = references.value(metric) if references else None
        return {
            "label": label,
            **metric_heading(metric, cells),
            "human": "human: not defined"
            if human is None
            else f"human {words.number(human, digits)}",
            "numeric": True,
        }

    def plain(label: str, note: str = "", numeric: bool = True) -> dict[str, Any]:
        return {"label": label, "note": note, "tokens": "", "human": None, "numeric": numeric}

    return [
        plain("Projector", numeric=False),
        plain("Rank", "interval", numeric=False),
        figure("Grounding D", "grounding_margin", 4),
        figure("SigLIP cosine", "siglip_cosine"),
        figure("METEOR gain", "meteor_gain"),
        figure("Effective captions", "effective_captions", 2),
        plain("Gate verdict", "and why", numeric=False),
        plain("Size", "tokens, parameters"),
        plain("Budget", "stage 1 + 2"),
        plain("Cost", "a run, both stages"),
    ]


def _row(row: dict[str, Any], ranking: Ranking, gate: GateVerdict) -> dict[str, Any]:
    return {
        "projector": row["projector"],
        "ranked": row["ranked"],
        "rank": words.rank_interval(
            row["rank_low"], row["rank_high"], row["ranked"], ranking.can_rank
        ),
        "margin": words.number(row["grounding_margin"], 4),
        "interval": words.interval(row["grounding_margin_low"], row["grounding_margin_high"], 4),
        "siglip": words.number(row["siglip_cosine"]),
        "meteor": words.number(row["meteor_gain"]),
        "effective": words.number(row["effective_captions"], 2),
        "gate": row["gate"],
        "gate_label": wording.gate_name(gate.verdict),
        "reason": row["gate_reason"],
        "stamps": wording.stamps(gate, on_page=True),
        "clears": _CLEARS[row["clears_retrieval"]],
        "tokens": words.count(row["tokens_per_video"]),
        "parameters": words.count(row["projector_parameters"]),
        "of_human": _share(row) if ranking.scorer and ranking.scorer.human_scale else "",
        "steps": _sum(row, "optimizer_steps"),
        "samples": _sum(row, "samples_seen"),
        "gpu": f"{_total(row, 'gpu_s'):,.0f}",
        "wall": words.duration(_total(row, "wall_s")),
    }


def _share(row: dict[str, Any]) -> str:
    reference = row["reference_grounding_margin"]
    return f"{100 * row['grounding_margin'] / reference:.0f} % of human" if reference else ""


def _sum(row: dict[str, Any], key: str) -> str:
    return f"{words.count(row[f'stage1_{key}'])} + {words.count(row[key])}"


def _total(row: dict[str, Any], key: str) -> float:
    return float((row[f"stage1_{key}"] or 0.0) + (row[key] or 0.0))


def _bar(label: str, cell: CellResult | None) -> dict[str, str]:
    def show(metric: str, digits: int = 3) -> str:
        return words.number(cell.value(metric) if cell else None, digits)

    low, high = (cell.value("grounding_margin", p) if cell else None for p in ("low", "high"))
    return {
        "label": label,
        "margin": show("grounding_margin", 4),
        "interval": words.interval(low, high, 4),
        "siglip": show("siglip_cosine"),
        "meteor": show("meteor_gain"),
        "effective": show("effective_captions", 2),
    }
