"""The two stages, from their input files to their output files."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from siglip_study import projectors
from siglip_study.base.errors import StudyError
from siglip_study.models.sizes import llm_shape, projector_flops, run_flops

if TYPE_CHECKING:
    from siglip_study.models.vlm import VisionLanguageModel
    from siglip_study.study.cells import RunSpec
import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from accelerate import Accelerator

from siglip_study.base.io import write_json, write_parquet
from siglip_study.base.jobs import loading
from siglip_study.base.seeds import derived_seed
from siglip_study.config.study import RuntimeConfig
from siglip_study.config.training import StageConfig
from siglip_study.models.llm import add_lora, import_libraries
from siglip_study.models.vlm import VisionLanguageModel
from siglip_study.runs.clips import Clips
from siglip_study.runs.run import Inputs, LoadedRun, load_projector, save_checkpoint
from siglip_study.study import versions
from siglip_study.study.cells import Cell, RunSpec
from siglip_study.training.diagnosis import clip_diagnosis, quick_look
from siglip_study.training.loop import train_stage
from siglip_study.training.memory import MemoryPlan, plan_memory
from siglip_study.training.resume import Position, ResumePoint
from siglip_study.training.step import StagePlan
from siglip_study.training.team import team

# ---- How much a finished stage computed.

log = logging.getLogger(__name__)


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


def _cost(position: Position, accelerator: Accelerator, runtime: RuntimeConfig) -> dict[str, Any]:
    on_gpu = accelerator.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "gpus": runtime.gpus if on_gpu else 0,
        "gpu_s": position.seconds * runtime.gpus if on_gpu else 0.0,
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


@dataclass(frozen=True)
class StageJob:
    """A stage of a run and its input files: what every rank of its training needs to know."""

    number: int
    name: str
    run: RunSpec
    inputs: Inputs
    stage1: Path | None
    resume: Path
    runtime: RuntimeConfig

    @property
    def settings(self) -> StageConfig:
        return self.run.stage1 if self.number == 1 else self.run.stage2

    def to_json(self) -> dict[str, Any]:
        """For another process; see ``from_json``."""
        return {
            "number": self.number,
            "name": self.name,
            "run": self.run.model_dump(mode="json"),
            "manifest": str(self.inputs.manifest),
            "features": {split: str(path) for split, path in self.inputs.features.items()},
            "stage1": None if self.stage1 is None else str(self.stage1),
            "resume": str(self.resume),
            "runtime": self.runtime.model_dump(mode="json"),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> StageJob:
        """What ``to_json`` has written."""
        features = {split: Path(path) for split, path in data["features"].items()}
        return cls(
            data["number"],
            data["name"],
            RunSpec.model_validate(data["run"]),
            Inputs(Path(data["manifest"]), features),
            None if data["stage1"] is None else Path(data["stage1"]),
            Path(data["resume"]),
            RuntimeConfig.model_validate(data["runtime"]),
        )


@dataclass
class _Trained:
    """What training leaves in rank 0's memory."""

    loaded: LoadedRun
    model: VisionLanguageModel
    train: Clips
    position: Position


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
    job = StageJob(1, name, run, inputs, None, resume_folder, runtime)
    resume = ResumePoint(resume_folder)
    with resume.owned():
        done = _train_together(job, resume, progress)
        save_checkpoint(out / "checkpoint", done.model, {"run": run.stage1_keys(), "stage": 1})
        _write_history(out, done.position)
        wall = time.monotonic() - began
        cost = _cost(done.position, done.loaded.accelerator, runtime)
        flops = stage_flops(done.model, run, done.position.steps)
        write_json(out / "stage.json", {"wall_s": wall, "flops": flops, **cost}, "stage/1")


