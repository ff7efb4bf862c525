"""The published training step.

NF4 base prepared for k-bit training (embeddings, norms and head raised to fp32, every layer
checkpointed), adapters attached from the first stage on, mixed precision with a gradient scaler,
each caption padded to the limit under a 2-D attention mask, and the loss from the logits of every
position, in fp32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from siglip_study.config.training import LoraConfig
from siglip_study.models.llm import PromptLayout


def prepare_llm(llm: Any, lora: LoraConfig) -> nn.Module:
    """Raise what is not 4-bit to fp32, checkpoint every layer, attach adapters."""
    from peft import LoraConfig as PeftLoraConfig
    from peft import get_peft_model, prepare_model_for_kbit_training

    # peft goes by this mark, which a model built without a checkpoint may lack.
    llm.is_loaded_in_4bit = True
    prepared = prepare_model_for_kbit_training(
        llm,
        use_gradient_checkpointing=True,
        gradient_checkpointing_kwargs={"use_reentrant": False},
    )
    return get_peft_model(
        prepared,
        PeftLoraConfig(
            r=lora.r,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=list(lora.targets),
            task_type="CAUSAL_LM",
        ),
    )


class PublishedTrainer:
    """Projector, LLM and optimizer of one stage."""

    def __init__(
        self,
        projector: nn.Module,
        llm: Any,
        layout: PromptLayout,
        stage: int,
        caption_limit: int,
        device: torch.device,
        learning_rate: float = 1e-4,
    ) -> None:
        self.projector = projector.to(device).train()
        self.llm = llm.train()
        self.layout, self.caption_limit, self.device = layout, caption_limit, device
        for name, parameter in llm.named_parameters():
            parameter.requires_grad_(stage == 2 and "lora_" in name)
        self.trainable = [
            p for module in (projector, llm) for p in module.parameters() if p.requires_grad
        ]
        self.optimizer = torch.optim.AdamW(self.trainable, lr=learning_rate)
        self.scaler = torch.amp.GradScaler(device.type, enabled=device.type == "cuda")

    def loss(self, features: Tensor, captions: Sequence[Sequence[int]]) -> Tensor:
        """Mean cross-entropy of the captions (the LLM's own, through ``labels``)."""
        rows, device = len(captions), self.device
        embed = self.llm.get_input_embeddings()
        ids = torch.full((rows, self.caption_limit), self.layout.pad)
        real = torch.zeros((rows, self.caption_limit), dtype=torch.long)
        for row, caption in enumerate(captions):
            ids[row, : len(caption)] = torch.tensor(caption)
            real[row, : len(caption)] = 1
        ids, real = ids.to(device), real.to(device)
        before = torch.tensor([self.layout.before] * rows, device=device)
        after = torch.tensor([self.layout.after] * rows, device=device)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            video = self.projector(features.to(device).float())
            embeds = torch.cat([embed(before), video, embed(after), embed(ids)], dim=1)
            prompt = embeds.shape[1] - self.caption_limit
            ones = torch.ones((rows, prompt), dtype=torch.long, device=device)
            return self.llm(
                inputs_embeds=embeds,
                attention_mask=torch.cat([ones, real], dim=1),
                labels=torch.cat([-100 * ones, ids.masked_fill(real == 0, -100)], dim=1),
                use_cache=False,
            ).loss

    def step(self, features: Tensor, captions: Sequence[Sequence[int]]) -> float:
        """One optimizer step; returns its loss."""
        loss = self.loss(features, captions)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.trainable, 1.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        return float(loss.detach())
