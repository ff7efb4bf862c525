"""From a real-looking folder of each dataset to a manifest, by the recipe in the guide.

Folders are built after the published schemas; each recipe is the guide's, to the letter.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from PIL import Image
from support.clips import check_splits, write_video

from siglip_study.base.errors import StudyError
from siglip_study.config.study import DataConfig
from siglip_study.data.layouts import layout_names
from siglip_study.data.manifest import halve_split

GUIDE = (Path(__file__).parents[2] / "docs" / "add-a-dataset.md").read_text(encoding="utf-8")
RECIPES: dict[str, dict[str, Any]] = {
    recipe["layout"]: recipe
    for block in re.findall(r"```yaml\n(.*?)```", GUIDE, flags=re.DOTALL)
    if "layout" in (recipe := yaml.safe_load(block)["data"])
}


class Folder:
    """A dataset's folder to fill: every video is another one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._made = 0

    def video(self, *names: str) -> None:
        """Files of a second each, tiny, of the container that their suffix names."""
        for name in names:
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            shade = 20 * self._made
            pictures = [np.full((48, 64, 3), (shade + i) % 256, np.uint8) for i in range(10)]
            write_video(path, pictures, range(0, 600, 60))
            self._made += 1

    def picture(self, *names: str) -> None:
        for name in names:
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 30), (self._made * 9 % 256, 0, 0)).save(self.root / name)
            self._made += 1

    def text(self, name: str, content: Any) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shown = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        path.write_text(shown, encoding="utf-8")


def csv(folder: Folder) -> None:
    for split in ("train", "selection", "report"):
        folder.video(f"clips/{split}.mov")
        row = f'clips/{split}.mov,"A dog runs, then stops.",{split}-film,animals\n'
        folder.text(f"{split}.csv", f"path,caption,group,category\n{row}")


def pairs(folder: Folder) -> None:
    for name in ("train/0/a", "val/b", "val/c"):
        folder.video(f"{name}.mp4")
        folder.text(f"{name}.txt", "A dog runs.")
        folder.text(f"{name}.json", {"key": name, "status": "success", "category": "animals"})


def aihub(folder: Folder) -> None:
    for split, name in (("Training", "a"), ("Validation", "b"), ("Validation", "c")):
        folder.video(f"{split}/원천데이터/VS_생활/{name}.avi")
        label = {
            "info": {"source": f"tape-{name}", "fps": 30},
            "annotations": [{"attributes": [{"caption_ko": "개가 달린다.", "caption_en": "…"}]}],
        }
        folder.text(f"{split}/라벨링데이터/VL_생활/{name}.json", label)


def msrvtt(folder: Folder) -> None:
    def info(videos: list[tuple[int, str, str]]) -> dict[str, Any]:
        return {
            "info": {"contributor": "Microsoft", "year": "2016", "version": "1.0"},
            "videos": [
                {
                    **{"category": 9, "url": f"https://www.youtube.com/watch?v={url}", "id": n},
                    **{"video_id": f"video{n}", "start time": 137.72, "end time": 149.44},
                    "split": split,
                }
                for n, split, url in videos
            ],
            "sentences": [
                {"caption": text, "video_id": f"video{n}", "sen_id": n * 20 + i}
                for n, _, _ in videos
                for i, text in enumerate(["a car is shown", "a group is dancing"])
            ],
        }

    train_val = [(0, "train", "x"), (1, "train", "x"), (6513, "validate", "y")]
    folder.text("train_val_videodatainfo.json", info(train_val))
    folder.text("test_videodatainfo.json", info([(7010, "test", "z")]))
    folder.video(*(f"TrainValVideo/video{n}.mp4" for n in (0, 1, 6513)), "TestVideo/video7010.mp4")


def msvd(folder: Folder) -> None:
    names = {"train": "-4wsuPCjDBc_5_15", "val": "mv89psg6zh4_33_46", "test": "04Gt01vatkk_248_265"}
    described = "# Corpus of descriptions\n\n"
    for split, name in names.items():
        folder.video(f"YouTubeClips/{name}.avi")
        folder.text(f"{split}_list.txt", f"{name}\n")
        described += f"{name} a squirrel is eating\n{name} an animal eats a nut\n"
    folder.text("AllVideoDescriptions.txt", described)


def vatex(folder: Folder) -> None:
    splits = {
        "vatex_training_v1.0": ["Ptf_2VRj-V0_000122_000132"],
        "vatex_validation_v1.0": ["G9zN5TTuGO4_000179_000189", "MVrwqqHVCbY_000092_000102"],
    }
    for split, names in splits.items():
        captions = {"enCap": ["A man runs.", "He is running."], "chCap": ["一个人在跑。"]}
        folder.text(f"{split}.json", [{"videoID": name, **captions} for name in names])
        folder.video(*(f"videos/{name}.mp4" for name in names))


