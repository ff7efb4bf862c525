"""The two stages, from their input files to their output files."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch
from accelerate import Accelerator

from siglip_study import projectors
from siglip_study.base.errors import StudyError
from siglip_study.base.io import write_json, write_parquet
from siglip_study.base.jobs import loading
from siglip_study.base.seeds import derived_seed
from siglip_study.config.study import RuntimeConfig
from siglip_study.config.training import StageConfig
from siglip_study.models.llm import add_lora, import_libraries
from siglip_study.models.sizes import llm_shape, projector_flops, run_flops
from siglip_study.models.vlm import VisionLanguageModel
from siglip_study.runs.clips import Clips
from siglip_study.runs.run import Inputs, LoadedRun, load_projector, save_checkpoint
from siglip_study.study import versions
from siglip_study.study.cells import Cell, RunSpec
from siglip_study.training.diagnosis import clip_diagnosis, quick_look
from siglip_study.training.distributed import launch, leave
from siglip_study.training.loop import train_stage
from siglip_study.training.memory import plan_memory
from siglip_study.training.resume import Position, ResumePoint
from siglip_study.training.step import StagePlan

log = logging.getLogger(__name__)

WhileLoaded = Callable[[LoadedRun, VisionLanguageModel], None]


@dataclass(frozen=True)
class StageJob:
    """A stage of a run and its files: what every rank of its training needs to know."""

    number: int
    name: str
    run: RunSpec
    inputs: Inputs
    stage1: Path | None  # the folder a second stage starts from; None: an untrained projector
    out: Path
    resume: Path
    runtime: RuntimeConfig
    progress: Callable[[], str]

    @property
    def settings(self) -> StageConfig:
        return self.run.stage1 if self.number == 1 else self.run.stage2

    def report(self, row: dict[str, Any]) -> None:
        """Say how an epoch went."""
        log.info(
            "%s · stage %d · epoch %d/%d · loss %.3f · validation %.3f · %.0f s · %s",
            self.name,
            self.number,
            row["epoch"],
            self.settings.epochs,
            row["train_loss"],
            row["val_loss"],
            row["seconds"],
            self.progress(),
        )


# ---- What a stage leaves.


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
    job = StageJob(1, name, run, inputs, None, out, resume_folder, runtime, progress)
    with ResumePoint(resume_folder).owned():
        launch(_stage1, runtime.gpus, runtime.device, job, time.monotonic())


def _stage1(accelerator: Accelerator, job: StageJob, began: float) -> None:
    trained = _train(job, accelerator)
    if accelerator.is_main_process:
        _write_checkpoint(job, trained, job.run.stage1_keys())
        facts = {"wall_s": time.monotonic() - began, **_cost(job, trained)}
        write_json(job.out / "stage.json", facts, "stage/1")


def run_stage2(
    cell: Cell,
    inputs: Inputs,
    stage1: Path | None,
    out: Path,
    resume_folder: Path,
    runtime: RuntimeConfig,
    progress: Callable[[], str],
    while_loaded: WhileLoaded,
) -> None:
    """Train projector and adapters; write ``checkpoint/``, history and ``cell.json``.

    Without a ``stage1`` the projector stays as initialised and calibrated: the secondary control.
    ``while_loaded`` is called with the trained model. With several GPUs it and ``progress`` must be
    functions of a module, or partials of such.
    """
    job = StageJob(2, cell.name, cell.run, inputs, stage1, out, resume_folder, runtime, progress)
    with ResumePoint(resume_folder).owned():
        launch(_stage2, runtime.gpus, runtime.device, job, time.monotonic(), cell, while_loaded)


def _stage2(
    accelerator: Accelerator, job: StageJob, began: float, cell: Cell, while_loaded: WhileLoaded
) -> None:
    trained = _train(job, accelerator)
    if not accelerator.is_main_process:
        return
    _write_checkpoint(job, trained, job.run.keys())
    model, run = trained.model, job.run
    adapters = [p for name, p in model.trainable().items() if "lora_" in name]
    facts = {
        "cell": cell.name,
        "projector": cell.label,
        "role": cell.role,
        "seed": run.seed,
        "run": run.model_dump(mode="json"),
        "stage1_cell": job.stage1 and job.stage1.name,
        "projector_parameters": model.projector.n_parameters(),
        "lora_parameters": sum(parameter.numel() for parameter in adapters),
        "tokens_per_video": model.projector.tokens_per_video(run.vision.frames),
        "truncated_targets": trained.clips.truncated,
        "wall_s": time.monotonic() - began,
        **_cost(job, trained),
        "versions": versions.versions(),
        "git_commit": versions.git_commit(),
    }
    write_json(job.out / "cell.json", facts, "cell/1")
    while_loaded(trained.loaded, model)


@dataclass
class _Trained:
    """What training leaves in the memory of a rank."""

    loaded: LoadedRun
    model: VisionLanguageModel
    clips: Clips
    position: Position


def _write_checkpoint(job: StageJob, trained: _Trained, keys: dict[str, Any]) -> None:
    """The weights, and a row an optimizer step and an epoch."""
    save_checkpoint(job.out / "checkpoint", trained.model, {"run": keys, "stage": job.number})
    for name in ("steps", "epochs"):
        rows = pl.DataFrame(getattr(trained.position, name), infer_schema_length=None)
        write_parquet(job.out / f"{name}.parquet", rows)


def _cost(job: StageJob, trained: _Trained) -> dict[str, Any]:
    position, gpus = trained.position, job.runtime.gpus
    on_gpu = trained.loaded.accelerator.device.type == "cuda"
    return {
        "flops": stage_flops(trained.model, job.run, position.steps),
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "gpus": gpus if on_gpu else 0,
        "gpu_s": position.seconds * gpus if on_gpu else 0.0,
        "peak_gpu_gb": torch.cuda.max_memory_allocated() / 2**30 if on_gpu else 0.0,
        "train_s": position.seconds,
        "optimizer_steps": position.step,
        "samples_seen": sum(row["samples"] for row in position.steps),
        "best_epoch": position.best_epoch,
    }


def stage_flops(
    model: VisionLanguageModel, run: RunSpec, steps: Iterable[Mapping[str, Any]]
) -> float | None:
    """FLOP of a stage's optimizer steps, by the formulas of :mod:`siglip_study.models.sizes`.

    None, said in the log, for a language model whose config does not spell its sizes: a finished
    training is not lost over a figure that stands beside it.

    Args:
        model: as it was trained; adapters count where it has them.
        run: the run it belongs to.
        steps: rows of ``steps.parquet`` (``samples``, ``target_tokens``).
    """
    settings: Any = model.llm.config
    try:
        llm = llm_shape(settings.to_dict(), f"llm.model {run.llm.model}")
    except StudyError as error:
        log.warning("FLOP of this stage are not counted: %s", error)
        return None
    rows = list(steps)
    built, layout = model.projector, model.layout
    # A twin that holds no memory: counting runs it forward and backward.
    with torch.device("meta"):
        twin = projectors.build(run.projector, built.shape, built.llm_dim, **run.options)
    video = twin.tokens_per_video(run.vision.frames)
    return run_flops(
        llm,
        sum(row["samples"] for row in rows),
        sum(row["target_tokens"] for row in rows),
        len(layout.before) + video + len(layout.after),
        projector_flops(twin),
        sum(p.numel() for name, p in model.llm.named_parameters() if "lora_" in name),
    )


# ---- How a stage is trained, in every rank.


def _train(job: StageJob, accelerator: Accelerator) -> _Trained:
    run, settings, runtime = job.run, job.settings, job.runtime

    # What it starts from: clips, and the model before the first step.
    with loading():
        import_libraries(run.llm, adapters=job.number == 2)
    loaded = LoadedRun(run, job.inputs, accelerator, runtime.memory_gb)
    train, selection = loaded.clips("train"), loaded.clips("selection")
    model = _first_model(job, loaded, train)
    loaded.log_masked_sample(train, model.projector.tokens_per_video(run.vision.frames))

    # How its steps are cut so that they fit the memory; that changes no step.
    options = [caption for clips in (train, selection) for own in clips.captions for caption in own]
    clips_per_step = settings.batch_size * settings.gradient_accumulation
    memory = plan_memory(
        model,
        train.features.batch(train.ids[:1]).to(accelerator.device),
        max(options, key=len),
        min(settings.batch_size, -(-clips_per_step // runtime.gpus)),
        runtime.eval_batch_clips,
        runtime,
        accelerator.autocast,
    )
    plan = StagePlan(
        job.number,
        settings,
        run.seed,
        memory.eval_clips,
        runtime.save_minutes * 60,
        memory.forward_clips,
    )
    log.debug("plan: %s", asdict(plan))

    # The steps themselves; a killed life of this stage goes on where it was.
    position = train_stage(
        model,
        plan,
        train,
        selection,
        ResumePoint(job.resume, _origin(job.inputs.manifest, model)),
        quick_look(loaded, selection),
        accelerator,
        job.report,
        clip_diagnosis(loaded, selection),
    )
    leave()
    return _Trained(loaded, model, train, position)


def _first_model(job: StageJob, loaded: LoadedRun, train: Clips) -> VisionLanguageModel:
    """The model before the stage's first step."""
    model, run = loaded.model(), job.run
    if job.stage1 is not None:
        load_projector(job.stage1 / "checkpoint", model)
    else:
        first = train.features.batch(train.ids[: min(64, len(train))])
        model.calibrate(
            first.to(loaded.accelerator.device), run.training.output_scale == "embedding"
        )
    if job.number == 2:
        model.projector.requires_grad_(job.stage1 is not None)
        torch.manual_seed(derived_seed("lora", run.seed))
        model.llm = add_lora(model.llm, run.llm.lora)
    return model


def _origin(manifest: Path, model: VisionLanguageModel) -> str:
    """Hash of the clips and of the weights a stage starts from (stage 2: those of stage 1).

    The scales are left out: on another device their last bits may differ.
    """
    digest = hashlib.sha256(manifest.read_bytes())
    for name, parameter in model.projector.named_parameters():
        digest.update(name.encode())
        digest.update(parameter.detach().cpu().numpy().tobytes())
    return digest.hexdigest()
