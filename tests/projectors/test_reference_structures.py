"""Each projector against its published structure: exact counts, and torch's own modules."""

import itertools
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from siglip_study.base.errors import StudyError
from siglip_study.projectors import build
from siglip_study.projectors.base import FeatureShape
from siglip_study.projectors.c_abstractor import RegBlock

REFERENCE = json.loads(Path(__file__).with_name("reference_counts.json").read_text())


@pytest.mark.parametrize("row", REFERENCE["counts"], ids=lambda r: f"{r['name']}-{r['options']}")
def test_exact_counts_at_full_size(row):
    shape = FeatureShape(REFERENCE["frames"], tuple(REFERENCE["grid"]), REFERENCE["vision_dim"])
    with torch.device("meta"):
        projector = build(row["name"], shape, REFERENCE["llm_dim"], **row["options"])
    assert projector.n_parameters() == row["parameters"]
    assert projector.tokens_per_video(8) == row["tokens"]


def randomised(module: nn.Module) -> nn.Module:
    """In fp64; freshly made norms and biases are ones and zeros: they hide a misplaced one."""
    torch.manual_seed(0)
    for parameter in module.double().parameters():
        nn.init.normal_(parameter, std=0.3)
    return module


def query_projector(name):
    return randomised(build(name, FeatureShape(2, (2, 3), 10), 24, queries=5, heads=3))