def activitynet(folder: Folder) -> None:
    splits = {"train": ["v_QOlSCBRmfWY"], "val_1": ["v_uqiMw7tQ1Cc", "v_bXdq2zI1Ms0"]}
    parts = {"timestamps": [[0.0, 0.4], [0.3, 1.05]], "sentences": ["A girl.", " She dances."]}
    for split, names in splits.items():
        folder.text(f"{split}.json", {name: {"duration": 1.0, **parts} for name in names})
        folder.video(*(f"videos/{name}.mkv" for name in names))


def webvid(folder: Folder) -> None:
    header = "videoid,contentUrl,duration,page_dir,name\n"
    for split, ids in {"results_2M_train": [21179416], "results_2M_val": [1034, 1035]}.items():
        rows = [
            f"{n},https://ak.picdn.net/{n}.mp4,PT00H00M11S,00{n}_000,Aerial shot of winter forest\n"
            for n in ids
        ]
        folder.text(f"{split}.csv", header + "".join(rows))
        folder.video(*(f"videos/00{n}_000/{n}.mp4" for n in ids))


def coco(folder: Folder) -> None:
    for split, ids in {"train2017": [9], "val2017": [139, 285]}.items():
        images = [{"license": 3, "file_name": f"{n:012}.jpg", "height": 30, "id": n} for n in ids]
        notes = [
            {"image_id": n, "id": n * 10 + i, "caption": text}
            for n in ids
            for i, text in enumerate(["A woman stands. ", "A room."])
        ]
        published = {"info": {}, "images": images, "licenses": [], "annotations": notes}
        folder.text(f"annotations/captions_{split}.json", published)
        folder.picture(*(f"{split}/{n:012}.jpg" for n in ids))


#: Layout → builder of its folder, and (split, id, references, group) of each clip.
SETS: dict[str, tuple[Callable[[Folder], None], list[tuple[str, str, int, str]]]] = {
    "csv": (
        csv,
        [(s, f"clips/{s}", 1, f"{s}-film") for s in ("train", "selection", "report")],
    ),
    "folder": (
        pairs,
        [("train", "a", 1, "a"), ("held_out", "b", 1, "b"), ("held_out", "c", 1, "c")],
    ),
    "aihub": (
        aihub,
        [
            ("train", "a", 1, "tape-a"),
            ("held_out", "b", 1, "tape-b"),
            ("held_out", "c", 1, "tape-c"),
        ],
    ),
    "msrvtt": (
        msrvtt,
        [
            ("train", "video0", 2, "https://www.youtube.com/watch?v=x"),
            ("train", "video1", 2, "https://www.youtube.com/watch?v=x"),
            ("selection", "video6513", 2, "https://www.youtube.com/watch?v=y"),
            ("report", "video7010", 2, "https://www.youtube.com/watch?v=z"),
        ],
    ),
    "msvd": (
        msvd,
        [
            ("train", "-4wsuPCjDBc_5_15", 2, "-4wsuPCjDBc"),
            ("selection", "mv89psg6zh4_33_46", 2, "mv89psg6zh4"),
            ("report", "04Gt01vatkk_248_265", 2, "04Gt01vatkk"),
        ],
    ),
    "vatex": (
        vatex,
        [
            ("train", "Ptf_2VRj-V0_000122_000132", 2, "Ptf_2VRj-V0"),
            ("held_out", "G9zN5TTuGO4_000179_000189", 2, "G9zN5TTuGO4"),
            ("held_out", "MVrwqqHVCbY_000092_000102", 2, "MVrwqqHVCbY"),
        ],
    ),
    "activitynet": (
        activitynet,
        [
            ("train", "v_QOlSCBRmfWY_0", 1, "v_QOlSCBRmfWY"),
            ("train", "v_QOlSCBRmfWY_1", 1, "v_QOlSCBRmfWY"),
            ("held_out", "v_bXdq2zI1Ms0_0", 1, "v_bXdq2zI1Ms0"),
            ("held_out", "v_bXdq2zI1Ms0_1", 1, "v_bXdq2zI1Ms0"),
            ("held_out", "v_uqiMw7tQ1Cc_0", 1, "v_uqiMw7tQ1Cc"),
            ("held_out", "v_uqiMw7tQ1Cc_1", 1, "v_uqiMw7tQ1Cc"),
        ],
    ),
    "webvid": (
        webvid,
        [
            ("train", "21179416", 1, "21179416"),
            ("held_out", "1034", 1, "1034"),
            ("held_out", "1035", 1, "1035"),
        ],
    ),
    "coco": (
        coco,
        [("train", "9", 2, "9"), ("held_out", "139", 2, "139"), ("held_out", "285", 2, "285")],
    ),
}


