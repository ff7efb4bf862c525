"""The tables of supported models are what the code says."""

import re
from pathlib import Path

import pytest

from siglip_study.base.errors import StudyError
from siglip_study.models.families import (
    LLM_FAMILIES,
    MULTIMODAL,
    REFUSED_LLMS,
    REFUSED_VISION,
    VISION_FAMILIES,
)
from siglip_study.projectors import projector_names
from tools.model_docs import encoders, language_models, tables
from tools.pages import with_tables

PAGE = Path(__file__).parents[2] / "docs" / "models.md"


def test_the_page_is_up_to_date():
    found = PAGE.read_text(encoding="utf-8")
    assert found == with_tables(PAGE, tables()), "run python -m tools.model_docs docs/models.md"


@pytest.mark.parametrize(
    ("table", "known", "refused"),
    [
        (encoders, VISION_FAMILIES, REFUSED_VISION),
        (language_models, [*LLM_FAMILIES, *MULTIMODAL], REFUSED_LLMS),
    ],
)
def test_every_type_stands_once_under_what_becomes_of_it(table, known, refused):
    rows = [line.split(" | ") for line in table().splitlines()[2:]]
    for answer, kinds in (("yes", known), ("no", refused)):
        named = [n for row in rows if row[1] == answer for n in re.findall(r"`(.+?)`", row[0])]
        assert sorted(named) == sorted(kinds)


def test_the_readme_counts_the_projectors():
    names = set(projector_names()) - {"constant_prefix"}  # the control that is trained blind
    assert len(names) == 15
    assert "[fifteen projectors]" in (PAGE.parents[1] / "README.md").read_text(encoding="utf-8")


def test_a_page_without_markers_is_named(tmp_path):
    (tmp_path / "page.md").write_text("# Models\n")
    with pytest.raises(
        StudyError, match=r"page\.md: 0 lines '<!-- encoders: begin -->'; expected one"
    ):
        with_tables(tmp_path / "page.md", tables())
