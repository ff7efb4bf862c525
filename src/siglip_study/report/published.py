"""The published study's figures as reference rows: never re-measured, never ranked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from siglip_study.base.errors import StudyError
from siglip_study.report import wording, words
from siglip_study.report.results import mean

#: Our figures that stand under the published ones, by recipe: cells column → digits.
BESIDE: dict[str, int] = {"siglip_published": 4, "distinct_ratio": 2, "meteor_words": 4}


def published_view(
    path: Path | None, cells: list[dict[str, Any]], gate: Mapping[str, Any] | None = None
) -> dict[str, Any] | None:
    """Published runs, and below them this study's figures by the same recipes; None without a file.

    Args:
        path: JSON of the published runs.
        cells: the ``cells`` table.
        gate: thresholds of the gate, as in the config.

    Raises:
        StudyError: the file is there and is not the JSON that is expected.
    """
    if path is None or not path.is_file():
        return None
    try:
        runs = json.loads(path.read_text(encoding="utf-8"))["runs"]
        rows = [_published(run, gate or {}) for run in runs]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise StudyError(f"{path}: expected published runs under 'runs' ({error!r}).") from None
    return {"rows": rows, "own": _own(cells)}


def _published(run: dict[str, Any], gate: Mapping[str, Any]) -> dict[str, Any]:
    from siglip_study.ranking.gate import GateThresholds, gate_by_diversity_alone

    final = run.get("final") or {}
    siglip = final.get("siglip", (run["stage2"].get("siglip") or [None])[-1])
    diversity = final.get("diversity", (run["stage2"].get("diversity") or [None])[-1])
    verdict = None
    if diversity is not None:
        verdict = gate_by_diversity_alone(diversity, thresholds=GateThresholds(**gate))
    return {
        "id": run["id"],
        "projector": run["projector"],
        "named": run.get("name_in_report") or run["projector"],
        "parameters": words.count(run["projector_params"]),
        "claimed": run.get("params_in_report") or "–",
        "siglip": words.number(siglip, 4),
        "diversity": words.number(diversity, 2),
        "meteor": words.number(final.get("meteor"), 4),
        "wall": final.get("wall") or "–",
        "verdict": verdict.verdict if verdict else "plain",
        "label": wording.say(f"published.{verdict.verdict if verdict else 'undetermined'}"),
        "reason": wording.published_reason(verdict)
        if verdict
        else wording.say("published.no_diversity"),
        "finished": "" if run["stage2"].get("finished") else "stopped before its last epoch",
    }


def _own(cells: list[dict[str, Any]]) -> list[dict[str, str]]:
    """The human captions, and each projector's mean over its report seeds."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for cell in cells:
        if cell["role"] == "references":
            groups.setdefault("Human references", []).append(cell)
        elif cell["role"] == "report":
            groups.setdefault(str(cell["projector"]), []).append(cell)
    return [
        {
            "label": label,
            **{
                name: words.number(mean([row[name] for row in rows]), digits)
                for name, digits in BESIDE.items()
            },
        }
        for label, rows in groups.items()
    ]
