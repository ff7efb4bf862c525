"""Formulas against numbers worked by hand, and against PyTorch's own counter on micro models."""

from pathlib import Path

import pytest
import torch
from support.tiny_models import llm_sizes
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPVisionConfig, CLIPVisionModel, Qwen3Config, Qwen3ForCausalLM

from siglip_study import projectors
from siglip_study.base.errors import StudyError
from siglip_study.config import load
from siglip_study.models import sizes
from siglip_study.models.sizes import LlmShape, SequenceShape, TowerShape, llm_shape, vision_shape
from siglip_study.planning import estimate
from siglip_study.planning.estimate import GPUS, Gpu, gpu_of_device
from siglip_study.training.memory import bytes_for_passes, fit, kept_layers

ROOT = Path(__file__).parents[2]
QWEN3_8B = LlmShape(
    36, 4096, heads=32, kv_heads=8, head_dim=128, intermediate=12288, vocab=151936, tied=False
)
MICRO = llm_sizes(vocab_size=96, num_hidden_layers=3, max_position_embeddings=128)


def test_qwen3_8b_has_its_published_size():
    # 36 × (2 × 4096² + 2 × 4096 × 1024 + 3 × 4096 × 12288), and 2 × 151936 × 4096.
    assert QWEN3_8B.layer_parameters == 6_945_767_424
    total = QWEN3_8B.layer_parameters + QWEN3_8B.embedding_parameters
    assert total == pytest.approx(8.19e9, rel=2e-3)  # the model card: 8.2 B
    # Rank 16 on all seven maps, as peft counts them for Qwen3-8B.
    targets = tuple(QWEN3_8B.linears())
    assert QWEN3_8B.lora_parameters(16, targets) == 43_646_976


def test_a_clip_of_one_layer_by_hand():
    llm = LlmShape(1, width=2, heads=1, kv_heads=1, head_dim=2, intermediate=3, vocab=5, tied=False)
    # q, k, v, o: 4 · 2·2; gate, up, down: 3 · 2·3.
    assert llm.layer_parameters == 34
    # Prompt 4 and caption 3: 6 positions are fed. Attention: 3 · 2 · 6² · 2. Head: 4 · 3 · 2 · 5.
    sequence = SequenceShape(4, 3)
    assert sequence.length == 6
    assert sizes.training_flops(llm, sequence) == 6 * 4 * 34 + 432 + 120
    # Weights that train have a gradient of their own.
    assert sizes.training_flops(llm, sequence, 7) == 6 * (4 * 34 + 6 * 7) + 432 + 120


def test_a_run_by_hand():
    # 3 clips, 1200 caption tokens in all: 400 each behind 4638 prompt positions, so 5037 are fed.
    # Weights 4 × 6,945,767,424 × 5037, attention 3 × 2 × 5037² × 4096 × 36, head 4 × 151936 × 4096
    # × 400, adapters of 43,646,976 weights 6 × 43,646,976 × 5037, and 1e12 for the projector.
    a_clip = 139_943_322_058_752 + 22_446_963_523_584 + 995_727_769_600 + 1_319_098_908_672 + 1e12
    found = sizes.run_flops(QWEN3_8B, 3, 1200, 4638, 1e12, 43_646_976)
    assert found == pytest.approx(3 * a_clip, rel=1e-6)
    assert sizes.run_flops(QWEN3_8B, 0, 0, 4638, 1e12, 0) == 0


def test_memory_of_qwen3_8b():
    # 6.946e9 weights of 4.127 bits, and two bf16 tables of 151936 × 4096.
    nf4 = 6_945_767_424 * 4.12695 / 8 + 4 * 151936 * 4096
    assert estimate.llm_bytes(QWEN3_8B, "nf4") == pytest.approx(nf4, rel=1e-4)
    assert estimate.llm_bytes(QWEN3_8B, "none") == 2 * (6_945_767_424 + 2 * 151936 * 4096)
    # 36 layers × 8 heads × 128 × keys and values × 2 bytes = 147456 bytes a position.
    assert estimate.kv_bytes(QWEN3_8B, 1000) == 147_456_000
    # A step of one row reads 4-bit weights once; a batch unpacks them: written and read in bf16.
    one, two = (estimate.decode_bytes(QWEN3_8B, "nf4", batch, 0) for batch in (1, 2))
    assert two - one == pytest.approx(4 * 6_945_767_424)
    empty, full = (estimate.decode_bytes(QWEN3_8B, "none", 8, length) for length in (0, 100))
    assert full - empty == pytest.approx(8 * 100 * 147_456)


