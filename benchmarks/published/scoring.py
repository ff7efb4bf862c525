"""The published SigLIP score: for every caption, its frames and its text through the whole model.

Its frames were also read, resized and normalised anew for every caption, with a processor loaded
anew; that is left out here, in its favour.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


@torch.no_grad()
def score_one(model: Any, tokenizer: Any, pixels: Tensor, caption: str) -> float:
    """Mean over frames ``[F, 3, h, w]`` of the sigmoid of their logit with the caption.

    The text is cut at 64 tokens and not padded.
    """
    device = next(model.parameters()).device
    text = tokenizer([caption], truncation=True, max_length=64, return_tensors="pt")
    logits = model(
        input_ids=text["input_ids"].to(device), pixel_values=pixels.to(device)
    ).logits_per_image
    return float(torch.sigmoid(logits).mean())
