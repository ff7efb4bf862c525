"""The tuning grid of the page where a cell of the category alone was passed over."""

from __future__ import annotations

from support.made_study import HOSTILE

from siglip_study.base.io import read_json, write_json
from siglip_study.study.grid import SELECTION_SCHEMA


def section(page: str) -> str:
    return page.split('<section id="tuning">')[1].split("</section>")[0]


def test_who_was_passed_over_stands_there_with_the_reason(study) -> None:
    path = study.root / "tables/selection.json"
    kept = path.read_bytes()
    told = read_json(path, SELECTION_SCHEMA)
    row = told["projectors"]["linear"]
    loud = next(cell for cell in row["cells"] if cell["cell"] != row["chosen"])
    loud |= {"gate": "category_only", "gate_reason": f"Category only: {HOSTILE}"}
    row |= {"n_category_only": 1, "passed_over": [loud["cell"]]}
    before = section(study.report())
    try:
        write_json(path, told, SELECTION_SCHEMA)
        after = section(study.report())
    finally:
        path.write_bytes(kept)
        study.report()
    assert "0 of 4 cells collapsed, 1 category only" in after
    assert f"{loud['cell']} was passed over. Category only: " in after and HOSTILE not in after
    assert after.count("struck") == before.count("struck") + 1
    assert "passed over. " not in before and "category only</small>" not in before
