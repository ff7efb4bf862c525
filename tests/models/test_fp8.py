"""Products in e4m3 with a scale a row: what is rounded, what is not, and where they are refused."""

import pytest
import torch
from torch import nn

from siglip_study.base.errors import StudyError
from siglip_study.captioning.generate import generate_captions
from siglip_study.config.training import LoraConfig
from siglip_study.models.fast_layers import decoder_layers
from siglip_study.models.fp8 import E4M3, LARGEST, Fp8Linear, quantize_rows, why_no_fp8
from siglip_study.models.llm import add_lora, load_llm
from siglip_study.models.quantization import dequantize, names_of, use_fp8

CPU = torch.device("cpu")
#: Half the distance of neighbours over the number, with 3 bits of mantissa.
HALF_STEP = 2**-4


@pytest.fixture
def weight():
    return torch.randn(48, 32, generator=torch.Generator().manual_seed(0))


def relative(found, exact):
    return float((found - exact).norm() / exact.norm())


# Rounding.


@pytest.mark.parametrize("size", [1e-20, 1e-4, 1.0, 3e4])
def test_rows_keep_their_own_scale_and_round_by_at_most_half_a_step(size):
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(1)) * size
    x[0] *= 1000
    packed, scales = quantize_rows(x)
    assert packed.dtype == E4M3 and scales.shape == (5, 1)
    assert torch.equal(packed.float().abs().amax(dim=1), torch.full((5,), LARGEST))
    back, normal = packed.float() * scales, packed.float().abs() >= 2**-6
    assert ((back - x).abs()[normal] <= (HALF_STEP + 1e-6) * x.abs()[normal]).all()


def test_rows_of_zeros_stay_zeros_and_nothing_becomes_nan():
    x = torch.zeros(2, 16)
    x[1] = torch.finfo(torch.bfloat16).max
    packed, scales = quantize_rows(x.bfloat16())
    assert torch.equal(packed[0].float(), torch.zeros(16))
    assert torch.isfinite(packed.float() * scales).all()


# The layer.


def test_products_are_exact_ones_of_rounded_factors_both_ways(weight):
    layer, bias = Fp8Linear(weight, torch.ones(48)), 1.0
    x = torch.randn(2, 5, 32, requires_grad=True)
    out = layer(x)
    packed, scales = quantize_rows(x.detach().flatten(0, 1))
    exact = (packed.float() * scales) @ layer.weight.t() + bias
    torch.testing.assert_close(out.flatten(0, 1), exact)
    gradient = torch.randn_like(out)
    out.backward(gradient)
    packed, scales = quantize_rows(gradient.flatten(0, 1))
    columns, column_scales = quantize_rows(weight.t().contiguous())
    exact = (packed.float() * scales) @ (columns.float() * column_scales).t()
    torch.testing.assert_close(x.grad.flatten(0, 1), exact)
    assert relative(out - bias, x @ weight.t()) < HALF_STEP
    assert relative(x.grad, gradient @ weight) < HALF_STEP


def test_a_compilation_computes_the_same_for_every_length(weight):
    layer = Fp8Linear(weight, None)

    def run(layer, x):
        return nn.functional.silu(layer(nn.functional.rms_norm(x, (32,))))

    compiled = torch.compile(run, dynamic=True, fullgraph=True, backend="aot_eager")
    for length in (5, 7):
        x = torch.randn(2, length, 32, requires_grad=True)
        gradients = [torch.autograd.grad(f(layer, x).sum(), x)[0] for f in (run, compiled)]
        torch.testing.assert_close(*gradients)


def test_weights_of_other_sizes_are_refused_by_size():
    with pytest.raises(StudyError, match=r"32 → 40; expected multiples of 16\.$"):
        Fp8Linear(torch.zeros(40, 32), None)


# The model.


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_a_model_trains_captions_and_is_unpacked(
    make_model, llm_config, features, tokenizer, quantization
):
    if quantization == "nf4":
        pytest.importorskip("bitsandbytes")
    config = llm_config.model_copy(update={"quantization": quantization})
    plain, model = make_model(config=config), make_model(config=config)
    use_fp8(model.llm)
    layers = decoder_layers(model.llm)
    assert not names_of(layers, lambda m: isinstance(m, nn.Linear) and type(m) is not Fp8Linear)
    assert isinstance(model.head, nn.Linear) and type(model.head) is nn.Linear
    batch, captions = features.batch(["a", "b"]), [[5, 6, 2], [5, 2]]
    exact, loss = (m.caption_loss(batch, captions)[0] for m in (plain, model))
    assert 0 < relative(loss.detach(), exact.detach()) < HALF_STEP

    model.llm = add_lora(model.llm, LoraConfig(r=2, targets=("q_proj", "down_proj")))
    model.train()
    model.caption_loss(batch, captions)[0].sum().backward()
    trained = model.trainable()
    assert all(p.dtype == torch.float32 for p in trained.values())
    assert all(float(p.grad.abs().max()) > 0 for n, p in trained.items() if "lora_A" not in n)

    model.eval()
    said = generate_captions(model, tokenizer, ["a"], features.batch, max_new_tokens=4)
    assert len(said) == 1
    weights = {n: m.weight for n, m in model.llm.named_modules() if type(m) is Fp8Linear}
    dequantize(model.llm)
    found = dict(model.llm.named_modules())
    assert all(torch.equal(found[name].weight, weight) for name, weight in weights.items())


def test_loading_refuses_what_the_device_cannot_do(llm_config, monkeypatch):
    config = llm_config.model_copy(update={"matmul": "fp8"})
    with pytest.raises(StudyError, match=r"matmul is fp8, and the device is the CPU; .*bf16\.$"):
        load_llm(config, CPU)
    monkeypatch.setattr("siglip_study.models.llm.why_no_fp8", lambda device: None)
    assert names_of(load_llm(config, CPU), lambda module: isinstance(module, Fp8Linear))


@pytest.mark.parametrize(
    ("capability", "told"), [((8, 9), "Some GPU (8.9)"), ((9, 0), None), ((12, 0), None)]
)
def test_gpus_are_judged_by_their_compute_capability(monkeypatch, capability, told):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    reason = why_no_fp8(torch.device("cuda"))
    assert reason is None if told is None else told in reason


@pytest.mark.gpu(1)
def test_a_gpu_computes_what_the_cpu_does(weight):
    if reason := why_no_fp8(torch.device("cuda")):
        pytest.skip(reason)
    layer = Fp8Linear(weight.bfloat16(), None)
    x = torch.randn(64, 32).bfloat16()
    # As a whole: where a number lies between two of e4m3, each may round it its own way.
    assert relative(layer.cuda()(x.cuda()).cpu(), layer.cpu()(x)) < 0.01
