"""A made-up study and its training jobs, as the workflow's scripts are, without Snakemake.

For what is asked of jobs one after the other: what each costs (`benchmarks.start_up`), and what a
kill leaves (`tools.kill_campaign`). Features and captions are random; so are the weights of a
language model that is not the demo's.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

DEMO = Path(__file__).parents[1] / "resources" / "demo"
_WORDS = ("공이", "빨간", "상자", "왼쪽으로", "굴러간다", "사람이", "천천히", "걷는다")


@dataclass(frozen=True)
class Size:
    """Shapes of a made-up study; ``llm`` None is the demo's."""

    llm: str | None
    quantization: str
    frames: int
    grid: tuple[int, int]
    width: int
    clips: int
    words: int  # of a caption


MICRO = Size(None, "none", 2, (2, 2), 16, 24, 4)


@dataclass(frozen=True)
class Job:
    """One stage of a cell: what a process is told of it, as JSON."""

    config: dict[str, Any]
    folder: str
    label: str
    stage: int
    on_cpu: bool = False  # kept there too, where the workflow forks

    @property
    def name(self) -> str:
        return f"{self.label}, stage {self.stage}"

    @property
    def log(self) -> Path:
        """Where the process tells what it does."""
        return self._root / "logs" / f"{self.label}-{self.stage}.log"

    @property
    def out(self) -> Path:
        """What the stage leaves; captions and ``told.json`` among it."""
        return self._root / f"{self.label}-{self.stage}"

    @property
    def running(self) -> Path:
        """Holds the id of the process in which the job runs."""
        return self._root / "running"

    @property
    def _root(self) -> Path:
        return Path(self.config["output_dir"])

    def command(self) -> list[str]:
        """Start it in a process of its own."""
        return [sys.executable, __file__, json.dumps(asdict(self))]

    def run(self) -> None:
        """Train the stage, and caption after the second; here, in this process."""
        from siglip_study.captioning.cell import write_captions
        from siglip_study.captioning.weights import weights_for_captions
        from siglip_study.config import parse
        from siglip_study.runs.run import Inputs
        from siglip_study.study import Study
        from siglip_study.training.stages import StageJob, run_stage

        study = Study(parse(self.config))
        settings, runtime = study.config.captions, study.config.runtime
        cell = next(c for c in study.tuning if c.label == self.label)
        root, out = Path(self.folder), self.out

        def caption(loaded: Any, model: Any) -> None:
            model.llm = weights_for_captions(model.llm, cell.run.llm, runtime.memory_gb)
            write_captions(loaded, model, cell, settings, runtime, out)

        splits = ("train", "selection", *cell.captioned)
        run_stage(
            StageJob(
                number=self.stage,
                cell=cell,
                inputs=Inputs(
                    {split: root / "manifest.parquet" for split in splits},
                    {split: root / split for split in splits},
                ),
                out=out,
                resume=self._root / ".resume" / out.name,
                runtime=runtime,
                progress=str,
                stage1=out.with_name(f"{self.label}-1") if self.stage == 2 else None,
                while_loaded=caption if self.stage == 2 else None,
            )
        )

    def facts(self) -> dict[str, Any]:
        """What the stage cost; ``captions_s`` among it."""
        name = "stage.json" if self.stage == 1 else "cell.json"
        captions = self.out / "captions.json"
        said = json.loads(captions.read_text("utf-8"))["wall_s"] if captions.exists() else 0.0
        facts: dict[str, Any] = json.loads((self.out / name).read_text("utf-8"))
        return facts | {"captions_s": said}


def make_series(
    folder: Path, size: Size, name: str, runtime: Mapping[str, Any], on_cpu: bool = False
) -> list[Job]:
    """Jobs of two cells whose outputs go to ``folder/name``; the inputs are made if need be."""
    if not (folder / "manifest.parquet").exists():
        _write_inputs(folder, size)
    weights = {} if size.llm is None else {"weights": "random"}
    config = {
        "output_dir": str(folder / name),
        "data": {"root": "x"},
        "vision": {"frames": size.frames},
        "llm": {
            "model": str(folder / "llm"),
            "quantization": size.quantization,
            "lora": {"dropout": 0.05},
            **weights,
        },
        "projectors": {
            "linear": {},
            "query_abstractor": {"options": {"queries": 64, "heads": 4}},
        },
        "training": {"quick_clips": 4, "quick_tokens": 16, "max_target_tokens": 256},
        "stage1": {"epochs": 1},
        "grid": {"learning_rate": [1e-4], "epochs": [1]},
        "captions": {"max_new_tokens": 32},
        "runtime": dict(runtime),
    }
    return [
        Job(config, str(folder), label, stage, on_cpu)
        for label in ("linear", "query_abstractor")
        for stage in (1, 2)
    ]


def _write_inputs(folder: Path, size: Size) -> None:
    import numpy as np
    import polars as pl
    import torch

    from siglip_study.features.store import FeatureWriter
    from siglip_study.models.hub import architecture

    llm = folder / "llm"
    shutil.copytree(DEMO / "llm", llm)
    if size.llm is not None:
        (llm / "model.safetensors").unlink()
        (llm / "config.json").write_text(json.dumps(architecture(size.llm)), encoding="utf-8")
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    patches = size.grid[0] * size.grid[1]
    shape = size.frames, patches, size.width
    facts = {"dim": size.width, "grid": [*size.grid], "patches": patches, "frames": size.frames}
    rows = []
    for split, n in {"train": size.clips, "selection": 8, "report": 8}.items():
        ids = [f"{split}{i}" for i in range(n)]
        texts = [" ".join(rng.choice(_WORDS, size.words)) for _ in ids]
        rows += [
            {"id": clip, "split": split, "captions": [text]}
            for clip, text in zip(ids, texts, strict=True)
        ]
        with FeatureWriter(folder / split, folder / f"{split}.part", ids, 64, facts, ()) as writer:
            for part in writer.todo:
                made = torch.randn(len(part), *shape, generator=generator)
                writer.put(made.bfloat16())
    pl.DataFrame(rows).write_parquet(folder / "manifest.parquet")


if __name__ == "__main__":
    import os

    from siglip_study.base import kept
    from siglip_study.base.jobs import job

    this = Job(**json.loads(sys.argv[1]))
    keep_s = this.config["runtime"]["keep_loaded_s"]
    if this.on_cpu:
        kept.run_in_kept_process(keep_s, ["torch"])
    else:
        kept.run_where_loaded(keep_s, "auto", 1)
    this.running.parent.mkdir(parents=True, exist_ok=True)
    this.running.write_text(str(os.getpid()), encoding="utf-8")
    with job(str(this.log)):
        this.run()
