"""The published training step, as the study's notebooks take it.

NF4 base prepared for k-bit training (embeddings, norms and head raised to fp32, every layer
checkpointed), adapters attached from the first stage on, bf16 autocast with a gradient scaler, fp32
features copied to the GPU when they are needed, projected clip by clip and put into a padded fp32
tensor, prompt and caption padded together to the limit under a 2-D attention mask, the loss from
the logits of every position, read from the GPU after every step; the optimizer moves every second
time. Reading the next batch from disk is left out, in its favour.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from siglip_study.config.training import LoraConfig
from siglip_study.models.llm import PromptLayout

ACCUMULATION = 2


def prepare_llm(llm: Any, lora: LoraConfig) -> nn.Module:
    """Raise what is not 4-bit to fp32, checkpoint every layer, attach adapters."""
    from peft import LoraConfig as PeftLoraConfig
    from peft import get_peft_model, prepare_model_for_kbit_training

    # peft goes by this mark, which a model built without a checkpoint may lack.
    llm.is_loaded_in_4bit = True
    prepared = prepare_model_for_kbit_training(llm)
    adapted: Any = get_peft_model(
        prepared,
        PeftLoraConfig(
            r=lora.r,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=list(lora.targets),
            task_type="CAUSAL_LM",
            bias="none",
        ),
    )
    adapted.config.use_cache = False
    adapted.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model: nn.Module = adapted
    return model


class PublishedTrainer:
    """Projector, LLM and optimizer of one stage.

    The prompt is ``layout.before``, the video, ``layout.after`` and the caption; the published one
    has nothing before the video and its question behind it.
    """

    def __init__(
        self,
        projector: nn.Module,
        llm: Any,
        layout: PromptLayout,
        stage: int,
        text_limit: int,
        device: torch.device,
        learning_rate: float = 1e-4,
    ) -> None:
        self.projector = projector.to(device).train()
        self.llm = llm.train()
        self.layout, self.text_limit, self.device = layout, text_limit, device
        for name, parameter in llm.named_parameters():
            parameter.requires_grad_(stage == 2 and "lora_" in name)
        self.trainable = [
            p for module in (projector, llm) for p in module.parameters() if p.requires_grad
        ]
        self.optimizer = torch.optim.AdamW(self.trainable, lr=learning_rate)
        self.scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda")
        self.taken = 0

    def text(self, captions: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor, Tensor]:
        """Token ids, attention mask and labels, each ``[B, limit]``, as the data loader has them.

        The published loader cuts what is longer; here that is an error.
        """
        shape = (len(captions), self.text_limit)
        ids, real = torch.full(shape, self.layout.pad), torch.zeros(shape, dtype=torch.long)
        labels, start = torch.full(shape, -100), len(self.layout.after)
        for row, caption in enumerate(captions):
            whole = torch.tensor([*self.layout.after, *caption])
            ids[row, : len(whole)], real[row, : len(whole)] = whole, 1
            labels[row, start : len(whole)] = whole[start:]
        return ids, real, labels

    def loss(self, vision: Tensor, ids: Tensor, real: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of the captions (the LLM's own, through ``labels``).

        ``vision`` is fp32 ``[B, F, P, V]``.
        """
        device, rows = vision.device, len(vision)
        video = [self.projector(clip[None])[0] for clip in vision]
        texts = self.llm.get_input_embeddings()(ids)
        length = video[0].shape[0] + ids.shape[1]
        embeds = torch.zeros(rows, length, texts.shape[-1], device=device)
        mask = torch.zeros(rows, length, device=device)
        targets = torch.full((rows, length), -100, device=device)
        for row in range(rows):
            shown = len(video[row])
            embeds[row] = torch.cat([video[row], texts[row]])
            mask[row] = torch.cat([torch.ones(shown, device=device), real[row]])
            targets[row, shown:] = labels[row]
        found: Tensor = self.llm(
            inputs_embeds=embeds, attention_mask=mask, labels=targets, return_dict=True
        ).loss
        return found

    def step(self, features: Tensor, captions: Sequence[Sequence[int]]) -> float:
        """One forward and backward pass on fp32 features on the CPU; returns its loss."""
        ids, real, labels = self.text(captions)
        device = self.device
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = self.loss(
                features.to(device), ids.to(device), real.to(device), labels.to(device)
            )
        self.scaler.scale(loss).backward()
        self.taken += 1
        if self.taken % ACCUMULATION == 0:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.trainable, 1.0)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad()
        return loss.item()
