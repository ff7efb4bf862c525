"""The tuning grid of the page where a cell of the category alone was passed over."""

from __future__ import annotations

from dataclasses import replace

from support.made_study.ranking import verdict

from siglip_study.ranking.selection import StudySelection, read_selection, write_selection


def section(page: str) -> str:
    return page.split('<section id="tuning">')[1].split("</section>")[0]


def test_who_was_passed_over_stands_there_with_the_reason(study) -> None:
    path = study.root / "tables/selection.json"
    kept = path.read_bytes()
    told = dict(read_selection(path).projectors)
    own = told["linear"]
    loud, *others = own.cells
    refused = replace(verdict("linear"), verdict="category_only")
    loud = replace(loud, gate="category_only", verdict=refused)
    told["linear"] = replace(
        own, n_category_only=1, passed_over=(loud.cell,), cells=(loud, *others)
    )
    before = section(study.report())
    try:
        write_selection(path, StudySelection(told))
        after = section(study.report())
    finally:
        path.write_bytes(kept)
        study.report()
    assert "0 of 4 cells collapsed, 1 category only" in after
    assert f"{loud.cell} was passed over. Category only: " in after
    assert after.count("struck") == before.count("struck") + 1
    assert "passed over. " not in before
    assert "category only</small>" not in before
