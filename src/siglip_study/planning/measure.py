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
from functools import cache
from pathlib import Path
from types import SimpleNamespace
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
from siglip_study.runs.clips import caption_losses, forward_passes, prefetched
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
    found: dict[Row, Cost] = {}
    began = time.monotonic()

    def note(part: str, cost_of: Callable[[Any], Cost]) -> None:
        for row in rows:
            if row.part == part:
                cost = found[row] = cost_of(row.about)
                told = "no time" if cost.seconds is None else f"{cost.seconds:.3g} s"
                passed = time.monotonic() - began
                log.info("rehearsal %4.0f s · %s, %s: %s", passed, part, row.shape, told)

    images, texts = measure_scorer(config, forecast.texts_a_caption)
    encoding = measure_features(config)
    note("features", lambda _: encoding)
    note("scorer images", lambda _: images)
    note("scorer texts", lambda _: texts)
    trial = Trial(forecast)

    def timed(part: str, seconds: Callable[[Any], float]) -> None:
        note(part, lambda about: measured(trial.device, lambda: seconds(about)))

    timed("stage 1", trial.step)
    trial.add_adapters()
    timed("stage 2", trial.step)
    timed("validation", trial.validation)
    quick = max(1, min(clips["selection"], config.training.quick_clips))
    timed("quick captions", lambda c: trial.captions(c, quick, forecast.quick_tokens))
    trial.prepare_captions()
    tokens, budget = forecast.caption_tokens, config.captions.max_new_tokens
    timed("captions", lambda c: trial.captions(c, clips["report"], tokens, budget))
    timed("conditions", trial.conditions)
    return found


def measured(device: torch.device, work: Callable[[], float]) -> Cost:
    """The seconds that ``work`` returns, with its peak of GPU memory.

    Running out of that memory is a finding, not an end.
    """
    on_gpu, seconds, problem = device.type == "cuda", None, None
    if on_gpu:
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    try:
        seconds = work()
    except torch.cuda.OutOfMemoryError:
        problem = "does not fit this GPU's memory"
    except StudyError as error:
        # The memory plan says so in its own words.
        if "memory" not in str(error):
            raise
        problem = str(error)
    return Cost(seconds, torch.cuda.max_memory_allocated(device) / GIB if on_gpu else None, problem)


def clock(work: Callable[[], Any], times: int, device: torch.device, warm: bool = False) -> float:
    """Seconds that ``work`` takes, mean of ``times``, after one that counts not unless ``warm``."""
    if not warm:
        work()
    # A GPU finishes what it was given.
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda _: None
    wait(device)
    began = time.perf_counter()
    for _ in range(times):
        work()
    wait(device)
    return (time.perf_counter() - began) / times


# ---- The language model behind each projector: training, validation, captions.


