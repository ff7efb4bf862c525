"""Steps recorded as CUDA graphs give the captions that steps taken one by one give."""

import pytest
import torch
from support.tiny_models import stir_adapters

from siglip_study.captioning import decoding
from siglip_study.captioning.generate import generate_captions
from siglip_study.config.training import LoraConfig
from siglip_study.models.llm import add_lora

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
    pytest.mark.filterwarnings("ignore:Passing `repetition_penalty`"),
]
IDS = [f"clip{i}" for i in range(9)]


def captions(model, features, numbers, **options):
    found = generate_captions(
        model, numbers, IDS, features.batch, max_new_tokens=60, repetition_penalty=1.2, **options
    )
    return [caption.text for caption in found]


def test_recorded_steps_give_the_same_ids(make_family, features, numbers, monkeypatch, family):
    """In fp64, in which the two kernels of attention agree on every token; rows leave on the way,
    and the position passes several bounds."""
    monkeypatch.setattr(decoding, "looks", lambda device: 3)
    monkeypatch.setattr(decoding, "_BOUND", 16)
    model = make_family(family, eos_bias=2.5, dtype=torch.float64).to("cuda")
    recorded = []
    take = torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(
        torch.cuda.CUDAGraph, "replay", lambda graph: (recorded.append(graph), take(graph))
    )
    plain = captions(model, features, numbers, graphs=False)
    assert not recorded
    assert len({len(text.split()) for text in plain}) > 2
    assert captions(model, features, numbers) == plain
    assert len(set(map(id, recorded))) > 2  # recorded anew, and replayed


def test_adapters_in_fp32_are_recorded_under_autocast(make_family, features, numbers):
    """As captions are made between two epochs: what autocast casts once is not lost."""
    model = make_family("qwen3", dtype=torch.bfloat16)
    model.llm = add_lora(model.llm, LoraConfig(r=4))
    model = model.to("cuda")
    stir_adapters(model.llm, 0.3)
    twice = [captions(model, features, numbers, graphs=True) for _ in range(2)]
    plain = captions(model, features, numbers, graphs=False)
    assert twice[0] == twice[1]
    # Two roundings of attention part sooner or later, but not at once.
    starts = [[text.split()[:3] for text in texts] for texts in (twice[0], plain)]
    assert sum(a == b for a, b in zip(*starts, strict=True)) >= 7
