"""What any projector must do. A new file in the package is tested here without a word more, and one
from outside that ``PROJECTORS`` names."""

import os

import pytest
import torch
from torch import nn

from siglip_study import projectors
from siglip_study.base.errors import StudyError
from siglip_study.projectors.base import FeatureShape, Projector

LLM, GRID, FRAMES = 64, (4, 3), 4
SHAPE = FeatureShape(FRAMES, GRID, 48)

# Options that shrink a projector to the size of these tests; one without an entry is built with
# those of its defaults that are named here too.
SMALL = {"queries": 6, "latents": 3, "tokens": 5, "heads": 4, "head_dim": 16, "depth": 2}
SMALL |= {"hidden": 32, "pool": 2}
VARIANTS = {
    "perceiver": [{"per_frame": False}, {"width": 32}],
    **{name: [{"tokens_per_frame": 4}] for name in ("linear", "mlp_2l", "c_abstractor")},
}
OUTSIDE = os.environ.get("PROJECTORS", "").split()
CASES = [(name, {}) for name in [*projectors.projector_names(), *OUTSIDE]] + [
    (name, options) for name, variants in VARIANTS.items() for options in variants
]


def clips(batch: int, frames: int = FRAMES, patches: int = SHAPE.patches) -> torch.Tensor:
    """Features as a vision tower makes them: shared by all clips + of the clip + of the patch."""
    generator = torch.Generator().manual_seed(1)
    shared = torch.randn(1, 1, patches, SHAPE.dim, generator=generator)
    of_clip = torch.randn(batch, 1, 1, SHAPE.dim, generator=generator)
    of_patch = torch.randn(batch, frames, patches, SHAPE.dim, generator=generator)
    return shared + 0.5 * of_clip + 0.5 * of_patch


@pytest.fixture(params=CASES, ids=lambda case: "-".join([case[0], *map(str, case[1])]))
def build(request):
    """Builder of a projector, in eval mode."""
    name, options = request.param
    known = projectors.projector_options(name)
    small = {key: value for key, value in SMALL.items() if key in known}

    def make(grid: tuple[int, int] = GRID, seed: int = 0) -> Projector:
        torch.manual_seed(seed)
        shape = FeatureShape(FRAMES, grid, SHAPE.dim)
        return projectors.build(name, shape, LLM, **{**small, **options}).eval()

    return make


@pytest.mark.parametrize("frames", [1, 3, 4])
@pytest.mark.parametrize("grid", [(4, 3), (2, 5), (4, 4)])
def test_shape_is_tokens_per_video(build, frames, grid):
    projector = build(grid)
    tokens = projector(clips(2, frames, grid[0] * grid[1]))
    assert tokens.shape == (2, projector.tokens_per_video(frames), LLM)
    assert tokens.isfinite().all()


def test_every_parameter_gets_a_gradient(build):
    projector = build().train()
    tokens = projector(clips(2))
    # A plain sum would be constant behind a LayerNorm, and its gradient zero.
    weights = torch.randn(tokens.shape, generator=torch.Generator().manual_seed(2))
    (tokens * weights).sum().backward()
    dead = [n for n, p in projector.named_parameters() if p.grad is None or not p.grad.any()]
    assert not dead


@torch.no_grad()
def test_two_videos_give_different_tokens_at_initialisation(build):
    projector = build()
    a, b = projector(clips(2))
    difference = ((a - b).norm() / (0.5 * (a.norm() + b.norm()))).item()
    blind = type(projector).__name__ == "ConstantPrefix"  # the control that is trained blind
    assert difference == 0.0 if blind else difference > 0.05


@torch.no_grad()
def test_clips_of_a_batch_do_not_mix(build):
    projector, batch = build(), clips(3)
    torch.testing.assert_close(projector(batch)[1:2], projector(batch[1:2]))


@torch.no_grad()
def test_permuted_frames_permute_the_tokens_of_per_frame_projectors(build):
    projector = build()
    if not projector.per_frame:
        pytest.skip("tokens of this projector belong to no frame")
    features, order = clips(2), [2, 0, 3, 1]
    tokens = projector(features).unflatten(1, (FRAMES, -1))
    permuted = projector(features[:, order]).unflatten(1, (FRAMES, -1))
    torch.testing.assert_close(permuted, tokens[:, order])
    assert (tokens[:, 0] - tokens[:, 1]).abs().max() > 1e-3


def test_the_seed_alone_decides_the_weights(build):
    same, again, other = (build(seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(same[key], again[key]) for key in same)
    assert any(not torch.equal(same[key], other[key]) for key in same)


@torch.no_grad()
def test_bf16_follows_fp32(build):
    projector, features = build(), clips(2).bfloat16()
    exact = projector(features)  # bf16 features, fp32 weights
    rounded = projector.bfloat16()(features)
    assert (exact.dtype, rounded.dtype) == (torch.float32, torch.bfloat16)
    assert ((rounded.float() - exact).norm() / exact.norm()).item() < 0.05


def test_autocast_runs(build):
    projector = build().train()
    with torch.autocast("cpu", torch.bfloat16):
        tokens = projector(clips(2).bfloat16())
    tokens.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in projector.parameters())


@torch.no_grad()
def test_the_saved_weights_are_all_of_it(build):
    projector, restored = build(), build(seed=9)
    restored.load_state_dict(projector.state_dict())
    assert torch.equal(projector(clips(2)), restored(clips(2)))


def test_no_decay_names_every_bias_norm_and_embedding_and_no_weight_matrix(build):
    projector = build()
    named = dict(projector.named_parameters())
    kinds = (nn.Linear, nn.Conv2d, nn.Conv3d, nn.MultiheadAttention)
    attention = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
    weights = {
        f"{path}.{kind}".lstrip(".")
        for path, module in projector.named_modules()
        if isinstance(module, kinds)
        for kind in ("weight", *attention)
    }
    assert projector.no_decay_parameters() == named.keys() - weights


def test_wrong_shape_is_one_sentence(build):
    projector = build()
    for wrong in (clips(2)[0], clips(2, patches=SHAPE.patches + 1), clips(2)[..., :-1]):
        with pytest.raises(StudyError, match=r"features have shape \[.*expected \[clips, frames"):
            projector(wrong)