def test_memory_of_a_step_is_near_what_an_h200_measured():
    """78 GB for four clips with every activation kept, 15 to 17 GB with all recomputed."""

    def needed(clips, kept, lora=False):
        cost = estimate.training_pass(QWEN3_8B, SequenceShape(4638, 390), lora, 9.4e6)
        held = estimate.llm_bytes(QWEN3_8B, "nf4") + 20 * 4_200_000
        return held + clips * cost.of_pass(kept) + estimate.OVERHEAD_BYTES

    assert needed(4, 36) == pytest.approx(78e9, rel=0.1)
    assert needed(4, 0) == pytest.approx(16e9, rel=0.25)
    assert needed(1, 0) < needed(1, 0, lora=True) < needed(4, 0)


def test_a_pass_by_hand():
    """1000 positions of a narrow model, so that every term can be added up."""
    llm = LlmShape(
        10, 100, heads=2, kv_heads=1, head_dim=50, intermediate=300, vocab=1000, tied=True
    )
    cost = estimate.training_pass(llm, SequenceShape(900, 101), lora=False, features=7.0)
    # A kept layer: 2 × 100 + 3 × 100 + 3 × 50 + 2 × 300 numbers a position, 2 bytes each.
    layer, layer_input, logits = 2_500_000, 200_000, 2 * 4 * 1000 * 101
    assert cost.recomputed == 10 * layer_input + 2 * layer + logits
    assert cost.of_pass(0) == cost.recomputed + 4 * 7
    # With all kept: their ten, one layer's gradients, no inputs beside.
    assert cost.of_pass(10) == pytest.approx(11 * layer + logits + 4 * 7)


@pytest.mark.parametrize("checkpointing", ["auto", "all", "none"])
def test_the_least_memory_is_what_the_plan_of_a_training_asks_for(checkpointing):
    """A byte less, and the plan itself refuses; with that much, it trains one clip a pass."""
    config = load(ROOT / "config" / "study.yaml")
    runtime = config.runtime.model_copy(update={"checkpointing": checkpointing})
    forecast = estimate.Forecast(config.model_copy(update={"runtime": runtime}))
    # The one layer that is run again is in memory anyway, so that it may as well be kept.
    recomputed = {"auto": 35, "all": 36, "none": 0}[checkpointing]
    for shape in forecast.workload.steps:
        trained = forecast.projectors[shape.connector].n_parameters() + forecast.lora_parameters(
            shape.stage
        )
        held = estimate.llm_bytes(forecast.models.llm, "nf4") + 4 * trained
        available = forecast.training_bytes(shape) - held
        cost, kept = forecast.training_pass(shape), kept_layers(checkpointing, 36)
        made = fit(cost, bytes_for_passes(available + 1e3, trained), 4, 32, 36, kept)
        assert (made.forward_clips, made.recomputed) == (1, recomputed)
        with pytest.raises(StudyError, match="are free for a training pass, and one clip needs"):
            fit(cost, bytes_for_passes(available - 1e3, trained), 4, 32, 36, kept)


