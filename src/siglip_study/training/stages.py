"""The two stages, from their input files to their output files."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from siglip_study import provenance
from siglip_study.config import RuntimeConfig
from siglip_study.grid import Cell, RunSpec
from siglip_study.io import write_json, write_parquet
from siglip_study.llm import add_lora
from siglip_study.training.bench import Bench, Inputs, use_device
from siglip_study.training.checkpoint import load_projector, save_checkpoint
from siglip_study.training.clips import Clips
from siglip_study.training.loop import StagePlan, train_stage
from siglip_study.training.resume import Position, ResumePoint
from siglip_study.training.schedule import derived_seed
from siglip_study.vlm import VisionLanguageModel

log = logging.getLogger(__name__)


def _cost(position: Position, accelerator: Accelerator) -> dict[str, Any]:
    on_gpu = accelerator.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "gpu_s": position.seconds if on_gpu else 0.0,
        "peak_gpu_gb": torch.cuda.max_memory_allocated() / 2**30 if on_gpu else 0.0,
        "train_s": position.seconds,
        "optimizer_steps": position.step,
        "samples_seen": sum(row["samples"] for row in position.steps),
        "best_epoch": position.best_epoch,
    }


def _write_history(folder: Path, position: Position) -> None:
    import polars as pl

    write_parquet(folder / "steps.parquet", pl.DataFrame(position.steps, infer_schema_length=None))
    write_parquet(
        folder / "epochs.parquet", pl.DataFrame(position.epochs, infer_schema_length=None)
    )


def _on_epoch(name: str, epochs: int, progress: Callable[[], str]) -> Callable[[dict], None]:
    def report(row: dict[str, Any]) -> None:
        log.info(
            "%s · stage %d · epoch %d/%d · loss %.3f · validation %.3f · %.0f s · %s",
            name,
            row["stage"],
            row["epoch"],
            epochs,
            row["train_loss"],
            row["val_loss"],
            row["seconds"],
            progress(),
        )

    return report


def run_stage1(
    name: str,
    run: RunSpec,
    inputs: Inputs,
    out: Path,
    resume_folder: Path,
    runtime: RuntimeConfig,
    progress: Callable[[], str],
) -> None:
    """Train the projector alone; write ``checkpoint/``, history and ``stage.json``."""
    began = time.monotonic()
    resume = ResumePoint(resume_folder)
    with resume.owned():
        accelerator = use_device(runtime)
        bench = Bench(run, inputs, accelerator)
        train, selection = bench.clips("train"), bench.clips("selection")
        model = bench.model()
        first = train.features.batch(train.ids[: min(64, len(train))]).to(accelerator.device)
        model.calibrate(first, run.training.output_scale == "embedding")
        position = _train(1, run, bench, model, train, selection, resume, runtime, name, progress)
        save_checkpoint(out / "checkpoint", model, {"run": run.stage1_keys(), "stage": 1})
        _write_history(out, position)
        wall = time.monotonic() - began
        write_json(out / "stage.json", {"wall_s": wall, **_cost(position, accelerator)}, "stage/1")


def run_stage2(
    cell: Cell,
    inputs: Inputs,
    stage1: Path,
    out: Path,
    resume_folder: Path,
    runtime: RuntimeConfig,
    progress: Callable[[], str],
    while_loaded: Callable[[Bench, VisionLanguageModel], None],
) -> None:
    """Train projector and adapters; write ``checkpoint/``, history and ``cell.json``.

    ``while_loaded`` is called with the trained model.
    """
    began = time.monotonic()
    name, run = cell.name, cell.run
    resume = ResumePoint(resume_folder)
    with resume.owned():
        accelerator = use_device(runtime)
        bench = Bench(run, inputs, accelerator)
        train, selection = bench.clips("train"), bench.clips("selection")
        model = bench.model()
        load_projector(stage1 / "checkpoint", model)
        torch.manual_seed(derived_seed("lora", run.seed))
        model.llm = add_lora(model.llm, run.llm.lora)
        position = _train(2, run, bench, model, train, selection, resume, runtime, name, progress)
        save_checkpoint(out / "checkpoint", model, {"run": run.keys(), "stage": 2})
        _write_history(out, position)
        trainable = model.trainable()
        facts = {
            "cell": name,
            "projector": cell.label,
            "role": cell.role,
            "seed": run.seed,
            "run": run.model_dump(mode="json"),
            "stage1_cell": stage1.name,
            "projector_parameters": model.projector.n_parameters(),
            "lora_parameters": sum(p.numel() for n, p in trainable.items() if "lora_" in n),
            "tokens_per_video": _tokens_per_video(model, bench),
            "truncated_targets": train.truncated,
            "wall_s": time.monotonic() - began,
            **_cost(position, accelerator),
            "versions": provenance.versions(),
            "git_commit": provenance.git_commit(),
        }
        write_json(out / "cell.json", facts, "cell/1")
        while_loaded(bench, model)


def _train(
    number: int,
    run: RunSpec,
    bench: Bench,
    model: VisionLanguageModel,
    train: Clips,
    selection: Clips,
    resume: ResumePoint,
    runtime: RuntimeConfig,
    name: str,
    progress: Callable[[], str],
) -> Position:
    settings = run.stage1 if number == 1 else run.stage2
    plan = StagePlan(
        number, settings, run.seed, runtime.eval_batch_clips, runtime.save_minutes * 60
    )
    log.debug("plan: %s", asdict(plan))
    resume.origin = _origin(bench.inputs.manifest, model)
    bench.log_masked_sample(train, _tokens_per_video(model, bench))
    return train_stage(
        model,
        plan,
        train,
        selection,
        resume,
        bench.quick_look(selection),
        bench.accelerator,
        _on_epoch(name, settings.epochs, progress),
    )


def _origin(manifest: Path, model: VisionLanguageModel) -> str:
    """Hash of the clips and of the weights a stage starts from (stage 2: those of stage 1).

    The scales are left out: on another device their last bits may differ.
    """
    digest = hashlib.sha256(manifest.read_bytes())
    for name, parameter in model.projector.named_parameters():
        digest.update(name.encode())
        digest.update(parameter.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def _tokens_per_video(model: VisionLanguageModel, bench: Bench) -> int:
    patches = next(iter(bench.stores.values())).facts["patches"]
    return model.projector.tokens_per_video(bench.run.vision.frames, patches)
