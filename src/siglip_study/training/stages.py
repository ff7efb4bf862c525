"""The two stages, from their input files to their output files."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
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
from siglip_study.models.devices import device_of
from siglip_study.models.hub import model_digest
from siglip_study.models.llm import add_lora, import_libraries
from siglip_study.models.sizes import llm_shape, projector_flops, run_flops
from siglip_study.models.vlm import VisionLanguageModel
from siglip_study.runs.clips import Clips
from siglip_study.runs.run import Inputs, LoadedRun, load_projector, save_checkpoint
from siglip_study.study import versions
from siglip_study.study.cells import TRAINED_ON, Cell
from siglip_study.study.paths import Paths
from siglip_study.training.diagnosis import FOREIGN_CLIPS, clip_diagnosis, frame_cost, quick_look
from siglip_study.training.distributed import launch, leave
from siglip_study.training.loop import train_stage
from siglip_study.training.memory import plan_memory
from siglip_study.training.resume import Position, ResumePoint
from siglip_study.training.step import StagePlan
from siglip_study.training.trackers import tracked

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StageJob:
    """A stage of a cell and its files: what every rank of its training needs to know.

    Stage 2 starts from the folder ``stage1``; without one the projector stays as initialised and
    calibrated: the secondary control. ``while_loaded`` is called with a run's trained model. With
    several GPUs it and ``progress`` must be functions of a module, or partials of such.
    """

    number: int
    cell: Cell  # in stage 1, any of those that share it
    inputs: Inputs
    out: Path
    resume: Path
    runtime: RuntimeConfig
    progress: Callable[[], str]
    stage1: Path | None = None
    while_loaded: Callable[[LoadedRun, VisionLanguageModel], None] | None = None

    @property
    def settings(self) -> StageConfig:
        return self.cell.run.stage1 if self.number == 1 else self.cell.run.stage2

    def report(self, row: dict[str, Any]) -> None:
        """Say how an epoch went."""
        log.info(
            "%s · stage %d · epoch %d/%d · loss %.3f · validation %.3f · %.0f s · %s",
            self.cell.title(self.number),
            self.number,
            row["epoch"],
            self.settings.epochs,
            row["train_loss"],
            row["val_loss"],
            row["seconds"],
            self.progress(),
        )


def run_stage(job: StageJob) -> None:
    """Train; write ``checkpoint/`` and history, and ``stage.json`` (stage 1) or ``cell.json``.

    Stage 1 trains the projector alone, stage 2 projector and adapters.
    """
    ranks = job.runtime.gpus
    launch(_train, ranks, device_of(job.runtime, ranks), job, time.monotonic())


def _train(accelerator: Accelerator, job: StageJob, began: float) -> None:
    """Be a rank of the stage; the first one goes on to write files."""
    cell, run, settings, runtime = job.cell, job.cell.run, job.settings, job.runtime

    # ---- What it starts from: clips, and the model before the first step.
    with loading():
        import_libraries(run.llm, adapters=job.number == 2)
    loaded = LoadedRun(run, job.inputs, accelerator, runtime.memory_gb)
    train, selection = loaded.clips("train"), loaded.clips("selection")
    model = _first_model(job, loaded, train)
    video_tokens = model.projector.tokens_per_video(run.vision.frames)
    loaded.log_masked_sample(train, video_tokens)

    # ---- How its steps are cut so that they fit the memory; that changes no step.
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
    plan = StagePlan(job.number, settings, run.seed, runtime.save_minutes * 60, memory)
    log.debug("plan: %s", asdict(plan))

    # ---- The steps themselves; a killed life of this stage goes on where it was.
    names = runtime.trackers if accelerator.is_main_process else ()
    folder = Paths(job.out.parents[1]).tracking
    with tracked(names, folder, f"{job.out.name}.stage{job.number}") as track:

        def on_epoch(position: Position) -> None:
            job.report(position.epochs[-1])
            track(position)

        position = train_stage(
            model,
            plan,
            train,
            selection,
            ResumePoint(job.resume, _origin(job, model)),
            accelerator,
            quick_look(loaded, selection),
            clip_diagnosis(loaded, selection),
            on_epoch,
        )
    leave()
    if not accelerator.is_main_process:
        return

    # ---- What a foreign frame costs the weights that it ends with.
    n = min(FOREIGN_CLIPS, run.training.diagnosis_clips)
    cost_of_frame = frame_cost(model, selection, n, memory.eval_clips, accelerator)
    position.epochs[-1]["diag_frame_cost"] = cost_of_frame

    # ---- What it leaves: the weights, a row an optimizer step and an epoch, and what it cost.
    keys = run.stage1_keys() if job.number == 1 else run.keys()
    save_checkpoint(job.out / "checkpoint", model, {"run": keys, "stage": job.number})
    for name, rows in (("steps", position.steps), ("epochs", position.epochs)):
        table = pl.DataFrame(rows, infer_schema_length=None)
        write_parquet(job.out / f"{name}.parquet", table)
    on_gpu = accelerator.device.type == "cuda"
    cost = {
        "wall_s": time.monotonic() - began,
        "flops": _flops(model, job, position.steps),
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "gpus": runtime.gpus if on_gpu else 0,
        "gpu_s": position.seconds * runtime.gpus if on_gpu else 0.0,
        "peak_gpu_gb": torch.cuda.max_memory_allocated() / 2**30 if on_gpu else 0.0,
        "train_s": position.seconds,
        "optimizer_steps": position.step,
        "samples_seen": sum(row["samples"] for row in position.steps),
        "best_epoch": position.best_epoch,
    }
    if job.number == 1:
        write_json(job.out / "stage.json", cost, "stage/1")
        return
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
        "tokens_per_video": video_tokens,
        "truncated_targets": train.truncated,
        **cost,
        "versions": versions.versions(),
        "git_commit": versions.git_commit(),
    }
    write_json(job.out / "cell.json", facts, "cell/1")
    if job.while_loaded is not None:
        job.while_loaded(loaded, model)


def _first_model(job: StageJob, loaded: LoadedRun, train: Clips) -> VisionLanguageModel:
    """The model before the stage's first step."""
    model, run = loaded.model(), loaded.run
    if job.stage1 is not None:
        load_projector(job.stage1 / "checkpoint", model)
    else:
        first = train.features.batch(train.ids[:64]).to(loaded.accelerator.device)
        model.calibrate(first, run.training.output_scale == "embedding")
    if job.number == 2:
        model.projector.requires_grad_(job.stage1 is not None)
        torch.manual_seed(derived_seed("lora", run.seed))
        model.llm = add_lora(model.llm, run.llm.lora)
    return model