def counted(run):
    """FLOP as PyTorch counts them."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        run()
    return counter.get_total_flops()


@pytest.fixture(scope="module")
def qwen():
    """A frozen micro model on the meta device, and its sizes."""
    with torch.device("meta"):
        model = Qwen3ForCausalLM(Qwen3Config(**MICRO, tie_word_embeddings=False))
    return model.requires_grad_(False), llm_shape(model.config.to_dict(), "micro")


# PyTorch counts the whole square of attention, of which a causal kernel computes half; rotary
# tables are a product of 4 × length as well.


@pytest.mark.parametrize("logits", [1, 20])
def test_forward_flops_are_what_pytorch_counts(qwen, logits):
    model, shape = qwen
    tokens = torch.zeros(1, 20, dtype=torch.long, device="meta")
    expected = sizes.forward_flops(shape, 20, logits) + sizes.attention_flops(shape, 20)
    found = counted(lambda: model(tokens, logits_to_keep=logits))
    assert found == pytest.approx(expected, rel=0.01)


def test_training_flops_are_what_pytorch_counts(qwen):
    """Frozen weights and inputs that want a gradient: stage 1 at micro size."""
    model, shape = qwen
    inputs = torch.zeros(1, 20, 32, requires_grad=True, device="meta")
    square = 3 * sizes.attention_flops(shape, 20)
    expected = sizes.training_flops(shape, SequenceShape(16, 5)) + square
    found = counted(lambda: model(inputs_embeds=inputs, logits_to_keep=5).logits.sum().backward())
    assert found == pytest.approx(expected, rel=0.01)


def test_tower_flops_are_what_pytorch_counts():
    dims = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3}
    config = CLIPVisionConfig(**dims, num_attention_heads=4, image_size=32, patch_size=8)
    with torch.device("meta"):
        model = CLIPVisionModel(config).requires_grad_(False)
    shape = vision_shape(config.to_dict(), (32, 32), -1)
    assert (shape.tokens, shape.layers) == (17, 3)
    assert vision_shape(config.to_dict(), (32, 32), -2).layers == 2
    found = counted(lambda: model(torch.zeros(1, 3, 32, 32, device="meta")))
    assert found == pytest.approx(sizes.tower_flops(shape), rel=0.02)


# Forward 2 × 12 × 32 a patch, as much again for the weights' gradient; features need none. A prefix
# that sees nothing costs nothing to speak of.
@pytest.mark.parametrize(
    ("name", "flops"), [("linear", 2 * (2 * 12 * 32) * (3 * 4)), ("constant_prefix", 0)]
)
def test_projectors_by_hand(name, flops):
    with torch.device("meta"):
        projector = projectors.build(name, projectors.FeatureShape(3, (2, 2), 12), 32)
    assert sizes.projector_flops(projector) == flops


def test_disk(study):
    alone = {"projectors": {"linear": {}}, "controls": {"blind_trained": False}}
    grid = {"learning_rate": [1e-3], "epochs": [1]}
    forecast = estimate.Forecast(study(**alone, grid=grid, seeds={"report": [1]}))
    (made,) = forecast.projectors.values()
    weights = made.n_parameters()
    lora, disk = forecast.lora_parameters(), forecast.disk()
    # One tuning run and one that reports, a checkpoint of fp32 weights for each of their stages.
    assert disk.checkpoints == 4 * (2 * weights + 2 * (weights + lora))
    # A stage's weights, two moments and best weights, and those of the stage before it.
    assert disk.resume == 2 * 4 * 4 * (weights + lora)
    # 2 frames × 16 patches × 192 in bf16.
    assert disk.features == (20 + 6 + 6) * 2 * 16 * 192 * 2
    assert disk.written == disk.checkpoints + disk.resume + disk.features


def test_time_is_bound_by_arithmetic_or_by_memory():
    gpu = Gpu("test", tflops=100, gb_per_s=1000, gib=10)
    assert gpu.seconds(6e13) == pytest.approx(1.0)  # at 60 % of 100 TFLOP/s
    assert gpu.seconds(1.0, 6e11) == pytest.approx(1.0)
    assert gpu.seconds(6e13, 12e11) == pytest.approx(2.0)


def test_gpus_by_name():
    devices = ("NVIDIA H200", "NVIDIA A100-SXM4-40GB", "NVIDIA GeForce RTX 4090", "Abacus")
    found = [gpu_of_device(device) for device in devices]
    assert found == [GPUS["h200"], GPUS["a100-40"], GPUS["rtx4090"], None]


def test_shapes_of_other_families():
    gemma = llm_shape({"model_type": "gemma3", "text_config": MICRO}, "gemma")
    assert gemma.tied and gemma.attention_width == 32 and gemma.kv_width == 16
    old = {k: v for k, v in MICRO.items() if k not in ("num_key_value_heads", "head_dim")}
    assert llm_shape(old, "llama").kv_heads == 4
    with pytest.raises(StudyError, match="no number hidden_size"):
        llm_shape({k: v for k, v in MICRO.items() if k != "hidden_size"}, "llm.model x")
    assert TowerShape(2, 8, 16, 10, vocab=100).stored == 2 * (4 * 64 + 2 * 128) + 800
