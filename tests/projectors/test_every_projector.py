"""What any projector must do. A new file in the package is tested here without a word more."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from siglip_study.base.errors import StudyError
from siglip_study.projectors import build_projector, projector_names, projector_options
from siglip_study.projectors.base import Projector

VISION, LLM, GRID, FRAMES = 48, 64, (4, 3), 4
PATCHES = GRID[0] * GRID[1]

# Options that shrink a projector to the size of these tests; one without an entry is built with
# those of its defaults that are named here too.
SMALL = {
    "queries": 6,
    "latents": 3,
    "tokens": 5,
    "heads": 4,
    "head_dim": 16,
    "depth": 2,
    "hidden": 32,
    "pool": 2,
}
VARIANTS = {
    "perceiver": [{"per_frame": False}, {"width": 32}],
    **{name: [{"tokens_per_frame": 4}] for name in ("linear", "mlp_2l", "c_abstractor")},
}
CASES = [(name, {}) for name in projector_names()] + [
    (name, options) for name, variants in VARIANTS.items() for options in variants
]


def build(name: str, grid: tuple[int, int] = GRID, seed: int = 0, **options: object) -> Projector:
    small = {key: value for key, value in SMALL.items() if key in projector_options(name)}
    torch.manual_seed(seed)
    return build_projector(name, VISION, LLM, grid, FRAMES, **{**small, **options})


def clips(batch: int, frames: int = FRAMES, patches: int = PATCHES, seed: int = 1) -> torch.Tensor:
    """Features as a vision tower makes them: shared by all clips + of the clip + of the patch."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(1, 1, patches, VISION, generator=generator)
    of_clip = torch.randn(batch, 1, 1, VISION, generator=generator)
    of_patch = torch.randn(batch, frames, patches, VISION, generator=generator)
    return shared + 0.5 * of_clip + 0.5 * of_patch


@pytest.fixture(params=CASES, ids=lambda case: "-".join([case[0], *map(str, case[1])]))
def case(request: pytest.FixtureRequest) -> tuple[str, dict]:
    return request.param


@pytest.mark.parametrize("frames", [1, 3, 4])
@pytest.mark.parametrize("grid", [(4, 3), (2, 5), (4, 4)])
def test_shape_is_tokens_per_video(case, frames, grid):
    name, options = case
    projector = build(name, grid, **options)
    patches = grid[0] * grid[1]
    tokens = projector(clips(2, frames, patches))
    assert tokens.shape == (2, projector.tokens_per_video(frames, patches), LLM)
    assert tokens.isfinite().all()


def test_every_parameter_gets_a_gradient(case):
    name, options = case
    projector = build(name, **options)
    tokens = projector(clips(2))
    # A plain sum would be constant behind a LayerNorm, and its gradient zero.
    (
        tokens * torch.randn(tokens.shape, generator=torch.Generator().manual_seed(2))
    ).sum().backward()
    dead = [n for n, p in projector.named_parameters() if p.grad is None or not p.grad.any()]
    assert not dead


def test_two_videos_give_different_tokens_at_initialisation(case):
    name, options = case
    projector = build(name, **options).eval()
    with torch.no_grad():
        a, b = projector(clips(2))
    difference = ((a - b).norm() / (0.5 * (a.norm() + b.norm()))).item()
    if projector.sees_video:
        assert difference > 0.05
    else:
        assert difference == 0.0


def test_clips_of_a_batch_do_not_mix(case):
    name, options = case
    projector = build(name, **options).eval()
    batch = clips(3)
    with torch.no_grad():
        together, alone = projector(batch), projector(batch[1:2])
    torch.testing.assert_close(together[1:2], alone)


def test_permuted_frames_permute_the_tokens_of_per_frame_projectors(case):
    name, options = case
    projector = build(name, **options).eval()
    if not projector.per_frame:
        pytest.skip("tokens of this projector belong to no frame")
    features, order = clips(2), [2, 0, 3, 1]
    with torch.no_grad():
        tokens = projector(features).unflatten(1, (FRAMES, -1))
        permuted = projector(features[:, order]).unflatten(1, (FRAMES, -1))
    torch.testing.assert_close(permuted, tokens[:, order])
    assert (tokens[:, 0] - tokens[:, 1]).abs().max() > 1e-3


def test_the_seed_alone_decides_the_weights(case):
    name, options = case
    same, again, other = (build(name, seed=seed, **options).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(same[key], again[key]) for key in same)
    assert any(not torch.equal(same[key], other[key]) for key in same)


def test_bf16_follows_fp32(case):
    name, options = case
    projector = build(name, **options).eval()
    features = clips(2).bfloat16()
    with torch.no_grad():
        exact = projector(features)  # bf16 features, fp32 weights
        rounded = projector.bfloat16()(features)
    assert exact.dtype == torch.float32
    assert rounded.dtype == torch.bfloat16
    assert ((rounded.float() - exact).norm() / exact.norm()).item() < 0.05


def test_autocast_runs(case):
    name, options = case
    projector = build(name, **options)
    with torch.autocast("cpu", torch.bfloat16):
        tokens = projector(clips(2).bfloat16())
    tokens.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in projector.parameters())


def test_weights_survive_safetensors(case, tmp_path):
    name, options = case
    projector = build(name, **options)
    save_file(projector.state_dict(), tmp_path / "projector.safetensors")
    restored = build(name, seed=9, **options)
    restored.load_state_dict(load_file(tmp_path / "projector.safetensors"))
    features = clips(2)
    with torch.no_grad():
        assert torch.equal(projector.eval()(features), restored.eval()(features))


def test_no_decay_names_every_bias_norm_and_embedding_and_no_weight_matrix(case):
    name, options = case
    projector = build(name, **options)
    named = dict(projector.named_parameters())
    no_decay = projector.no_decay_parameters()
    assert no_decay <= named.keys()
    weights = {
        f"{path}.{kind}".lstrip(".")
        for path, module in projector.named_modules()
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d, torch.nn.MultiheadAttention))
        for kind in ("weight", "in_proj_weight")
        if f"{path}.{kind}".lstrip(".") in named
    }
    assert no_decay == named.keys() - weights


def test_wrong_shape_is_one_sentence(case):
    name, options = case
    projector = build(name, **options)
    for wrong in (clips(2)[0], clips(2, patches=PATCHES + 1), clips(2)[..., :-1]):
        with pytest.raises(StudyError, match=r"features have shape \[.*expected \[clips, frames"):
            projector(wrong)


def test_count_is_the_sum_over_the_state(case):
    name, options = case
    projector = build(name, **options)
    assert projector.n_parameters() == sum(t.numel() for t in projector.state_dict().values())
