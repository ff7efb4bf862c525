"""Every sampled frame is the one asked for, upright, in its colours; or the file is refused."""

from pathlib import Path

import pytest

from siglip_study.base.errors import ClipError
from siglip_study.data import sample_frames
from siglip_study.data.clips import ClipFile
from tools.pages import with_tables
from tools.video_formats import COUNTS, Outcome, asked_for, faults, outcome, table
from tools.video_kinds import KINDS, Kind, picture, read_picture

PAGE = Path(__file__).parents[2] / "docs" / "video-formats.md"
by_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Each kind, encoded once."""
    folder = tmp_path_factory.mktemp("kinds")
    return {kind.name: kind.write(folder) for kind in KINDS}


@pytest.fixture(scope="module")
def outcomes(files):
    """What vetting says of each."""
    return {name: outcome(path) for name, path in files.items()}


@by_kind
def test_frames_are_right_or_the_file_is_refused(kind: Kind, files, outcomes: dict[str, Outcome]):
    found, path = outcomes[kind.name], files[kind.name]
    if kind.reason:
        assert kind.reason in found.reason
        return
    assert not found.reason
    for reading in {found.pyav, found.decord, "whole", None}:
        for n in COUNTS:
            assert faults(kind, ClipFile(path, reading=reading), n) == [], (reading, n)


@by_kind
def test_without_a_manifest_the_same_frames_are_read(kind: Kind, files):
    for decoder in ("pyav", "decord"):
        if kind.reason:
            with pytest.raises(ClipError, match=kind.reason):
                sample_frames(files[kind.name], 4, decoder)
        else:
            numbers = [read_picture(f).number for f in sample_frames(files[kind.name], 4, decoder)]
            assert numbers == asked_for(kind, 4)


def test_the_page_says_what_happens(outcomes):
    text = PAGE.read_text(encoding="utf-8")
    assert text == with_tables(PAGE, {"formats": table(outcomes)}), (
        f"run python -m tools.video_formats {PAGE}"
    )
    assert len(KINDS) >= 60


def test_a_picture_says_its_number_and_which_way_is_up():
    shown = picture(0b101101, 128, 96)
    assert read_picture(shown).number == 0b101101
    assert read_picture(shown).colour_error < 1
    for wrong in (shown[::-1], shown[:, ::-1], shown[..., ::-1], shown.swapaxes(0, 1)):
        assert read_picture(wrong).colour_error > 100
