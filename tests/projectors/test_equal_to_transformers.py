"""Connectors beside the classes of transformers that the models themselves use, weights copied."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from siglip_study.projectors import build
from siglip_study.projectors.base import FeatureShape

V, L, GRID, FRAMES = 8, 12, (6, 6), 3
SHAPE = FeatureShape(FRAMES, GRID, V)
EVEN = torch.Generator().manual_seed(0)


def randomised(module: nn.Module) -> nn.Module:
    """In fp64; freshly made norms and biases are ones and zeros: they hide a misplaced one."""
    torch.manual_seed(0)
    for parameter in module.double().parameters():
        nn.init.normal_(parameter, std=0.3)
    return module.eval()


@pytest.fixture
def features() -> torch.Tensor:
    return torch.randn(2, FRAMES, GRID[0] * GRID[1], V, generator=EVEN, dtype=torch.double)


def copied(theirs: nn.Module, ours: nn.Module, names: dict[str, str]) -> nn.Module:
    """Their class with our weights; ``names`` are ours → theirs, every weight of both."""
    state = {names[key]: value for key, value in ours.state_dict().items()}
    theirs.double().load_state_dict(state)
    return theirs.eval()


def windows(features: torch.Tensor, side: int) -> torch.Tensor:
    """Patches in the order in which Qwen's processor gives them: square after square."""
    images = features.reshape(-1, GRID[0] // side, side, GRID[1] // side, side, V)
    return images.permute(0, 1, 3, 2, 4, 5).reshape(-1, V)


def layers(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}.{kind}": f"{theirs}.{kind}" for kind in ("weight", "bias")}


@pytest.mark.parametrize("side", [2, 3])
@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_patch_merger_is_that_of_qwen(features, norm, side):
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLPatchMerger
    from transformers.models.qwen2_vl.modeling_qwen2_vl import PatchMerger

    ours = randomised(build("patch_merger", SHAPE, L, norm=norm, side=side))
    names = layers("mlp.0", "mlp.0") | layers("mlp.2", "mlp.2") | layers("norm", "ln_q")
    kind = Qwen2_5_VLPatchMerger if norm == "rms" else PatchMerger
    theirs = copied(kind(L, V, side), ours, names)
    expected = theirs(windows(features, side))  # their RMSNorm works in fp32
    torch.testing.assert_close(ours(features).flatten(0, 1), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("side", [2, 3])
def test_window_attention_is_that_of_molmo_2(side):
    """On two layers side by side, of which each has half the width of the features."""
    from transformers.models.molmo2.configuration_molmo2 import Molmo2AdapterConfig
    from transformers.models.molmo2.modeling_molmo2 import Molmo2Adapter

    wide = FeatureShape(FRAMES, GRID, 2 * V)
    options = {"side": side, "width": V, "heads": 2, "hidden": 10}
    ours = randomised(build("window_attention", wide, L, **options))
    config = Molmo2AdapterConfig(
        vision_feature_layer=[2, 1],
        hidden_size=V,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=V // 2,
        intermediate_size=10,
        text_hidden_size=L,
    )
    pooling = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "o_proj"}
    names = {}
    for name, other in pooling.items():
        names |= layers(name, f"image_pooling_2d.{other}")
    for name in ("gate", "up", "down"):
        names[f"{name}.weight"] = f"image_projector.{name}_proj.weight"
    theirs = copied(Molmo2Adapter(config), ours, names)
    features = torch.randn(2, FRAMES, GRID[0] * GRID[1], 2 * V, generator=EVEN, dtype=torch.double)
    places = torch.arange(2 * FRAMES * GRID[0] * GRID[1], dtype=torch.double)
    each = windows(places.reshape(2, FRAMES, -1, 1).expand(-1, -1, -1, V), side)[:, 0]
    expected = theirs(features.flatten(0, 1), each.long().reshape(-1, side**2)).last_hidden_state
    torch.testing.assert_close(ours(features).flatten(0, 1), expected)


@pytest.mark.parametrize("side", [2, 3])
def test_pixel_shuffle_is_that_of_idefics3(features, side):
    from transformers.models.idefics3.modeling_idefics3 import Idefics3Connector

    ours = randomised(build("pixel_shuffle", SHAPE, L, side=side))
    config = SimpleNamespace(
        scale_factor=side,
        vision_config=SimpleNamespace(hidden_size=V),
        text_config=SimpleNamespace(hidden_size=L),
    )
    theirs = copied(
        Idefics3Connector(config), ours, {"proj.weight": "modality_projection.proj.weight"}
    )
    torch.testing.assert_close(
        ours(features).flatten(0, 1), theirs(features.flatten(0, 1)).flatten(0, 1)
    )


def test_pixel_shuffle_mlp_is_that_of_internvl(features):
    from transformers.models.internvl.modeling_internvl import (
        InternVLModel,
        InternVLMultiModalProjector,
    )

    ours = randomised(build("pixel_shuffle_mlp", SHAPE, L))
    config = SimpleNamespace(
        downsample_ratio=0.5,
        projector_hidden_act="gelu",
        vision_config=SimpleNamespace(hidden_size=V),
        text_config=SimpleNamespace(hidden_size=L),
    )
    names = (
        layers("net.0", "layer_norm") | layers("net.1", "linear_1") | layers("net.3", "linear_2")
    )
    theirs = copied(InternVLMultiModalProjector(config), ours, names)
    images = features.reshape(-1, *GRID, V)
    shuffled = InternVLModel.pixel_shuffle(None, images, 0.5).flatten(1, 2)
    torch.testing.assert_close(ours(features).flatten(0, 1), theirs(shuffled).flatten(0, 1))


def test_mlp_pool_is_that_of_perception_lm_and_of_llava_onevision(features):
    from transformers.models.llava_onevision.modeling_llava_onevision import LlavaOnevisionModel
    from transformers.models.perception_lm.modeling_perception_lm import (
        PerceptionLMMultiModalProjector,
    )

    ours = randomised(build("mlp_pool", SHAPE, L))
    config = SimpleNamespace(
        projector_pooling_ratio=2,
        vision_config=SimpleNamespace(model_args={"embed_dim": V}),
        text_config=SimpleNamespace(hidden_size=L),
    )
    names = layers("net.0", "linear_1") | layers("net.2", "linear_2")
    theirs = copied(PerceptionLMMultiModalProjector(config), ours, names)
    tokens = ours(features).flatten(0, 1)
    torch.testing.assert_close(tokens, theirs(features.flatten(0, 1)).flatten(0, 1))

    pooler = SimpleNamespace(
        config=SimpleNamespace(vision_config=SimpleNamespace(image_size=GRID[0], patch_size=1))
    )
    pooled = LlavaOnevisionModel.apply_pooling(pooler, ours.net(features).flatten(0, 1))
    torch.testing.assert_close(tokens, pooled.flatten(0, 1))


@pytest.mark.parametrize("side", [2, 3])
def test_pool_norm_linear_is_that_of_gemma3(features, side):
    from transformers.models.gemma3.modeling_gemma3 import Gemma3MultiModalProjector

    ours = randomised(build("pool_norm_linear", SHAPE, L, side=side))
    config = SimpleNamespace(
        mm_tokens_per_image=(GRID[0] // side) ** 2,
        vision_config=SimpleNamespace(
            hidden_size=V, image_size=GRID[0], patch_size=1, layer_norm_eps=1e-6
        ),
        text_config=SimpleNamespace(hidden_size=L),
    )
    theirs = Gemma3MultiModalProjector(config).double()
    with torch.no_grad():  # theirs scales by 1 + weight, in fp32, and has its matrix transposed
        theirs.mm_soft_emb_norm.weight.copy_(ours.norm.weight - 1)
        theirs.mm_input_projection_weight.copy_(ours.proj.weight.T)
    expected = theirs(features.flatten(0, 1)).flatten(0, 1)
    torch.testing.assert_close(ours(features).flatten(0, 1), expected, rtol=1e-5, atol=1e-5)


def test_qformer_is_that_of_blip2(features):
    from transformers import Blip2QFormerConfig, Blip2QFormerModel

    ours = randomised(build("qformer", SHAPE, L, queries=5, depth=3, hidden=16, heads=4))
    config = Blip2QFormerConfig(
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        encoder_hidden_size=V,
        cross_attention_frequency=2,
        use_qformer_text_input=False,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    theirs = Blip2QFormerModel(config).double().eval()
    state = {f"layernorm.{kind}": getattr(ours.norm, kind) for kind in ("weight", "bias")}
    for i, layer in enumerate(ours.layers):
        for key, value in layer.state_dict().items():
            state |= bert_names(f"encoder.layer.{i}", *key.split(".", 1), value)
    theirs.load_state_dict(state)
    context = features.flatten(0, 1)
    queries = ours.queries.expand(len(context), -1, -1)
    found = theirs(query_embeds=queries, encoder_hidden_states=context).last_hidden_state
    torch.testing.assert_close(ours(features).reshape(len(context), 5, L), ours.proj(found))


def bert_names(prefix: str, part: str, name: str, value: torch.Tensor) -> dict[str, torch.Tensor]:
    """A weight of our layer under BERT's names; nn.MultiheadAttention stacks q, k and v."""
    kind = name.rpartition(".")[2]
    if part.endswith("_attention"):
        where = f"{prefix}.{'attention' if part == 'self_attention' else 'crossattention'}"
        if name.startswith("out_proj"):
            return {f"{where}.output.dense.{kind}": value}
        if name.startswith("in_proj_"):
            parts = zip(("query", "key", "value"), value.chunk(3), strict=True)
            return {f"{where}.attention.{own}.{name[8:]}": piece for own, piece in parts}
        own = {"q": "query", "k": "key", "v": "value"}[name[0]]
        return {f"{where}.attention.{own}.weight": value}
    where = {
        "self_norm": "attention.output.LayerNorm",
        "cross_norm": "crossattention.output.LayerNorm",
        "ffn_norm": "output_query.LayerNorm",
        "ffn": "intermediate_query.dense" if name.startswith("0") else "output_query.dense",
    }[part]
    return {f"{prefix}.{where}.{kind}": value}
