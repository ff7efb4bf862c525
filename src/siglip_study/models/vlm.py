"""Projector and LLM as one model: embeddings of a sequence, and the loss on its caption."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from siglip_study.base.errors import StudyError
from siglip_study.models.families import logit_factor
from siglip_study.models.fast_layers import bare_llm, head_cross_entropy
from siglip_study.models.llm import PromptLayout, embedding_rms
from siglip_study.projectors.base import Projector


class VisionLanguageModel(nn.Module):
    """A projector in front of a frozen causal LM.

    Features are divided by their RMS, and the projector's output is scaled so that, at
    initialisation, it has the RMS of the LLM's own token embeddings (these differ eightfold between
    models). Both factors are buffers: part of the checkpoint, never trained.
    """

    feature_scale: Tensor
    output_scale: Tensor
    projector: Projector

    def __init__(self, projector: Projector, llm: nn.Module, layout: PromptLayout) -> None:
        super().__init__()
        self.projector = projector
        self.llm = llm
        self.layout = layout
        self.register_buffer("feature_scale", torch.ones(()))
        self.register_buffer("output_scale", torch.ones(()))

    @torch.no_grad()
    def calibrate(self, features: Tensor, match_embeddings: bool) -> None:
        """Fix both factors on first training features ``[B, F, P, V]``.

        Raises:
            StudyError: the features, or the projector's outputs, are all zero.
        """
        # Clip by clip: all outputs at once would need more memory than a training step.
        squares = torch.stack([clip.float().pow(2).mean() for clip in features])
        self.feature_scale.copy_(_inverse_rms(squares, "vision features"))
        if match_embeddings:
            scaled = (clip[None].float() * self.feature_scale for clip in features)
            squares = torch.stack([self.projector(clip).float().pow(2).mean() for clip in scaled])
            inverse = _inverse_rms(squares, f"outputs of {type(self.projector).__name__}")
            self.output_scale.copy_(embedding_rms(self.llm) * inverse)

    def video_embeddings(self, features: Tensor) -> Tensor:
        """``[B, F, P, V]`` features → ``[B, T, L]`` embeddings in the projector's dtype."""
        weight = next(self.projector.parameters())
        tokens: Tensor = self.projector(features.to(weight.dtype) * self.feature_scale)
        return tokens * self.output_scale

    def prompt_embeddings(self, features: Tensor) -> Tensor:
        """``[B, F, P, V]`` → ``[B, S, L]``: the chat template with the video inside."""
        video = self.video_embeddings(features)
        before, after = (
            self.embed([ids] * len(video)) for ids in (self.layout.before, self.layout.after)
        )
        return torch.cat([before, video, after], dim=1).to(self.embedding.weight.dtype)

    def prompt_length(self, features: Tensor) -> int:
        """Positions of the prompt of one clip of ``[B, F, P, V]``, the video's tokens included."""
        video = self.projector.tokens_per_video(features.shape[1])
        return len(self.layout.before) + video + len(self.layout.after)

    def caption_loss(
        self, features: Tensor, captions: Sequence[Sequence[int]]
    ) -> tuple[Tensor, Tensor]:
        """Summed loss and number of target tokens, each ``[B]``.

        ``captions`` are token ids that end in EOS. Rows are padded on the right, so causal
        attention needs no mask: a real token never sees padding. Logits are made at caption
        positions only.
        """
        prompt = self.prompt_embeddings(features)
        longest = _padded(max(len(caption) for caption in captions), prompt)
        pad = self.layout.pad
        padded = [list(caption) + [pad] * (longest - len(caption)) for caption in captions]
        # Which positions hold a target is known without asking the GPU, which need not wait.
        counts = torch.tensor([len(caption) for caption in captions])
        rows = torch.arange(len(captions)).repeat_interleave(counts)
        real = torch.cat([row * longest + torch.arange(n) for row, n in enumerate(counts.tolist())])
        targets = torch.tensor([token for caption in captions for token in caption])
        lengths, rows, real, targets = (
            _send(numbers, prompt.device) for numbers in (counts, rows, real, targets)
        )

        # The last token of a row predicts nothing, so it is not fed.
        inputs = torch.cat([prompt, self.embed([row[:-1] for row in padded])], dim=1)
        hidden = self.backbone(inputs_embeds=inputs, use_cache=False).last_hidden_state
        # Position i predicts i + 1: the prompt's last position predicts the caption's first token.
        hidden = hidden[:, prompt.shape[1] - 1 :].flatten(0, 1)
        losses = head_cross_entropy(hidden[real], self.head, targets, self.logit_factor)
        per_clip = torch.zeros(len(captions), device=hidden.device).index_add(0, rows, losses)
        return per_clip, lengths

    @torch.no_grad()
    def computes_numbers(self) -> bool:
        """Whether the frozen language model alone gives finite logits of its prompt."""
        bare = getattr(self.llm, "disable_adapter", nullcontext)
        with bare():
            prompt = self.embed([self.layout.blind])
            states = self.backbone(inputs_embeds=prompt, use_cache=False).last_hidden_state
            return bool(torch.isfinite(self.head(states)).all())

    def trainable(self) -> dict[str, nn.Parameter]:
        """Name → parameter of what trains now: the projector, and adapters once they are there."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    @property
    def causal_lm(self) -> Any:
        """The language model without peft's wrapper."""
        return bare_llm(self.llm)

    @property
    def backbone(self) -> Any:
        """Its layers, without the head."""
        return self.causal_lm.model

    @property
    def head(self) -> Any:
        """Hidden states → logits, up to :attr:`logit_factor`."""
        return self.causal_lm.get_output_embeddings()

    @property
    def logit_factor(self) -> float:
        """What the model multiplies the head's output by; above zero."""
        return logit_factor(self.causal_lm.config)

    @property
    def embedding(self) -> Any:
        """Token ids → embeddings."""
        return self.causal_lm.get_input_embeddings()

    def embed(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Token ids, rows of one length → ``[B, S, L]``."""
        ids = _send(torch.tensor(rows, dtype=torch.long), self.embedding.weight.device)
        embedded: Tensor = self.embedding(ids)
        return embedded


def _send(numbers: Tensor, device: torch.device) -> Tensor:
    """Copy to a GPU without waiting for the work that is queued there."""
    if device.type != "cuda":
        return numbers.to(device)
    return numbers.pin_memory().to(device, non_blocking=True)


def _padded(longest: int, prompt: Tensor) -> int:
    """Caption positions to pad to: on a GPU, of a whole sequence of a multiple of 64.

    Attention kernels are planned for each length they meet, and work in tiles.
    """
    fed = prompt.shape[1] + longest - 1  # the last token of a caption is not
    return longest + -fed % 64 if prompt.device.type == "cuda" else longest


def _inverse_rms(squares: Tensor, what: str) -> Tensor:
    rms = squares.mean().sqrt()
    if not (torch.isfinite(rms) and rms > 0):
        raise StudyError(f"the {what} have an RMS of {float(rms)}; expected one above zero.")
    return 1.0 / rms
