"""What products in FP8 cost in exactness on real weights, beside what bf16 costs.

Run with: python -m benchmarks.fp8 <folder of an LLM> [--out results.json]

The same model in fp32 judges both: losses of captions, gradients that reach projector and adapters,
distributions of next tokens. All have the NF4 base that a study trains on. The "video" is text,
embedded by the LLM itself, as a projector that is well trained would give it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from benchmarks.exactness import compare
from benchmarks.inputs import set_lora
from benchmarks.run import facts, keep
from benchmarks.tables import Result, Table
from siglip_study import projectors
from siglip_study.config.training import LlmConfig, LoraConfig
from siglip_study.models.devices import pick_device
from siglip_study.models.fast_layers import decoder_layers
from siglip_study.models.llm import add_lora, load_llm, load_tokenizer, prompt_layout
from siglip_study.models.quantization import dequantize, names_of, replace, use_fp8
from siglip_study.models.vlm import VisionLanguageModel

DOCS = Path(__file__).parents[1] / "docs"
VIDEO_TOKENS = 128


@dataclass(frozen=True)
class Difference:
    """Of a way to compute, against fp32.

    ``loss``: of the mean loss a token (nats). ``cosine`` and ``error``: of the gradient of the
    projector, the latter relative in norm; ``lora_cosine``, ``lora_error``: of the adapters'.
    ``kl``: mean KL(fp32 ‖ this) of next tokens (nats). ``agreement``: share of tokens with the same
    most likely successor.
    """

    loss: float
    cosine: float
    error: float
    lora_cosine: float
    lora_error: float
    kl: float
    agreement: float


class RoundedLinear(nn.Linear):
    """A bf16 linear layer that sums in fp32, as a GPU does: CPUs take twenty times as long."""

    def __init__(self, layer: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.out_features, self.in_features = layer.weight.shape
        self.weight = layer.weight
        self.register_buffer("whole", layer.weight.detach().float())
        self.register_parameter("bias", None)

    def forward(self, x: Tensor) -> Tensor:
        """``[…, in]`` → ``[…, out]`` in the precision of ``x``."""
        product: Tensor = nn.functional.linear(x.float(), self.get_buffer("whole"))
        return product.to(x.dtype)


def in_bf16(llm: nn.Module) -> None:
    """Products as a GPU makes them, where there is none."""
    for layer in decoder_layers(llm):
        for name in names_of(layer, lambda module: isinstance(module, nn.Linear)):
            linear: Any = layer.get_submodule(name)
            if linear.weight.device.type == "cpu" and linear.bias is None:
                replace(layer, name, RoundedLinear(linear))


@dataclass(frozen=True)
class Seen:
    """What one way computes."""

    losses: Tensor
    projector: Tensor
    adapters: Tensor
    distributions: list[Tensor]


def run(folder: str, device: torch.device, texts: list[tuple[str, str]]) -> Result:
    """All ways on ``texts``: pairs of what stands for the video, and its caption."""
    exact = _seen(folder, device, texts, torch.float32, lambda llm: None)
    ways = {"bf16": in_bf16, "fp8": use_fp8}
    captions = _captions(folder, texts)
    table = Table(
        f"Products on real weights, against fp32: {Path(folder).name}",
        [
            *("products", "loss", "cosine of the projector's gradient", "its error"),
            *("cosine of the adapters' gradient", "its error", "KL, nats a token"),
            "same likeliest token",
        ],
    )
    result = Result([table])
    for name, change in ways.items():
        found = difference(exact, _seen(folder, device, texts, torch.bfloat16, change), captions)
        table.rows.append([name, *astuple(found)])
        result.parts |= {f"fp8/{name}/{key}": value for key, value in vars(found).items()}
    table.notes = [
        f"{len(texts)} captions of {sum(map(len, captions)) / len(texts):.0f} tokens on average, "
        f"behind {VIDEO_TOKENS} tokens of text in the video's place; adapters not zero. Loss: mean "
        f"in fp32 {float(exact.losses.mean()):.4g} nats a token."
    ]
    return result


def _captions(folder: str, texts: list[tuple[str, str]]) -> list[list[int]]:
    tokenizer = load_tokenizer(LlmConfig(model=folder))
    eos = tokenizer.eos_token_id
    return [[*tokenizer(c, add_special_tokens=False)["input_ids"], eos] for _, c in texts]


def _seen(
    folder: str,
    device: torch.device,
    texts: list[tuple[str, str]],
    dtype: torch.dtype,
    change: Callable[[nn.Module], None],
) -> Seen:
    config = LlmConfig(model=folder)
    tokenizer = load_tokenizer(config)
    plain = load_llm(config, device)
    dequantize(plain)
    llm: Any = nn.Module.to(plain, dtype=dtype)  # transformers refuses a model that has been NF4
    change(llm)
    llm = add_lora(llm, LoraConfig(dropout=0.0))
    set_lora(llm, 0.01)
    embedding = llm.get_input_embeddings()
    width = embedding(torch.zeros(1, dtype=torch.long, device=device)).shape[-1]
    shape = projectors.FeatureShape(1, (1, VIDEO_TOKENS), width)
    projector = projectors.build("linear", shape, width)
    with torch.no_grad():
        for parameter in projector.parameters():
            parameter.copy_(torch.eye(width) if parameter.dim() == 2 else torch.zeros(width))
    model = VisionLanguageModel(projector, llm, prompt_layout(tokenizer, config)).to(device)
    losses, distributions = [], []
    for (video, _), caption in zip(texts, _captions(folder, texts), strict=True):
        ids = tokenizer(video, add_special_tokens=False)["input_ids"]
        ids = (ids * (1 + VIDEO_TOKENS // len(ids)))[:VIDEO_TOKENS]
        features = model.embed([ids]).float()[None]
        loss, _ = model.caption_loss(features, [caption])
        (loss / len(caption)).sum().backward()
        losses.append(float(loss.detach()) / len(caption))
        with torch.no_grad():
            prompt = model.prompt_embeddings(features)
            inputs = torch.cat([prompt, model.embed([caption[:-1]])], dim=1)
            hidden = model.backbone(inputs_embeds=inputs, use_cache=False).last_hidden_state
            logits = model.head(hidden[0, prompt.shape[1] - 1 :].contiguous())
            distributions.append(logits.float().log_softmax(dim=-1).cpu())
    of = {
        name: p.grad.flatten().float().cpu()
        for name, p in model.trainable().items()
        if p.grad is not None
    }
    adapters = torch.cat([grad for name, grad in of.items() if "lora_" in name])
    mapping = torch.cat([grad for name, grad in of.items() if "lora_" not in name])
    return Seen(torch.tensor(losses), mapping, adapters, distributions)


def difference(exact: Seen, way: Seen, captions: list[list[int]]) -> Difference:
    """How far ``way`` lies from ``exact``."""
    tokens = compare(exact.distributions, way.distributions, captions)
    return Difference(
        loss=float((way.losses - exact.losses).mean()),
        cosine=float(cosine_similarity(way.projector, exact.projector, dim=0)),
        error=float((way.projector - exact.projector).norm() / exact.projector.norm()),
        lora_cosine=float(cosine_similarity(way.adapters, exact.adapters, dim=0)),
        lora_error=float((way.adapters - exact.adapters).norm() / exact.adapters.norm()),
        kl=tokens.kl,
        agreement=tokens.agreement,
    )


def pairs_of_paragraphs(folder: Path) -> list[tuple[str, str]]:
    """Long paragraphs of a folder's Markdown pages, each with the one behind it: prose at hand."""
    found = []
    for page in sorted(folder.glob("*.md")):
        blocks = [" ".join(block.split()) for block in page.read_text("utf-8").split("\n\n")]
        prose = [b for b in blocks if len(b) > 250 and not b.startswith(("|", "#", "```", "<"))]
        found += list(zip(prose[::2], prose[1::2], strict=False))
    return found


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fp8", description=__doc__)
    parser.add_argument("llm", help="folder of a causal LM with real weights")
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--out", type=Path, help="JSON file; what it holds of others stays")
    given = parser.parse_args(arguments)
    device = pick_device(given.device)
    result = run(given.llm, device, pairs_of_paragraphs(DOCS)[: given.clips])
    print(result.text())
    if given.out is not None:
        keep(given.out, "fp8", {"size": "full", **result.as_json(), **facts(device)})


if __name__ == "__main__":
    main()
