"""Real steps of each distinct shape, timed on this machine with random weights.

Nothing here models the work: losses, gradients, optimizer, memory plan and captions are those of
the study's own code.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from siglip_study.captioning import generate
from siglip_study.captioning.generate import Timings, generate_captions
from siglip_study.captioning.losses import can_share_prompts, losses_under_videos
from siglip_study.captioning.weights import weights_for_captions
from siglip_study.config.study import Config
from siglip_study.models.devices import free_bytes
from siglip_study.models.llm import PromptLayout, add_lora, load_llm
from siglip_study.models.vlm import VisionLanguageModel
from siglip_study.planning.dataset import Dataset
from siglip_study.planning.facts import ModelFacts
from siglip_study.planning.rows import Cost, measured, wait
from siglip_study.planning.workload import Connector, StageShape
from siglip_study.runs.clips import prefetched
from siglip_study.runs.losses import caption_losses, forward_passes
from siglip_study.runs.run import use_device
from siglip_study.training.memory import MemoryPlan, plan_memory
from siglip_study.training.step import make_optimizer, optimizer_step, parameter_groups

#: New tokens of the run that times captions; on a CPU every token counts alike.
_NEW_TOKENS = {"cuda": 40, "cpu": 6}
#: Seconds spent on timing one step, about.
_STEP_SECONDS = {"cuda": 12.0, "cpu": 0.5}
#: Clips of the forward pass that times losses, at most.
_LOSS_CLIPS = 8


class _NoTokenizer:
    """Stands in where the tokenizer is not at hand: what captions say does not matter here."""

    def decode(self, ids: Sequence[int], **options: Any) -> str:
        return " ".join(map(str, ids))


class Trial:
    """A frozen LLM of random weights on the device, in front of which projectors are exchanged.

    One LLM serves all projectors, so that it is made once and its layers are compiled once.
    """

    def __init__(
        self, config: Config, facts: ModelFacts, dataset: Dataset, layout: PromptLayout
    ) -> None:
        self.config = config
        self.facts = facts
        self.dataset = dataset
        self.layout = layout
        self.accelerator = use_device(config.runtime)
        self.device = self.accelerator.device
        self._plans: dict[tuple[int, Connector], MemoryPlan] = {}
        self._load(stage=1)

    def _load(self, stage: int) -> None:
        self.llm = load_llm(self.config.llm.model_copy(update={"weights": "random"}), self.device)
        self._unpacked = False
        if stage == 2:
            torch.manual_seed(0)
            self.llm = add_lora(self.llm, self.config.llm.lora)

    def add_adapters(self) -> None:
        """From now on the LLM is stage 2's."""
        torch.manual_seed(0)
        self.llm = add_lora(self.llm, self.config.llm.lora)
        # Else stage 1's variants of a compiled layer would count against the limit of stage 2's.
        torch.compiler.reset()

    def prepare_captions(self) -> None:
        """From now on the LLM is what captions are written with; it cannot be trained on."""
        limit = self.config.runtime.memory_gb
        self.llm = weights_for_captions(self.llm, self.config.llm, limit)

    def model(self, connector: Connector) -> VisionLanguageModel:
        """The LLM behind a fresh projector of this kind."""
        torch.manual_seed(0)
        projector = self.facts.projector(connector, self.config.vision.frames, "cpu")
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
            no_decay = {f"projector.{n}" for n in model.projector.no_decay_parameters()}
            optimizer = make_optimizer(parameter_groups(trainable, no_decay, settings), self.device)
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
            a_pass = self._clock(lambda: take(passes[:1]), 1)
            # A slow device is timed on as many passes as are affordable.
            seconds = _STEP_SECONDS[self.device.type]
            timed = passes[: max(1, min(len(passes), int(seconds / a_pass)))]
            times = max(1, min(3, int(seconds / (4 * a_pass * len(timed)))))
            share = sum(len(rows) for rows in timed) / len(captions)
            if len(timed) > 1 or times > 1:
                a_pass = self._clock(lambda: take(timed), times)
            meter.seconds = a_pass / share
        return meter.cost

    def validation(self, connector: Connector) -> Cost:
        """One clip's forward pass without gradient, in a batch."""
        with measured(self.device) as meter:
            model = self.model(connector).eval()
            clips = min(_LOSS_CLIPS, self.config.runtime.eval_batch_clips)
            plan = self._plans.get((2, connector))
            clips = clips if plan is None else min(clips, plan.eval_clips)
            pool, captions = self.features(clips), self._captions(clips)

            def forward() -> None:
                caption_losses(model, lambda rows: pool[rows], captions, clips, self.accelerator)

            forward()
            meter.seconds = self._clock(forward, 2) / clips
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
            meter.seconds = self._clock(read, 1) / clips
        return meter.cost

    def captions(
        self,
        connector: Connector,
        tokenizer: Any,
        clips: int,
        tokens: int,
        budget: int | None = None,
    ) -> Cost:
        """One caption of ``tokens`` tokens, of ``clips`` captioned together as memory allows.

        From one short run: a clip's share of reading prompts and of a decoding step a token.

        Args:
            connector: kind of projector.
            tokenizer: the LLM's, or None.
            clips: clips of the split.
            tokens: expected length of a caption.
            budget: most tokens there must be room for; None: ``tokens``.
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
                    tokenizer or _NoTokenizer(),
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
            self._load(shape.stage)
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
        self._plans[shape.stage, shape.connector] = plan
        return plan

    def plan_of(self, shape: StageShape) -> MemoryPlan:
        """The memory plan that a step of this shape was timed with."""
        return self._plans[shape.stage, shape.connector]

    def features(self, clips: int) -> Tensor:
        """bf16 ``[B, F, P, V]`` on the CPU, as a feature store gives them."""
        generator = torch.Generator().manual_seed(0)
        facts = self.facts
        shape = (clips, self.config.vision.frames, facts.patches, facts.vision_dim)
        return torch.randn(shape, generator=generator).bfloat16()

    def _captions(self, clips: int) -> list[tuple[int, ...]]:
        return [self.caption(length) for length in self.dataset.typical(clips)]

    def caption(self, length: int) -> tuple[int, ...]:
        """Token ids of one caption; which ones does not matter."""
        return (*(1 + i % 7 for i in range(length - 1)), self.layout.eos)

    def _clock(self, work: Callable[[], None], times: int) -> float:
        wait(self.device)
        began = time.perf_counter()
        for _ in range(times):
            work()
        wait(self.device)
        return (time.perf_counter() - began) / times
