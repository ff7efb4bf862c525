"""A study small enough to be timed on one core, between models that a test may spoil."""

import json
import shutil
from pathlib import Path

import pytest
from support.clips import write_clip

RESOURCES = Path(__file__).parents[2] / "resources" / "demo"


@pytest.fixture
def models(tmp_path):
    """Copies of the demo's models, to be damaged."""
    for name in ("vision", "llm", "scorer"):
        shutil.copytree(RESOURCES / name, tmp_path / "models" / name)
    return tmp_path / "models"


@pytest.fixture
def study(tmp_path, models):
    """Builder of a config of the demo's kind; keywords replace top-level keys."""
    from siglip_study.config import parse

    def build(**changes):
        raw = {
            "output_dir": str(tmp_path / "results"),
            "demo": {"train": 20, "selection": 6, "report": 6},
            "vision": {"model": str(models / "vision"), "frames": 2},
            "llm": {
                "model": str(models / "llm"),
                "quantization": "none",
                "lora": {"r": 2, "targets": ["q_proj"]},
            },
            "scorer": {"model": str(models / "scorer"), "frames": 2},
            "projectors": {
                "linear": {},
                "query_abstractor": {"options": {"queries": 4, "heads": 4}},
            },
            "training": {"max_target_tokens": 24, "quick_clips": 3, "quick_tokens": 4},
            "stage1": {"epochs": 2, "batch_size": 2, "gradient_accumulation": 2},
            "stage2": {"batch_size": 2, "gradient_accumulation": 2},
            "grid": {"learning_rate": [1e-3, 2e-3], "epochs": [1, 3]},
            "captions": {"max_new_tokens": 24},
            "runtime": {"device": "cpu", "encode_batch_clips": 2, "eval_batch_clips": 4},
        }
        return parse(raw | changes)

    return build


@pytest.fixture
def dataset(tmp_path):
    """Builder of an AI-Hub folder; clips are copies of one real clip, or text."""

    def build(clips=3, video=b"no video", splits=("train", "selection", "report")):
        root = tmp_path / "clips"
        for split in splits:
            (root / split / "videos").mkdir(parents=True)
            (root / split / "labels").mkdir()
            for i in range(clips):
                name = f"{split}-{i}"
                (root / split / "videos" / f"{name}.mp4").write_bytes(video)
                label = {"annotation": {"description_kr": f"빨간 공이 {i}번 굴러간다."}}
                path = root / split / "labels" / f"{name}.json"
                path.write_text(json.dumps(label, ensure_ascii=False), encoding="utf-8")
        return root

    return build


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """Bytes of a real mp4 of 128 × 96 pixels."""
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4").read_bytes()