def run_stage2(
    cell: Cell,
    inputs: Inputs,
    stage1: Path | None,
    out: Path,
    resume_folder: Path,
    runtime: RuntimeConfig,
    progress: Callable[[], str],
    while_loaded: Callable[[LoadedRun, VisionLanguageModel], None],
) -> None:
    """Train projector and adapters; write ``checkpoint/``, history and ``cell.json``.

    Without a ``stage1`` the projector stays as initialised and calibrated: the secondary control.
    ``while_loaded`` is called with the trained model.
    """
    began = time.monotonic()
    name, run = cell.name, cell.run
    job = StageJob(2, name, run, inputs, stage1, resume_folder, runtime)
    resume = ResumePoint(resume_folder)
    with resume.owned():
        done = _train_together(job, resume, progress)
        loaded, model, position = done.loaded, done.model, done.position
        save_checkpoint(out / "checkpoint", model, {"run": run.keys(), "stage": 2})
        _write_history(out, position)
        trainable = model.trainable()
        facts = {
            "cell": name,
            "projector": cell.label,
            "role": cell.role,
            "seed": run.seed,
            "run": run.model_dump(mode="json"),
            "stage1_cell": stage1 and stage1.name,
            "projector_parameters": model.projector.n_parameters(),
            "lora_parameters": sum(p.numel() for n, p in trainable.items() if "lora_" in n),
            "tokens_per_video": _tokens_per_video(model, loaded),
            "truncated_targets": done.train.truncated,
            "flops": stage_flops(model, run, position.steps),
            "wall_s": time.monotonic() - began,
            **_cost(position, loaded.accelerator, runtime),
            "versions": versions.versions(),
            "git_commit": versions.git_commit(),
        }
        write_json(out / "cell.json", facts, "cell/1")
        while_loaded(loaded, model)


def _train_together(job: StageJob, resume: ResumePoint, progress: Callable[[], str]) -> _Trained:
    """Train on ``runtime.gpus`` ranks; this process is rank 0 and the only one that writes."""
    ranks, device = job.runtime.gpus, job.runtime.device
    with team(ranks, device, f"{__name__}:follow", job.to_json()) as accelerator:
        return _train(job, resume, progress, accelerator)


def follow(order: dict[str, Any], accelerator: Accelerator) -> None:
    """Train as another rank: the same steps, and no files."""
    job = StageJob.from_json(order)
    _train(job, ResumePoint(job.resume), lambda: "", accelerator)


def _train(
    job: StageJob, resume: ResumePoint, progress: Callable[[], str], accelerator: Accelerator
) -> _Trained:
    run, runtime = job.run, job.runtime
    with loading():
        import_libraries(run.llm, adapters=job.number == 2)
    loaded = LoadedRun(run, job.inputs, accelerator, runtime.memory_gb)
    train, selection = loaded.clips("train"), loaded.clips("selection")
    model = _first_model(job, loaded, train)
    memory = _plan_memory(job, loaded, model, train, selection)
    plan = StagePlan(
        job.number,
        job.settings,
        run.seed,
        memory.eval_clips,
        runtime.save_minutes * 60,
        memory.forward_clips,
    )
    log.debug("plan: %s", asdict(plan))
    resume.origin = _origin(loaded.inputs.manifest, model)
    loaded.log_masked_sample(train, _tokens_per_video(model, loaded))
    position = train_stage(
        model,
        plan,
        train,
        selection,
        resume,
        quick_look(loaded, selection),
        accelerator,
        _on_epoch(job.name, job.settings.epochs, progress),
        clip_diagnosis(loaded, selection),
    )
    return _Trained(loaded, model, train, position)


def _plan_memory(
    job: StageJob, loaded: LoadedRun, model: VisionLanguageModel, train: Clips, selection: Clips
) -> MemoryPlan:
    clips_per_step = job.settings.batch_size * job.settings.gradient_accumulation
    options = [own for clips in (train, selection) for own in clips.captions]
    return plan_memory(
        model,
        train.features.batch(train.ids[:1]).to(loaded.accelerator.device),
        max((caption for own in options for caption in own), key=len),
        min(job.settings.batch_size, -(-clips_per_step // job.runtime.gpus)),
        job.runtime.eval_batch_clips,
        job.runtime,
        loaded.accelerator.autocast,
    )


def _first_model(job: StageJob, loaded: LoadedRun, train: Clips) -> VisionLanguageModel:
    """The model before the stage's first step."""
    model, run = loaded.model(), job.run
    if job.stage1 is None:
        first = train.features.batch(train.ids[: min(64, len(train))])
        model.calibrate(
            first.to(loaded.accelerator.device), run.training.output_scale == "embedding"
        )
        if job.number == 2:
            model.projector.requires_grad_(False)
    else:
        load_projector(job.stage1 / "checkpoint", model)
    if job.number == 2:
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


def _tokens_per_video(model: VisionLanguageModel, loaded: LoadedRun) -> int:
    return model.projector.tokens_per_video(loaded.run.vision.frames)
