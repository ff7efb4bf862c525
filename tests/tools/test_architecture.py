"""The house as drawn: floors, the page about them, and nothing in it that nobody reaches."""

import ast
from collections import defaultdict

from tools import architecture
from tools.pages import with_tables
from tools.reach import ROOT, SOURCE, unreached

#: Files that are found by their names: projectors, metrics and dataset layouts.
FOUND_BY_FILE = ("projectors", "metrics", "data.layouts")


def test_every_room_is_drawn_and_little_lies_beside_them():
    found = {p.name for p in (SOURCE / "siglip_study").iterdir() if (p / "__init__.py").exists()}
    assert found == set(architecture.ROOMS)
    assert len(list((SOURCE / "siglip_study").glob("*.py"))) <= 3


def test_imports_go_only_downwards():
    floors = list(architecture.ROOMS)
    upward = {
        pair: files
        for pair, files in architecture.arrows().items()
        if floors.index(pair[1]) > floors.index(pair[0])
    }
    assert upward == {}


def test_the_page_and_its_picture_show_today_s_rooms():
    page = ROOT / "docs" / "architecture.md"
    assert with_tables(page, {"floors": architecture.table()}) == page.read_text(encoding="utf-8")
    picture = (ROOT / "docs" / "architecture.svg").read_text(encoding="utf-8")
    assert picture == architecture.picture(), "run python -m tools.architecture docs"


def test_everything_is_reached_from_the_workflow_a_command_or_the_public_api():
    assert unreached(FOUND_BY_FILE) == []


def definitions():
    """(public or private name, file) of every function and class of the library's top level."""
    for path in sorted((SOURCE / "siglip_study").rglob("*.py")):
        for statement in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(statement, ast.FunctionDef | ast.ClassDef):
                yield statement.name, str(path.relative_to(SOURCE))


def test_no_public_name_stands_for_two_things():
    homes = defaultdict(list)
    for name, path in definitions():
        # A command's entry and a layout's reader are found by their file, not by their name.
        if not name.startswith("_") and name not in ("main", "read"):
            homes[name].append(path)
    assert {name: files for name, files in homes.items() if len(files) > 1} == {}


def test_private_members_stay_in_their_module():
    taken = [
        f"{path.relative_to(SOURCE)} imports {alias.name}"
        for path in (SOURCE / "siglip_study").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("siglip_study")
        for alias in node.names
        if alias.name.startswith("_")
    ]
    assert taken == []
