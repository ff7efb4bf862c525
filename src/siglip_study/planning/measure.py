"""Real steps of each distinct shape, timed on this machine with random weights.

Nothing here models the work: losses, gradients, optimizer, memory plan, captions and towers are
those of the study's own code.
"""

from __future__ import annotations

import gc
import json
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from siglip_study.base.errors import StudyError
from siglip_study.captioning import generate
from siglip_study.captioning.generate import Timings, generate_captions
from siglip_study.captioning.losses import can_share_prompts, losses_under_videos
from siglip_study.captioning.weights import weights_for_captions
from siglip_study.config.study import Config, RuntimeConfig, ScorerConfig
from siglip_study.models.devices import free_bytes, pick_device
from siglip_study.models.hub import architecture, cached_file, image_processor, is_folder
from siglip_study.models.llm import add_lora, load_llm
from siglip_study.models.vlm import VisionLanguageModel
from siglip_study.planning.estimate import Cost, Forecast, Row
from siglip_study.planning.workload import Connector, StageShape
from siglip_study.runs.clips import prefetched
from siglip_study.runs.losses import caption_losses, forward_passes
from siglip_study.runs.run import use_device
from siglip_study.training.memory import GIB, MemoryPlan, plan_memory
from siglip_study.training.step import make_optimizer, optimizer_step

log = logging.getLogger(__name__)

#: New tokens of the run that times captions; on a CPU every token counts alike.
_NEW_TOKENS = {"cuda": 40, "cpu": 6}
#: Seconds spent on timing one step, about.
_STEP_SECONDS = {"cuda": 12.0, "cpu": 0.5}
#: Clips of the forward pass that times losses, at most.
_LOSS_CLIPS = 8


def measurements(forecast: Forecast, rows: Sequence[Row]) -> dict[Row, Cost]:
    """The cost of every row but loading as timed on this machine; progress is logged."""
    config, clips = forecast.config, forecast.dataset.clips
    training, tokens = config.training, forecast.caption_tokens
    found: dict[Row, Cost] = {}
    began = time.monotonic()

    def of(*parts: str) -> list[tuple[Row, Any]]:
        return [(row, row.about) for row in rows if row.part in parts]

    def note(row: Row, cost: Cost) -> None:
        found[row] = cost
        told = "no time" if cost.seconds is None else f"{cost.seconds:.3g} s"
        passed = time.monotonic() - began
        log.info("rehearsal %4.0f s · %s, %s: %s", passed, row.part, row.shape, told)

    images, texts = measure_scorer(config, forecast.texts_a_caption)
    towers = {"features": measure_features(config), "scorer images": images, "scorer texts": texts}
    for row, _ in of(*towers):
        note(row, towers[row.part])
    trial = Trial(forecast)
    for row, shape in of("stage 1"):
        note(row, trial.step(shape))
    trial.add_adapters()
    for row, shape in of("stage 2"):
        note(row, trial.step(shape))
    for row, connector in of("validation"):
        note(row, trial.validation(connector))
    looked_at = max(1, min(clips["selection"], training.quick_clips))
    for row, connector in of("quick captions"):
        note(row, trial.captions(connector, looked_at, training.quick_tokens))
    trial.prepare_captions()
    longest = config.captions.max_new_tokens
    for row, connector in of("captions"):
        note(row, trial.captions(connector, clips["report"], tokens, longest))
    for row, connector in of("conditions"):
        note(row, trial.conditions(connector))
    return found


# ---- A stopwatch and a memory gauge around a piece of work.


@dataclass
class Meter:
    """What a block cost; ``seconds`` is set within it."""

    seconds: float | None = None
    gib: float | None = None
    problem: str | None = None

    @property
    def cost(self) -> Cost:
        """What was found."""
        return Cost(self.seconds, self.gib, self.problem)


@contextmanager
def measured(device: torch.device) -> Iterator[Meter]:
    """Note the peak of GPU memory; running out of it is a finding, not an end."""
    meter = Meter()
    on_gpu = device.type == "cuda"
    if on_gpu:
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    try:
        yield meter
    except torch.cuda.OutOfMemoryError:
        meter.problem = "does not fit this GPU's memory"
    except StudyError as error:
        # The memory plan says so in its own words.
        if "memory" not in str(error):
            raise
        meter.problem = str(error)
    finally:
        if on_gpu:
            meter.gib = torch.cuda.max_memory_allocated(device) / GIB