def _origin(job: StageJob, model: VisionLanguageModel) -> str:
    """Hash of clips, features and weights that a stage starts from (stage 2: those of stage 1).

    The scales are left out: on another device their last bits may differ.
    """
    inputs, llm = job.inputs, job.cell.run.llm
    digest = hashlib.sha256(repr(model_digest(llm.model, llm.revision)).encode())
    for split in TRAINED_ON:
        digest.update(inputs.clips[split].read_bytes())
        # The index holds a checksum of each clip's features.
        digest.update((inputs.features[split] / "index.json").read_bytes())
    for name, parameter in model.projector.named_parameters():
        digest.update(name.encode())
        digest.update(parameter.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def _flops(model: VisionLanguageModel, job: StageJob, steps: list[dict[str, Any]]) -> float | None:
    """FLOP of a stage's optimizer steps, by the formulas of :mod:`siglip_study.models.sizes`.

    None, said in the log, for a language model whose config does not spell its sizes: a finished
    training is not lost over a figure that stands beside it. Adapters count where there are any.
    """
    run, built, layout = job.cell.run, model.projector, model.layout
    settings: Any = model.llm.config
    try:
        llm = llm_shape(settings.to_dict(), f"llm.model {run.llm.model}")
    except StudyError as error:
        log.warning("FLOP of this stage are not counted: %s", error)
        return None
    # A twin that holds no memory: counting runs it forward and backward.
    with torch.device("meta"):
        twin = projectors.build(run.projector, built.shape, built.llm_dim, **run.options)
    video = twin.tokens_per_video(run.vision.frames)
    return run_flops(
        llm,
        sum(row["samples"] for row in steps),
        sum(row["target_tokens"] for row in steps),
        len(layout.before) + video + len(layout.after),
        projector_flops(twin),
        sum(p.numel() for name, p in model.llm.named_parameters() if "lora_" in name),
    )
