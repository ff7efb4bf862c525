"""What merging the adapters into bf16 weights, and replaying recorded steps, costs in exactness.

Both are judged by the same model in fp32: the distributions of its next tokens, and how much less
likely than its own choice it finds each token that greedy decoding chose.
"""

from __future__ import annotations

import copy
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import nn

from benchmarks import inputs
from benchmarks.exactness import adapter_rounding
from benchmarks.inputs import FULL, Size
from benchmarks.tables import Result, Table
from siglip_study.captioning.generate import generate_captions
from siglip_study.captioning.weights import weights_for_captions
from siglip_study.config.training import LlmConfig
from siglip_study.models.llm import add_lora
from siglip_study.models.vlm import VisionLanguageModel


@dataclass(frozen=True)
class Work:
    """How much is compared."""

    clips: int
    tokens: int
    judged: int  # captions whose distributions are compared


def work_of(size: Size) -> Work:
    """Captions long enough to cross the bounds of recorded steps."""
    return Work(12, 200, 4) if size is FULL else Work(4, 8, 2)


def run(size: Size, device: torch.device) -> Result:
    """Compare adapters merged and apart, and decoding recorded and step by step."""
    work = work_of(size)
    llm = add_lora(inputs.llm(size, device), size.lora)
    inputs.set_lora(llm, 0.01)
    features = inputs.MadeFeatures(size, work.clips)
    model = inputs.vlm(size, "linear", llm).eval()
    captions = decode(model, features, work.judged, min(60, work.tokens), graphs=False)
    result = Result([_rounding(model, features, captions)])
    llm = weights_for_captions(model.llm, LlmConfig(quantization="nf4", lora=size.lora))
    result.tables.append(_recording(size, llm, features, work))
    return result


def _rounding(
    model: VisionLanguageModel, features: inputs.MadeFeatures, captions: list[list[int]]
) -> Table:
    ids = [str(i) for i in range(len(captions))]
    found = adapter_rounding(model, features.batch(ids), captions)
    table = Table(
        "Adapters in bf16, against the same model in fp32",
        ["adapters", "KL, nats a token", "loss", "largest", "same likeliest token"],
        [[name, *astuple(difference)] for name, difference in found.items()],
    )
    table.notes = [
        f"Teacher-forced on {len(captions)} captions at {model.prompt_length(features.batch(ids))} "
        "prompt positions; *absent* says how much the adapters matter. Merging is harmless where "
        "its row is no larger than that of adapters kept apart."
    ]
    return table


def _recording(size: Size, llm: nn.Module, features: inputs.MadeFeatures, work: Work) -> Table:
    # Not Module.float: transformers refuses it once a model has been NF4.
    exact = nn.Module.float(copy.deepcopy(llm))
    table = Table(
        "Greedy decoding, judged in fp32",
        ["projector", "steps", "regret, nats a token", "largest", "in the last quarter"],
    )
    for case in size.cases:
        for graphs in (False, True):
            model = inputs.vlm(size, case.projector, llm).eval()
            captions = decode(model, features, work.clips, work.tokens, graphs=graphs)
            model.llm = exact
            regret = _regret(model, features, captions)
            last = regret[:, -max(1, work.tokens // 4) :]
            name = "recorded" if graphs else "one by one"
            row = [float(regret.mean()), float(regret.max()), float(last.mean())]
            table.rows.append([case.projector, name, *row])
    table.notes = [
        f"{work.clips} captions of {work.tokens} tokens. Regret: log-probability, in fp32, of the "
        "likeliest token less that of the chosen one. It is rounding where both ways of decoding "
        "have about the same; a wrong mask or position would multiply it."
    ]
    return table


@torch.no_grad()
def _regret(
    model: VisionLanguageModel, features: inputs.MadeFeatures, captions: list[list[int]]
) -> torch.Tensor:
    """``[captions, tokens]`` nats."""
    device = model.feature_scale.device
    rows = []
    for i, caption in enumerate(captions):
        prompt = model.prompt_embeddings(features.batch([str(i)]).to(device)).float()
        fed = model.embed([caption[:-1]]).float()
        hidden: Any = model.backbone(inputs_embeds=torch.cat([prompt, fed], 1), use_cache=False)
        logits = model.head(hidden.last_hidden_state[0, prompt.shape[1] - 1 :]).float()
        chosen = torch.tensor(caption, device=device)[:, None]
        rows.append(logits.amax(dim=1) - logits.gather(1, chosen)[:, 0])
    return torch.stack(rows).cpu()


def decode(
    model: VisionLanguageModel,
    features: inputs.MadeFeatures,
    clips: int,
    tokens: int,
    *,
    graphs: bool,
) -> list[list[int]]:
    """Token ids of greedy captions, which never end early here."""
    made = generate_captions(
        model,
        inputs.NoTokenizer(),
        [str(i) for i in range(clips)],
        features.batch,
        max_new_tokens=tokens,
        graphs=graphs,
    )
    return [[int(token) for token in caption.text.split()] for caption in made]
