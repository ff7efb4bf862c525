"""The clips: which are shown, what is marked of a caption, and how much fits into the page."""

import gzip
import io
import json
from base64 import b64decode
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from support.clips import manifest_rows, write_video

from siglip_study.report import words
from siglip_study.report.gallery import (
    AT_ONCE,
    GallerySettings,
    Voice,
    compressed,
    gallery_order,
    gallery_voices,
    make_gallery,
    within_budget,
)
from siglip_study.report.gallery_view import choices
from siglip_study.report.pictures import SHEET_BYTES, Grid, clip_pictures, contact_sheet, sheet_grid

STILL = {
    "thing": "ball", "colour": "red", "size": "small", "count": "1",
    "motion": "still", "place": "sea", "weather": "rain", "camera": "static",
}  # fmt: skip
MOVING = {**STILL, "motion": "left"}
SAYS_STILL = "비 오는 바다에 작은 빨간 공 한 개가 가만히 있다. 화면은 고정되어 있다."
SAYS_LEFT = "비 오는 바다에서 작은 빨간 공 한 개가 왼쪽으로 움직인다. 화면은 고정되어 있다."


def row(cell, clip, caption="말", margin=0.1, truncated=False):
    kept = {"caption": caption, "standardised_margin": margin, "truncated": truncated}
    return {"cell": cell, "id": clip, **kept}


def projector(name, *cells):
    return Voice(name, "projector", cells, tuple(range(1, 1 + len(cells))))


def gallery(rows, *voices, facts=None, manifest=()):
    return make_gallery(manifest, rows, voices or (projector("linear", "a"),), facts or {}, 8)


def many(n, caption="말", cells="a"):
    """``n`` clips, each captioned by every one of ``cells`` as a seed of one projector."""
    rows = [row(cell, f"c{i}", caption) for i in range(n) for cell in cells]
    return gallery(rows, projector("linear", *cells))


# ---- Which clips, and whose captions.


def test_gallery_order_is_not_the_order_of_entry():
    ids = [f"clip_{i}" for i in range(50)]
    assert gallery_order(ids) == gallery_order(ids[::-1]) != ids


def test_three_clips_come_first_and_by_no_score():
    rows = [row("a", f"c{i}", margin=i) for i in range(9)]
    turned = [{**own, "standardised_margin": -own["standardised_margin"]} for own in rows]
    first = [clip.id for clip in gallery(rows).first]
    assert first == [clip.id for clip in gallery(turned).first] == gallery_order(first)
    assert len(first) == AT_ONCE


def test_projectors_speak_in_the_order_given_each_with_its_seeds_and_baselines_last():
    def cell(name, role, label=None, seed=None):
        return {"cell": name, "role": role, "projector": label, "seed": seed}

    cells = [
        cell("hot.b", "control_hot", "hot.b", 1),
        cell("a2", "report", "a", 2),
        cell("a1", "report", "a", 1),
        cell("b1", "report", "b", 1),
        cell("retrieval", "control_retrieval"),
        cell("a_tuned", "tuning", "a", 0),
    ]
    voices = gallery_voices(cells, ["b", "a"])
    assert [(v.name, v.kind, v.cells) for v in voices] == [
        ("b", "projector", ("b1",)),
        ("a", "projector", ("a1", "a2")),
        ("retrieval", "retrieval", ("retrieval",)),
        ("hot.b", "hot", ("hot.b",)),
    ]
    assert voices[1].seeds == (1, 2)


def test_a_clip_that_a_cell_lacks_is_shown_as_absent():
    (clip,) = gallery([row("a", "c")], projector("linear", "a"), projector("mlp", "b")).clips
    assert clip.said[0][0] is not None and clip.said[1] == (None,)


def test_a_clip_has_what_the_manifest_and_people_say_of_it():
    manifest = [{"id": "c", "group": "g", "category": "k", "duration_s": 2.0, "captions": ["사람"]}]
    (clip,) = gallery([row("a", "c"), row("references", "c", "사람", 0.5)], manifest=manifest).clips
    assert (clip.group, clip.category, clip.seconds) == ("g", "k", 2.0)
    assert (clip.references, clip.human_margin) == (("사람",), 0.5)


# ---- What is marked of a caption.


def test_a_caption_that_another_clip_has_too_is_marked():
    made = gallery(
        [row("a", "c1", "같은 말"), row("a", "c2", "같은 말"), row("a", "c3", "다른 말")]
    )
    said = {clip.id: clip.said[0][0] for clip in made.clips}
    assert [said[c].repeated for c in ("c1", "c2", "c3")] == [True, True, False]


def test_facts_are_right_wrong_or_unsaid():
    (clip,) = gallery(
        [row("a", "c", "비 오는 바다에 공이 가만히 있다.")], facts={"c": MOVING}
    ).clips
    said = clip.said[0][0]
    assert {fact.attribute: fact.said for fact in said.wrong} == {
        "colour": None, "size": None, "count": None, "motion": "still", "camera": None,
    }  # fmt: skip
    assert [fact.right for fact in said.facts].count(True) == 3


@pytest.mark.parametrize(("margin", "misleading"), [(0.9, True), (0.1, False)])
def test_the_caption_that_the_score_prefers_against_the_facts_is_marked(margin, misleading):
    rows = [row("a", "c", SAYS_LEFT, 0.5), row("b", "c", SAYS_STILL, margin)]
    made = gallery(rows, projector("x", "a"), projector("y", "b"), facts={"c": MOVING})
    right, wrong = (own[0] for own in made.clips[0].said)
    assert wrong.misleading is misleading and not right.misleading
    assert [fact.attribute for fact in wrong.wrong] == ["motion"] and right.wrong == ()