def test_query_abstractor_equals_torch_multihead_attention_by_hand():
    projector = query_projector("query_abstractor")
    state = projector.state_dict()
    attention = nn.MultiheadAttention(24, 3, batch_first=True).double()
    attention.load_state_dict(
        {k.removeprefix("attention."): v for k, v in state.items() if k.startswith("attention.")}
    )
    features = torch.randn(2, 2, 6, 10, dtype=torch.double)
    x = features.reshape(2, 12, 10) @ state["proj.weight"].T + state["proj.bias"]
    q = state["queries"].repeat(2, 1, 1)

    def norm(t, name):
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        centred = t - t.mean(-1, keepdim=True)
        return centred / (t.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt() * weight + bias

    q = norm(q + attention(q, x, x)[0], "attention_norm")
    inner = nn.functional.gelu(q @ state["ffn.0.weight"].T + state["ffn.0.bias"])
    q = norm(q + inner @ state["ffn.2.weight"].T + state["ffn.2.bias"], "ffn_norm")
    torch.testing.assert_close(projector(features), q)


def test_query_perceiver_equals_torch_transformer_decoder():
    projector = query_projector("query_perceiver")
    layer = nn.TransformerDecoderLayer(24, 3, 96, 0.0, "gelu", batch_first=True)
    decoder = nn.TransformerDecoder(layer, 2, norm=nn.LayerNorm(24)).double()
    renamed = {
        "self_attention": "self_attn",
        "cross_attention": "multihead_attn",
        "self_norm": "norm1",
        "cross_norm": "norm2",
        "ffn_norm": "norm3",
        "ffn.0": "linear1",
        "ffn.2": "linear2",
    }
    state = {}
    for key, value in projector.state_dict().items():
        if key.startswith(("layers.", "norm.")):
            for ours, theirs in renamed.items():
                key = key.replace(f".{ours}.", f".{theirs}.")
            state[key] = value
    decoder.load_state_dict(state)
    features = torch.randn(2, 2, 6, 10, dtype=torch.double)
    context = projector.proj(features).reshape(2, 12, 24)
    expected = decoder(projector.queries.repeat(2, 1, 1), context)
    torch.testing.assert_close(projector(features), expected)


@pytest.mark.parametrize("channels", [8, 12])
def test_reg_block_equals_its_equation(channels):
    block = randomised(RegBlock(8, channels))
    s = block.state_dict()
    x = torch.randn(2, 8, 3, 5, dtype=torch.double)
    conv, silu = nn.functional.conv2d, nn.functional.silu

    def norm(t, name):
        mean, var = t.mean(1, keepdim=True), t.var(1, unbiased=False, keepdim=True)
        weight, bias = s[f"{name}.norm.weight"], s[f"{name}.norm.bias"]
        return (t - mean) / (var + 1e-5).sqrt() * weight[:, None, None] + bias[:, None, None]

    y = silu(norm(conv(x, s["body.conv1.conv.weight"]), "body.conv1"))
    y = conv(y, s["body.conv2.conv.weight"], padding=1, groups=channels)
    y = silu(norm(y, "body.conv2"))
    se = "body.squeeze_excite"
    assert s[f"{se}.squeeze.weight"].shape[0] == 2  # a quarter of the input channels
    g = silu(conv(y.mean((2, 3), True), s[f"{se}.squeeze.weight"], s[f"{se}.squeeze.bias"]))
    y = y * torch.sigmoid(conv(g, s[f"{se}.excite.weight"], s[f"{se}.excite.bias"]))
    y = norm(conv(y, s["body.conv3.conv.weight"]), "body.conv3")
    short = x if channels == 8 else norm(conv(x, s["shortcut.conv.weight"]), "shortcut")
    torch.testing.assert_close(block(x), silu(short + y))


def test_perceiver_attention_equals_softmax_by_hand():
    options = {"latents": 3, "depth": 1, "heads": 2, "head_dim": 5, "per_frame": False}
    projector = randomised(build("perceiver", FeatureShape(2, (1, 4), 8), 6, **options))
    layer, s = projector.layers[0], projector.state_dict()
    features = torch.randn(1, 2, 4, 8, dtype=torch.double)
    x = (features + s["frame_embeddings"][None, :, None]).reshape(8, 8)
    latents = s["latents"]
    inner = layer.attention
    ql = inner.latent_norm(latents)
    kv = torch.cat([inner.context_norm(x), ql])
    out = []
    for head in range(2):
        rows = slice(5 * head, 5 * head + 5)
        q = ql @ s["layers.0.attention.to_q.weight"][rows].T
        k = kv @ s["layers.0.attention.to_kv.weight"][:10][rows].T
        v = kv @ s["layers.0.attention.to_kv.weight"][10:][rows].T
        out.append(torch.softmax(q @ k.T / 5**0.5, -1) @ v)
    latents = latents + torch.cat(out, -1) @ s["layers.0.attention.to_out.weight"].T
    latents = latents + layer.ffn(latents)
    torch.testing.assert_close(projector(features)[0], projector.proj(projector.norm(latents)))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("c_abstractor", {"pool": 1, "depth": 1, "hidden": 4}),
        ("perceiver", {"latents": 2, "depth": 1, "heads": 1, "head_dim": 2, "per_frame": False}),
    ],
)
def test_gradcheck_in_float64(name, options):
    torch.manual_seed(0)
    projector = build(name, FeatureShape(2, (2, 1), 3), 4, **options).double()
    features = torch.randn(1, 2, 2, 3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(projector, (features,), eps=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "options", "invariant"),
    [
        ("query_abstractor", {"queries": 3, "heads": 2}, True),
        ("query_perceiver", {"queries": 3, "heads": 2}, True),
        ("perceiver", {"latents": 3, "depth": 1, "per_frame": False}, False),
        ("linear", {}, False),
        ("c_abstractor", {"pool": 2, "depth": 1, "hidden": 8}, False),
        ("stc", {"depth": 1, "hidden": 8}, False),
        ("qformer", {"depth": 1, "hidden": 8, "heads": 2}, False),
        ("qformer", {"depth": 1, "hidden": 8, "heads": 2, "per_frame": False}, True),
    ],
)
def test_reversed_frames_are_seen_as_the_docstrings_say(name, options, invariant):
    torch.manual_seed(0)
    projector = build(name, FeatureShape(3, (2, 2), 12), 8, **options).double().eval()
    features = torch.randn(1, 3, 4, 12, dtype=torch.double)
    same = torch.allclose(projector(features), projector(features.flip(1)))
    assert same is invariant


def test_c_abstractor_keeps_rows_and_columns_of_a_grid_that_is_not_square():
    torch.manual_seed(0)
    projector = build("c_abstractor", FeatureShape(1, (2, 6), 8), 8, pool=2, depth=1, hidden=8)
    seen = []
    projector.net[1].register_forward_hook(lambda _m, args, _out: seen.append(args[0].shape))
    projector(torch.randn(1, 1, 12, 8))
    assert seen == [(1, 8, 2, 6)]