@pytest.fixture
def manifest_of(tmp_path):
    """Layout → (manifest, rejected) of its folder, read by the guide's recipe and other keys."""

    def made(layout: str, **keys: Any) -> tuple[pl.DataFrame, pl.DataFrame]:
        SETS[layout][0](Folder(tmp_path))
        recipe = {**RECIPES[layout], "root": str(tmp_path), "min_duration_s": 0.3, "workers": 1}
        return check_splits(tmp_path, DataConfig.model_validate({**recipe, **keys}), (4,))

    return made


@pytest.mark.parametrize("layout", SETS)
def test_the_recipe_reads_the_published_folder(manifest_of, layout):
    manifest, rejected = manifest_of(layout)
    assert rejected.is_empty()
    rows = zip(
        *(manifest[name] for name in ("split", "id")),
        manifest["captions"].list.len(),
        manifest["group"],
        strict=True,
    )
    assert list(rows) == SETS[layout][1]
    if "held_out" in manifest["split"]:
        assert set(halve_split(manifest)["split"]) == {"train", "selection", "report"}


@pytest.mark.parametrize("layout", RECIPES)
def test_a_recipe_has_at_most_ten_lines_and_a_folder_that_tries_it(layout):
    (block,) = [
        block
        for block in re.findall(r"```yaml\n(.*?)```", GUIDE, flags=re.DOTALL)
        if f"layout: {layout}" in block
    ]
    assert len(block.splitlines()) <= 10 and layout in SETS


def test_the_guide_names_every_layout():
    assert [name for name in layout_names() if f"`{name}`" not in GUIDE] == []


def test_segments_of_a_video_are_clips_within_its_length(manifest_of):
    manifest, _ = manifest_of("activitynet")
    first = manifest.filter(split="train")
    assert first["path"].n_unique() == 1
    assert list(zip(first["start_s"], first["end_s"], strict=True)) == [(0.0, 0.4), (0.3, 1.05)]
    assert first["duration_s"].to_list() == pytest.approx([0.4, 0.7], abs=0.1)


def test_a_segment_that_is_none_is_rejected_by_name(tmp_path):
    folder = Folder(tmp_path)
    activitynet(folder)
    times = {"timestamps": [[0.9, 0.2], [5.0, 6.0], [0.0, 0.5]], "sentences": ["a.", "b."]}
    folder.text("train.json", {"v_QOlSCBRmfWY": {"duration": 1.0, **times}, **one_more(folder)})
    recipe = {**RECIPES["activitynet"], "min_duration_s": 0.3, "workers": 1}
    data = DataConfig.model_validate(recipe)
    _, rejected = check_splits(tmp_path, data, (4,))
    assert {clip: reason.split(":")[0] for clip, _, reason in rejected.iter_rows()} == {
        "v_QOlSCBRmfWY_0": "broken label",
        "v_QOlSCBRmfWY_1": "outside",
        "v_QOlSCBRmfWY_2": "no caption",
    }


def one_more(folder: Folder) -> dict[str, Any]:
    folder.video("videos/v_good.mp4")
    return {"v_good": {"duration": 1.0, "timestamps": [[0, 1]], "sentences": ["c."]}}


def test_the_chinese_captions_of_vatex_are_a_key_away(manifest_of):
    manifest, _ = manifest_of("vatex", caption_key="chCap", language="other")
    assert manifest["captions"].to_list() == [["一个人在跑。"]] * 3


def test_a_picture_is_a_clip_of_one_frame(manifest_of):
    manifest, _ = manifest_of("coco")
    row = manifest.row(0, named=True)
    assert (row["n_frames"], row["width"], row["height"]) == (1, 40, 30)


@pytest.mark.parametrize("layout", ["msrvtt", "msvd", "vatex", "activitynet", "webvid", "coco"])
def test_another_schema_is_one_sentence(tmp_path, layout):
    recipe = RECIPES[layout]
    for split in recipe["splits"].values():
        folder = Folder(tmp_path)
        for name in (f"{split}.json", f"annotations/captions_{split}.json", f"{split}.csv"):
            folder.text(name, '{"a": 1}' if name.endswith("json") else "a,b\n1,2\n")
        folder.text("train_videodatainfo.json", {"a": 1})
        folder.text(f"{split}.txt", "clip\n")
    with pytest.raises(StudyError) as raised:
        check_splits(tmp_path, DataConfig.model_validate(recipe), (4,))
    assert "\n" not in str(raised.value)