class Trial:
    """A frozen LLM of random weights on the device, in front of which projectors are exchanged.

    One LLM serves all projectors, so that it is made once and its layers are compiled once.
    """

    def __init__(self, forecast: Forecast) -> None:
        self.config, self.models = forecast.config, forecast.models
        self.dataset, self.layout = forecast.dataset, forecast.layout
        # What captions say does not matter here.
        stand_in = SimpleNamespace(decode=lambda ids, **_: " ".join(map(str, ids)))
        self.tokenizer: Any = forecast.tokenizer or stand_in
        self.accelerator = use_device(forecast.config.runtime)
        self.device = self.accelerator.device
        self.plans: dict[tuple[int, Connector], MemoryPlan] = {}
        self._load()

    def _load(self, adapted: bool = False) -> None:
        self.llm = load_llm(self.config.llm.model_copy(update={"weights": "random"}), self.device)
        self._unpacked = False
        if adapted:
            self._adapt()

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

    def step(self, shape: StageShape) -> float:
        """An optimizer step of this shape, after a short one that warms kernels and moments up."""
        settings = self.config.stage1 if shape.stage == 1 else self.config.stage2
        model, plan = self._planned(shape)
        trainable = list(model.trainable().values())
        optimizer = make_optimizer(model, settings)
        model.train()
        captions = self._captions(shape.batch * shape.accumulation)
        clips_a_pass = min(shape.batch, plan.forward_clips)
        passes = forward_passes([len(caption) for caption in captions], clips_a_pass)
        pool = self.features(max(map(len, passes)))

        def take(some: list[list[int]]) -> None:
            tokens = sum(len(captions[i]) for rows in some for i in rows)
            with prefetched(some, lambda rows: pool[: len(rows)], self.device) as features:
                batches = ((next(features), [captions[i] for i in rows]) for rows in some)
                optimizer_step(
                    model,
                    batches,
                    tokens,
                    optimizer,
                    trainable,
                    self.accelerator,
                    settings.max_grad_norm,
                )

        seconds = clock(lambda: take(passes[:1]), 1, self.device)
        # A slow device is timed on as many passes as are affordable.
        budget = _STEP_SECONDS[self.device.type]
        timed = passes[: max(1, min(len(passes), int(budget / seconds)))]
        times = max(1, min(3, int(budget / (4 * seconds * len(timed)))))
        if len(timed) > 1 or times > 1:
            seconds = clock(lambda: take(timed), times, self.device, warm=True)
        return seconds * len(captions) / sum(len(rows) for rows in timed)

    def validation(self, connector: Connector) -> float:
        """One clip's forward pass without gradient, in a batch."""
        plan = self.plans.get((2, connector))
        model, pool, captions = self._some(connector, plan.eval_clips if plan else _LOSS_CLIPS)
        return clock(lambda: self._losses(model, pool, captions), 2, self.device) / len(captions)

    def conditions(self, connector: Connector) -> float:
        """One clip's losses under every condition, prompts read once where the model allows."""
        model, pool, captions = self._some(connector, _LOSS_CLIPS)

        def read() -> None:
            for tries in (1 + self.config.captions.shuffles, 1):
                if can_share_prompts(model):
                    tried = [[caption] * tries for caption in captions]
                    losses_under_videos(model, lambda rows: pool[rows], tried, len(captions))
                else:
                    for _ in range(tries):
                        self._losses(model, pool, captions)

        return clock(read, 1, self.device) / len(captions)

    def _some(
        self, connector: Connector, most: int
    ) -> tuple[VisionLanguageModel, Tensor, list[tuple[int, ...]]]:
        """The model, and features and captions of a batch whose losses are taken."""
        clips = min(_LOSS_CLIPS, self.config.runtime.eval_batch_clips, most)
        return self.model(connector).eval(), self.features(clips), self._captions(clips)

    def _losses(
        self, model: VisionLanguageModel, pool: Tensor, captions: list[tuple[int, ...]]
    ) -> None:
        caption_losses(model, lambda rows: pool[rows], captions, len(captions), self.accelerator)

    def captions(
        self, connector: Connector, clips: int, tokens: int, budget: int | None = None
    ) -> float:
        """One caption of ``tokens`` tokens, of ``clips`` captioned together as memory allows.

        From one short run: a clip's share of reading prompts and of a decoding step a token. There
        must be room for ``budget`` tokens; None: ``tokens``.
        """
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
                repetition_penalty=self.config.captions.repetition_penalty,
                timings=timings,
            )
            return timings

        write(2, min(4, batch))
        timings = write(_NEW_TOKENS[self.device.type], batch)
        # Random weights may say EOS by chance: what counts is the steps that were taken.
        a_step = timings.decode_s / max(1, timings.steps)
        return (timings.prefill_s + tokens * a_step) / batch

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
        while True:
            model = self.model(shape.connector)
            plan = plan_memory(
                model,
                self.features(1).to(self.device),
                self.caption(self.dataset.lengths[-1]),
                shape.batch,
                self.config.runtime.eval_batch_clips,
                self.config.runtime,
                self.accelerator.autocast,
            )
            if not self._unpacked or not (plan.recomputed or plan.forward_clips < shape.batch):
                break
            # Weights that an earlier shape had room to unpack take room that this one needs, and
            # that its own job would have.
            del model, self.llm
            self._load(adapted=shape.stage == 2)
        self.plans[shape.stage, shape.connector] = plan
        self._unpacked |= plan.unpacked
        return model, plan

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

    def encode() -> float:
        encoder = VisionEncoder(
            vision.model, vision.revision, vision.layer, device=device, weights="random"
        )
        frames = _frames(config.runtime, device, vision.frames, encoder.facts)
        return clock(lambda: encoder.encode_prepared(frames), 2, device) / len(frames)

    return measured(device, encode)


def measure_scorer(config: Config, texts_a_caption: int) -> tuple[Cost, Cost]:
    """One clip's frames, and one caption's texts, through a scorer of random weights."""
    from siglip_study.features.scorer import Scorer

    settings, device = config.scorer, pick_device(config.runtime.device)
    with _with_tokenizer(settings) as (model, revision):

        @cache
        def scorer() -> Scorer:
            return Scorer(model, revision, settings.lowercase, device=device, weights="random")

        def see() -> float:
            shown = _frames(config.runtime, device, settings.frames, scorer().facts)
            frames = np.stack([scorer().prepare(clip) for clip in shown])
            seconds = clock(lambda: scorer().encode_prepared(frames), 2, device)
            return seconds / len(frames)

        def read() -> float:
            captions = max(1, (512 if device.type == "cuda" else 16) // texts_a_caption)
            some = [f"{i} 영상에는 빨간 공이 굴러간다." for i in range(captions * texts_a_caption)]
            return clock(lambda: scorer().text_embeddings(some), 2, device) / captions

        images = measured(device, see)
        return images, images if images.problem else measured(device, read)


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


def _frames(runtime: RuntimeConfig, device: torch.device, n: int, facts: dict[str, Any]) -> Any:
    """Black clips ``[B, n, H, W, 3]``, encoded together; a CPU gains nothing from many."""
    clips = min(runtime.encode_batch_clips, 16 if device.type == "cuda" else 2)
    height, width = facts["image_size"]
    return np.zeros((clips, n, height, width, 3), dtype=np.uint8)