def clock(work: Callable[[], Any], times: int, device: torch.device) -> float:
    """Seconds that ``work`` takes, mean of ``times``; a GPU finishes what it was given."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    wait()
    began = time.perf_counter()
    for _ in range(times):
        work()
    wait()
    return (time.perf_counter() - began) / times


# ---- The language model behind each projector: training, validation, captions.


class _NoTokenizer:
    """Stands in where the tokenizer is not at hand: what captions say does not matter here."""

    def decode(self, ids: Sequence[int], **options: Any) -> str:
        return " ".join(map(str, ids))


class Trial:
    """A frozen LLM of random weights on the device, in front of which projectors are exchanged.

    One LLM serves all projectors, so that it is made once and its layers are compiled once.
    """

    def __init__(self, forecast: Forecast) -> None:
        self.config, self.models = forecast.config, forecast.models
        self.dataset, self.layout = forecast.dataset, forecast.layout
        self.tokenizer: Any = forecast.tokenizer or _NoTokenizer()
        self.accelerator = use_device(forecast.config.runtime)
        self.device = self.accelerator.device
        self.plans: dict[tuple[int, Connector], MemoryPlan] = {}
        self._load()

    def _load(self) -> None:
        self.llm = load_llm(self.config.llm.model_copy(update={"weights": "random"}), self.device)
        self._unpacked = False

    def _adapt(self) -> None:
        torch.manual_seed(0)
        self.llm = add_lora(self.llm, self.config.llm.lora)

    def add_adapters(self) -> None:
        """From now on the LLM is stage 2's."""
        self._adapt()
        # Else stage 1's variants of a compiled layer would count against the limit of stage 2's.
        torch.compiler.reset()

    def prepare_captions(self) -> None:
        """From now on the LLM is what captions are written with; it cannot be trained on."""
        limit = self.config.runtime.memory_gb
        self.llm = weights_for_captions(self.llm, self.config.llm, limit)

    def model(self, connector: Connector) -> VisionLanguageModel:
        """The LLM behind a fresh projector of this kind."""
        torch.manual_seed(0)
        projector = self.models.projector(connector, self.config.vision.frames, "cpu")
        model = VisionLanguageModel(projector, self.llm, self.layout).to(self.device)
        model.calibrate(
            self.features(1).to(self.device), self.config.training.output_scale == "embedding"
        )
        return model

    def step(self, shape: StageShape) -> Cost:
        """An optimizer step of this shape, after a short one that warms kernels and moments up."""
        with measured(self.device) as meter:
            settings = self.config.stage1 if shape.stage == 1 else self.config.stage2
            model, plan = self._planned(shape)
            trainable = model.trainable()
            optimizer = make_optimizer(model, settings)
            model.train()
            captions = self._captions(shape.batch * shape.accumulation)
            clips_a_pass = min(shape.batch, plan.forward_clips)
            passes = forward_passes([len(caption) for caption in captions], clips_a_pass)
            pool = self.features(max(map(len, passes)))

            def take(some: list[list[int]]) -> None:
                tokens = sum(len(captions[i]) for rows in some for i in rows)
                with prefetched(some, lambda rows: pool[: len(rows)], self.device) as features:
                    optimizer_step(
                        model,
                        ((next(features), [captions[i] for i in rows]) for rows in some),
                        tokens,
                        optimizer,
                        list(trainable.values()),
                        self.accelerator,
                        settings.max_grad_norm,
                    )

            take(passes[:1])
            a_pass = clock(lambda: take(passes[:1]), 1, self.device)
            # A slow device is timed on as many passes as are affordable.
            seconds = _STEP_SECONDS[self.device.type]
            timed = passes[: max(1, min(len(passes), int(seconds / a_pass)))]
            times = max(1, min(3, int(seconds / (4 * a_pass * len(timed)))))
            share = sum(len(rows) for rows in timed) / len(captions)
            if len(timed) > 1 or times > 1:
                a_pass = clock(lambda: take(timed), times, self.device)
            meter.seconds = a_pass / share
        return meter.cost

    def validation(self, connector: Connector) -> Cost:
        """One clip's forward pass without gradient, in a batch."""
        with measured(self.device) as meter:
            model = self.model(connector).eval()
            clips = min(_LOSS_CLIPS, self.config.runtime.eval_batch_clips)
            if plan := self.plans.get((2, connector)):
                clips = min(clips, plan.eval_clips)
            pool, captions = self.features(clips), self._captions(clips)

            def forward() -> None:
                caption_losses(model, lambda rows: pool[rows], captions, clips, self.accelerator)

            forward()
            meter.seconds = clock(forward, 2, self.device) / clips
        return meter.cost

    def conditions(self, connector: Connector) -> Cost:
        """One clip's losses under every condition, prompts read once where the model allows."""
        with measured(self.device) as meter:
            model = self.model(connector).eval()
            clips = min(_LOSS_CLIPS, self.config.runtime.eval_batch_clips)
            pool, captions = self.features(clips), self._captions(clips)
            shuffles = self.config.captions.shuffles

            def read() -> None:
                for tries in (1 + shuffles, 1):
                    if can_share_prompts(model):
                        tried = [[caption] * tries for caption in captions]
                        losses_under_videos(model, lambda rows: pool[rows], tried, clips)
                        continue
                    for _ in range(tries):
                        caption_losses(
                            model, lambda rows: pool[rows], captions, clips, self.accelerator
                        )

            read()
            meter.seconds = clock(read, 1, self.device) / clips
        return meter.cost

    def captions(
        self, connector: Connector, clips: int, tokens: int, budget: int | None = None
    ) -> Cost:
        """One caption of ``tokens`` tokens, of ``clips`` captioned together as memory allows.

        From one short run: a clip's share of reading prompts and of a decoding step a token. There
        must be room for ``budget`` tokens; None: ``tokens``.
        """
        settings = self.config.captions
        with measured(self.device) as meter:
            model = self.model(connector).eval()
            features = self.features(1)
            batch = self._caption_batch(model, clips, budget or tokens)

            def write(new_tokens: int, rows: int) -> Timings:
                timings = Timings()
                generate_captions(
                    model,
                    self.tokenizer,
                    [str(i) for i in range(rows)],
                    lambda ids: features.expand(len(ids), -1, -1, -1),
                    max_new_tokens=new_tokens,
                    batch_size=rows,
                    repetition_penalty=settings.repetition_penalty,
                    timings=timings,
                )
                return timings

            write(2, min(4, batch))
            timings = write(_NEW_TOKENS[self.device.type], batch)
            # Random weights may say EOS by chance: what counts is the steps that were taken.
            a_step = timings.decode_s / max(1, timings.steps)
            meter.seconds = (timings.prefill_s + tokens * a_step) / batch
        return meter.cost

    def _caption_batch(self, model: VisionLanguageModel, clips: int, budget: int) -> int:
        """Clips captioned together, as the study would choose with its whole budget of tokens."""
        given = self.config.captions.batch_size
        if given is not None:
            return min(clips, given)
        if self.device.type != "cuda":
            return min(clips, generate.CPU_ROWS)
        config: Any = self.llm.config
        itemsize = model.llm.get_input_embeddings().weight.dtype.itemsize  # type: ignore[operator]
        prompt = model.prompt_length(self.features(1))
        most = generate.rows_that_fit(
            free_bytes(self.device, self.config.runtime.memory_gb),
            generate.row_bytes(config, prompt + budget, itemsize),
            generate.prefill_bytes(config, prompt, itemsize),
        )
        return generate.split_evenly(clips, most)[0]

    def _planned(self, shape: StageShape) -> tuple[VisionLanguageModel, MemoryPlan]:
        """The model that a job of this shape would train, and its plan."""
        model = self.model(shape.connector)
        plan = self._plan(model, shape)
        if self._unpacked and (plan.recomputed or plan.forward_clips < shape.batch):
            # Weights that an earlier shape had room to unpack take room that this one needs, and
            # that its own job would have.
            del model, self.llm
            self._load()
            if shape.stage == 2:
                self._adapt()
            model = self.model(shape.connector)
            plan = self._plan(model, shape)
        self._unpacked |= plan.unpacked
        return model, plan

    def _plan(self, model: VisionLanguageModel, shape: StageShape) -> MemoryPlan:
        longest = self.caption(self.dataset.lengths[-1])
        plan = plan_memory(
            model,
            self.features(1).to(self.device),
            longest,
            shape.batch,
            self.config.runtime.eval_batch_clips,
            self.config.runtime,
            self.accelerator.autocast,
        )
        self.plans[shape.stage, shape.connector] = plan
        return plan

    def features(self, clips: int) -> Tensor:
        """bf16 ``[B, F, P, V]`` on the CPU, as a feature store gives them."""
        generator = torch.Generator().manual_seed(0)
        models = self.models
        shape = (clips, self.config.vision.frames, models.patches, models.vision_dim)
        return torch.randn(shape, generator=generator).bfloat16()

    def _captions(self, clips: int) -> list[tuple[int, ...]]:
        return [self.caption(length) for length in self.dataset.typical(clips)]

    def caption(self, length: int) -> tuple[int, ...]:
        """Token ids of one caption; which ones does not matter."""
        return (*(1 + i % 7 for i in range(length - 1)), self.layout.eos)


