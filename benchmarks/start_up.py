"""What a training job costs beside its training: jobs of their own, then jobs in a kept process.

    python -m benchmarks.start_up --llm 0.6b
    python -m benchmarks.start_up --llm 8b

Two cells, both stages each, one job after the other as the workflow starts them, but without
Snakemake: random weights in the LLM's shape, random features and captions. First with
``runtime.keep_loaded_s`` 0, then with it on. Overhead is a job's wall time without its training
steps, validations and captions; the GPU's busy share is read every tenth of a second.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

DEMO = Path(__file__).parents[1] / "resources" / "demo"
#: LLM, quantisation, grid of patches, features' width, training clips, words of a caption
SIZES: dict[str, tuple[str | None, str, tuple[int, int], int, int, int]] = {
    "micro": (None, "none", (4, 4), 32, 16, 8),
    "0.6b": ("Qwen/Qwen3-0.6B", "nf4", (16, 16), 384, 128, 60),
    "8b": ("Qwen/Qwen3-8B", "nf4", (24, 24), 1024, 32, 60),
}
FRAMES = 8


# ---- A small study, all made up.


def make_study(folder: Path, size: str, keep_s: float) -> dict[str, Any]:
    """Config of a study in ``folder``, whose features and manifest are there already."""
    model, quantization, grid, dim, clips, words = SIZES[size]
    llm = folder / "llm"
    if not llm.exists():
        from siglip_study.models.hub import architecture

        shutil.copytree(DEMO / "llm", llm)
        if model is not None:
            (llm / "model.safetensors").unlink()
            (llm / "config.json").write_text(json.dumps(architecture(model)), encoding="utf-8")
        _write_inputs(folder, grid, dim, clips, words)
    weights = {} if model is None else {"weights": "random"}
    return {
        "output_dir": str(folder / f"keep{keep_s:g}"),
        "data": {"root": "x"},
        "vision": {"frames": FRAMES},
        "llm": {"model": str(llm), "quantization": quantization, **weights},
        "projectors": {
            "linear": {},
            "query_abstractor": {"options": {"queries": 64, "heads": 4}},
        },
        "training": {"quick_clips": 4, "quick_tokens": 16, "max_target_tokens": 256},
        "stage1": {"epochs": 1},
        "grid": {"learning_rate": [1e-4], "epochs": [1]},
        "captions": {"max_new_tokens": 32},
        "runtime": {"keep_loaded_s": keep_s},
    }


def _write_inputs(folder: Path, grid: tuple[int, int], dim: int, clips: int, words: int) -> None:
    import numpy as np
    import polars as pl
    import torch

    from siglip_study.features.store import FeatureWriter

    rng = np.random.default_rng(0)
    vocabulary = ["공이", "빨간", "상자", "왼쪽으로", "굴러간다", "사람이", "천천히", "걷는다"]
    facts = {"dim": dim, "grid": list(grid), "patches": grid[0] * grid[1], "frames": FRAMES}
    rows = []
    for split, n in {"train": clips, "selection": 8, "report": 8}.items():
        ids = [f"{split}{i}" for i in range(n)]
        for clip in ids:
            text = " ".join(rng.choice(vocabulary, words))
            rows.append({"id": clip, "split": split, "captions": [text]})
        with FeatureWriter(folder / split, folder / f"{split}.part", ids, 64, facts, ()) as writer:
            for part in writer.todo:
                writer.put(torch.randn(len(part), FRAMES, grid[0] * grid[1], dim).bfloat16())
    pl.DataFrame(rows).write_parquet(folder / "manifest.parquet")


# ---- A job, as the workflow's scripts are.


def run_job(spec: dict[str, Any]) -> None:
    """Train a stage of a cell, and caption after the second."""
    from siglip_study.captioning.cell import caption_while_loaded
    from siglip_study.config import parse
    from siglip_study.runs.run import Inputs
    from siglip_study.study import Study
    from siglip_study.training.stages import StageJob, run_stage

    study = Study(parse(spec["config"]))
    cell = next(c for c in study.tuning if c.label == spec["label"])
    paths, root = study.paths, Path(spec["folder"])
    splits = ("train", "selection", *cell.captioned)
    first, own = paths.stage1(cell.stage1_name), paths.run(cell.name)
    out = first if spec["stage"] == 1 else own
    caption = partial(
        caption_while_loaded,
        cell=cell,
        settings=study.config.captions,
        runtime=study.config.runtime,
        checkpoint=own / "checkpoint",
        paths=paths,
    )
    run_stage(
        StageJob(
            number=spec["stage"],
            cell=cell,
            inputs=Inputs(root / "manifest.parquet", {s: root / s for s in splits}),
            out=out,
            resume=paths.root / ".resume" / f"{spec['label']}-{spec['stage']}",
            runtime=study.config.runtime,
            progress=str,
            stage1=first if spec["stage"] == 2 else None,
            while_loaded=caption if spec["stage"] == 2 else None,
        )
    )
    told = next(out / name for name in ("stage.json", "cell.json") if (out / name).exists())
    made = list(paths.root.glob(f".handover/{cell.name}*/captions.json")) or list(
        paths.root.rglob("captions.json")
    )
    captioned = json.loads(made[0].read_text("utf-8"))["wall_s"] if spec["stage"] == 2 else 0.0
    facts = json.loads(told.read_text("utf-8")) | {"captions_s": captioned}
    Path(spec["told"]).write_text(json.dumps(facts), encoding="utf-8")
    if made:
        shutil.rmtree(made[0].parent)


# ---- Jobs one after the other, and a clock beside them.


@contextmanager
def busy_share() -> Iterator[list[float]]:
    """Samples of the GPU's utilisation, 0 to 1; none without a GPU."""
    samples: list[float] = []
    if not Path("/dev/nvidiactl").exists():
        yield samples
        return
    import pynvml

    pynvml.nvmlInit()
    gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
    stop = threading.Event()

    def sample() -> None:
        while not stop.wait(0.1):
            samples.append(pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        stop.set()
        thread.join()


def measure_series(folder: Path, size: str, keep_s: float) -> list[dict[str, Any]]:
    """Wall time and its parts of each job of the series."""
    config, rows = make_study(folder, size, keep_s), []
    for label in config["projectors"]:
        for stage in (1, 2):
            spec = {"config": config, "folder": str(folder), "label": label, "stage": stage}
            spec["told"] = str(folder / "told.json")
            spec["log"] = str(folder / f"keep{keep_s:g}-{label}-{stage}.log")
            with busy_share() as busy:
                began = time.monotonic()
                done = subprocess.run(
                    [sys.executable, str(Path(__file__)), "job", json.dumps(spec)],
                    capture_output=True,
                    text=True,
                )
                wall = time.monotonic() - began
            if done.returncode:
                raise SystemExit(done.stderr[-4000:] + Path(spec["log"]).read_text()[-4000:])
            facts = json.loads(Path(spec["told"]).read_text("utf-8"))
            rows.append(
                {
                    "job": f"{label}, stage {stage}",
                    "keep_loaded_s": keep_s,
                    "wall_s": round(wall, 1),
                    "training_s": round(facts["train_s"], 1),
                    "captions_s": round(facts["captions_s"], 1),
                    "overhead_s": round(wall - facts["train_s"] - facts["captions_s"], 1),
                    "gpu_busy": round(sum(busy) / len(busy), 2) if busy else None,
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    """Measure both series and print them."""
    from siglip_study.base.kept import mark_head

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--llm", choices=SIZES, default="0.6b")
    parser.add_argument("--keep", type=float, nargs="*", default=[0.0, 60.0])
    parser.add_argument("--logs", type=Path, help="folder that the jobs' logs are copied to")
    options = parser.parse_args()
    mark_head()
    with TemporaryDirectory(prefix="siglip-study-start-up-") as name:
        try:
            for keep_s in options.keep:
                measure_series(Path(name), options.llm, keep_s)
        finally:
            if options.logs is not None:
                for log in Path(name).glob("*.log"):
                    shutil.copy(log, options.logs / f"{options.llm}-{log.name}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["job"]:
        from siglip_study.base import kept
        from siglip_study.base.jobs import job

        given = json.loads(sys.argv[2])
        runtime = given["config"]["runtime"]
        if os.environ.get("START_UP_KEEPS_ON_CPU"):
            kept.run_in_kept_process(runtime["keep_loaded_s"])
        kept.run_where_loaded(runtime["keep_loaded_s"], "auto", 1)
        with job(given["log"]):
            run_job(given)
    else:
        main()