def test_where_facts_are_unknown_nothing_is_said_of_them():
    made = many(3)
    assert made.attributes == {} and choices(made)["fact"] == []
    assert "misled" not in dict(choices(made)["sort"])
    assert "misled" in dict(choices(gallery([row("a", "c")], facts={"c": STILL}))["sort"])


# ---- As the script reads it.


def test_packed_text_comes_back_whatever_is_in_it():
    hostile = "</script>\u2028\x00\ud800&"
    made = gallery([row("a", "c", hostile, None, truncated=True)], facts={"c": STILL})
    packed = compressed(made.text)
    assert set(packed) <= set(map(chr, range(128))) - set("<>&")
    told = json.loads(gzip.decompress(b64decode(packed)))
    *_, truth, said = told["clips"][0]
    assert truth == "10000010" and said == [[[hostile, None, 1, "--------"]]]
    assert packed == compressed(made.text)


def test_text_of_the_data_is_shown_without_what_a_page_cannot_hold():
    assert words.visible("a\x00b\ud800\tc\n") == "a\ufffdb\ufffd\tc\n"


# ---- Within the page's bytes.


def fitted(made, **budgets):
    return within_budget(made, replace(GallerySettings(), **budgets))


def test_one_long_caption_leaves_room_for_all_other_clips():
    rows = [row("a", f"c{i}") for i in range(20)]
    rows[gallery_order([own["id"] for own in rows]).index("c0")]["caption"] = "아" * 3_000
    assert len(fitted(gallery(rows), text_bytes=2_000).clips) == 20


def test_text_beyond_its_budget_gives_up_seeds_before_clips():
    rng = np.random.default_rng(0)
    captions = [bytes(rng.integers(97, 123, 80, dtype=np.uint8)).decode() for _ in range(240)]
    rows = [row("abc"[i % 3], f"c{i // 3}", text) for i, text in enumerate(captions)]
    made = gallery(rows, projector("linear", *"abc"))
    whole = len(compressed(made.text))
    one = fitted(made, text_bytes=whole // 2)
    assert (len(one.clips), one.seeds) == (80, 1)
    few = fitted(made, text_bytes=whole // 10)
    assert 0 < len(few.clips) < 80 and few.total == 80
    assert few.clips == one.clips[: len(few.clips)]
    assert len(compressed(few.text)) <= whole // 10
    assert fitted(made, text_bytes=0).clips == ()


def test_pictures_beyond_their_budget_are_left_out_from_the_end():
    made = many(10)
    made = replace(made, clips=tuple(replace(clip, picture=b"x" * 300) for clip in made.clips))
    kept = fitted(made, picture_bytes=1000)
    assert [clip.picture is not None for clip in kept.clips] == [True] * 2 + [False] * 8
    assert kept.pictured == 2 and len(kept.clips) == 10


# ---- Pictures.


@pytest.mark.parametrize(
    ("frames", "grid"), [(1, Grid(1, 1)), (4, Grid(4, 1)), (5, Grid(4, 2)), (8, Grid(4, 2))]
)
def test_frames_lie_in_rows_of_four(frames, grid):
    assert sheet_grid(frames) == grid


@pytest.fixture
def video(tmp_path):
    """One clip of a second that is red, then blue, below a folder with a Korean name."""
    pictures = np.zeros((20, 240, 320, 3), np.uint8)
    pictures[:10, ..., 0] = pictures[10:, ..., 2] = 220
    manifest_rows(["영상/clip.mp4"], ["한 클립"]).write_parquet(tmp_path / "manifest.parquet")
    return write_video(tmp_path / "영상" / "clip.mp4", pictures, range(0, 600, 30))


@pytest.mark.usefixtures("video")
def test_a_sheet_has_its_frames_in_order_of_time(tmp_path):
    taken = clip_pictures(tmp_path / "manifest.parquet", tmp_path, 8)
    image = Image.open(io.BytesIO(taken("한 클립")))
    assert image.format == "WEBP" and image.size == (4 * 128, 2 * 96)
    pixels = image.convert("RGB")
    first, last = pixels.getpixel((64, 48)), pixels.getpixel((3 * 128 + 64, 96 + 48))
    assert first[0] > 150 > 60 > first[2] and last[2] > 150 > 60 > last[0]
    with pytest.raises(KeyError):  # the manifest alone says which clips there are
        taken("../영상/clip.mp4")


def test_small_frames_are_not_enlarged():
    sheet = contact_sheet(np.zeros((2, 4, 4, 3), np.uint8))
    assert Image.open(io.BytesIO(sheet)).size == (8, 4)


def test_a_sheet_keeps_to_its_bytes_whatever_it_shows():
    noise = np.random.default_rng(0).integers(0, 256, (8, 180, 320, 3), dtype=np.uint8)
    assert len(contact_sheet(noise)) <= SHEET_BYTES
    small = contact_sheet(noise, max_bytes=2_000)
    assert len(small) <= 2_000
    assert Image.open(io.BytesIO(small)).width < 4 * 128


def test_no_video_is_opened_before_a_picture_is_asked_for(video, tmp_path):
    video.unlink()
    clip_pictures(tmp_path / "manifest.parquet", tmp_path, 2)