# ---- The frozen towers; decoding of clips apart.


def measure_features(config: Config) -> Cost:
    """One clip through a vision encoder of random weights, in a batch."""
    from siglip_study.features.towers import VisionEncoder

    vision, device = config.vision, pick_device(config.runtime.device)
    with measured(device) as meter:
        encoder = VisionEncoder(
            vision.model, vision.revision, vision.layer, device=device, weights="random"
        )
        clips = _clips(config.runtime, device)
        frames = _frames(clips, vision.frames, encoder.facts["image_size"])
        encoder.encode_prepared(frames)
        meter.seconds = clock(lambda: encoder.encode_prepared(frames), 2, device) / clips
    return meter.cost


def measure_scorer(config: Config, texts_a_caption: int) -> tuple[Cost, Cost]:
    """One clip's frames, and one caption's texts, through a scorer of random weights."""
    from siglip_study.features.scorer import Scorer

    settings, device = config.scorer, pick_device(config.runtime.device)
    with _with_tokenizer(settings) as (model, revision):
        with measured(device) as images:
            scorer = Scorer(model, revision, settings.lowercase, device=device, weights="random")
            clips = _clips(config.runtime, device)
            shown = _frames(clips, settings.frames, scorer.facts["image_size"])
            frames = np.stack([scorer.prepare(clip) for clip in shown])
            scorer.image_embeddings_prepared(frames)
            two = clock(lambda: scorer.image_embeddings_prepared(frames), 2, device)
            images.seconds = two / clips
        if images.problem:
            return images.cost, images.cost
        with measured(device) as texts:
            captions = max(1, (512 if device.type == "cuda" else 16) // texts_a_caption)
            some = [f"{i} 영상에는 빨간 공이 굴러간다." for i in range(captions * texts_a_caption)]
            scorer.text_embeddings(some)
            texts.seconds = clock(lambda: scorer.text_embeddings(some), 2, device) / captions
    return images.cost, texts.cost


@contextmanager
def _with_tokenizer(settings: ScorerConfig) -> Iterator[tuple[str, str | None]]:
    """The scorer if its tokenizer is at hand, else a folder of its sizes with a stand-in's.

    In the stand-in any word is one token: enough where texts are padded to one length anyway.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    model, revision = settings.model, settings.revision
    if is_folder(model) or cached_file(model, revision, "tokenizer_config.json") is not None:
        yield model, revision
        return
    words = Tokenizer(models.WordLevel({"<pad>": 0, "<unk>": 1}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    with tempfile.TemporaryDirectory() as folder:
        sizes = {
            "config.json": architecture(model, revision, "scorer.model"),
            "preprocessor_config.json": image_processor(model) or {},
        }
        for name, content in sizes.items():
            Path(folder, name).write_text(json.dumps(content), encoding="utf-8")
        PreTrainedTokenizerFast(
            tokenizer_object=words, pad_token="<pad>", unk_token="<unk>"
        ).save_pretrained(folder)
        yield folder, None


def _clips(runtime: RuntimeConfig, device: torch.device) -> int:
    """Clips encoded together; a CPU gains nothing from many."""
    return min(runtime.encode_batch_clips, 16 if device.type == "cuda" else 2)


def _frames(clips: int, frames: int, size: list[int]) -> Any:
    return np.zeros((clips, frames, size[0], size[1], 3), dtype=np.uint8)