def test_ldp_v2_equals_its_equation():
    projector = randomised(build("ldp_v2", FeatureShape(2, (4, 6), 5), 7))
    s, features = projector.state_dict(), torch.randn(2, 2, 24, 5, dtype=torch.double)
    gelu = nn.functional.gelu
    x = gelu(features @ s["mlp.0.weight"].T + s["mlp.0.bias"]) @ s["mlp.2.weight"].T
    x = (x + s["mlp.2.bias"]).reshape(4, 4, 6, 7).permute(0, 3, 1, 2)
    x = nn.functional.avg_pool2d(x, 2)
    x = x + nn.functional.conv2d(x, s["place.weight"], s["place.bias"], padding=1, groups=7)
    torch.testing.assert_close(projector(features), x.permute(0, 2, 3, 1).reshape(2, -1, 7))


def test_stc_equals_its_equation():
    shape = FeatureShape(4, (4, 6), 5)
    projector = randomised(build("stc", shape, 7, depth=2, hidden=8))
    s, features = projector.state_dict(), torch.randn(1, 4, 24, 5, dtype=torch.double)
    images = features.reshape(4, 4, 6, 5).permute(0, 3, 1, 2)
    volume = projector.before(images).permute(1, 0, 2, 3)[None]  # [1, H, F, rows, columns]
    steps = torch.zeros(1, 8, 2, 2, 3, dtype=torch.double)
    for t, i, j in itertools.product(range(2), range(2), range(2)):
        piece = volume[:, :, t::2, i::2, j::2]
        steps += torch.einsum("oc,bctij->botij", s["merge.0.weight"][..., t, i, j], piece)
    steps = nn.functional.silu(steps + s["merge.0.bias"][:, None, None, None])
    after = projector.after(steps[0].permute(1, 0, 2, 3))
    tokens = after.permute(0, 2, 3, 1).reshape(1, -1, 8)
    inner = nn.functional.gelu(tokens @ s["readout.0.weight"].T + s["readout.0.bias"])
    expected = inner @ s["readout.2.weight"].T + s["readout.2.bias"]
    torch.testing.assert_close(projector(features), expected)


def test_squares_that_leave_the_grid_repeat_its_last_row_and_column():
    shape = FeatureShape(1, (3, 5), 4)
    projector = randomised(build("pixel_shuffle", shape, 6))
    image = torch.randn(1, 1, 3, 5, 4, dtype=torch.double)
    padded = image[:, :, [0, 1, 2, 2]][:, :, :, [0, 1, 2, 3, 4, 4]]
    larger = build("pixel_shuffle", FeatureShape(1, (4, 6), 4), 6).double()
    larger.load_state_dict(projector.state_dict())
    expected = larger(padded.flatten(2, 3))
    torch.testing.assert_close(projector(image.flatten(2, 3)), expected)


def test_more_frames_than_embeddings_is_an_error():
    projector = build("perceiver", FeatureShape(2, (2, 2), 8), 8, per_frame=False)
    with pytest.raises(StudyError, match="3 frames; expected 2 at most"):
        projector(torch.randn(1, 3, 4, 8))


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("c_abstractor", {"pool": 5}, "pool is 5; expected 1 to 4"),
        ("c_abstractor", {"pool": 2, "depth": 0}, "at least 1"),
        ("query_abstractor", {"heads": 7}, "heads is 7; expected a divisor of llm_dim 16"),
        ("query_perceiver", {"queries": 0}, "at least 1"),
        ("perceiver", {"latents": -1}, "at least 1"),
        ("mlp_2l", {"hidden": 0}, "at least 1"),
        ("constant_prefix", {"tokens": 0}, "at least 1"),
        ("patch_merger", {"side": 5}, "side is 5; expected 1 to 4"),
        ("patch_merger", {"norm": "batch"}, "expected type"),
        ("stc", {"depth": 0}, "at least 1"),
        ("qformer", {"hidden": 10, "heads": 4}, "heads is 4; expected a divisor of hidden 10"),
    ],
)
def test_values_out_of_range_are_named(name, options, says):
    with pytest.raises(StudyError, match=says):
        build(name, FeatureShape(2, (4, 4), 8), 16, **options)
