"""What is measured of a projector: against hand-worked figures, planted collapses and a resume."""

import math
import types

import pytest
import torch
from torch import nn

from siglip_study import projectors
from siglip_study.training.diagnosis import (
    attention_watched,
    diagnose,
    gradient_norms,
    gradient_parts,
    gradient_shares,
    norm_columns,
)
from siglip_study.training.geometry import (
    VideoShare,
    attention_entropy,
    between_cosine,
    effective_rank,
    neighbour_overlap,
    overlap_neighbours,
)

IDS = [f"clip{i}" for i in range(12)]
STAGE2 = {"number": 2, "epochs": 3, "batch_size": 4, "gradient_accumulation": 1, "keep": "last"}
SHAPE = projectors.FeatureShape(2, (2, 2), 12)


def rows(*vectors):
    return torch.tensor(vectors, dtype=torch.float32)


# --- effective rank -----------------------------------------------------------------------------


def test_effective_rank_of_k_equal_directions_is_k():
    assert effective_rank(torch.eye(5)) == pytest.approx(5)
    assert effective_rank(torch.eye(5)[:3].repeat(4, 1)) == pytest.approx(3)
    assert effective_rank(torch.ones(6, 4)) == pytest.approx(1, abs=1e-6)
    assert effective_rank(torch.zeros(3, 4)) == 0


def test_effective_rank_by_hand():
    """Singular values 3 and 1: shares ¾ and ¼, entropy ¾·ln(4/3) + ¼·ln 4."""
    expected = math.exp(0.75 * math.log(4 / 3) + 0.25 * math.log(4))
    assert effective_rank(rows([3, 0, 0], [0, 1, 0])) == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(7, 30), (30, 7)])
def test_effective_rank_is_that_of_the_singular_values_at_any_scale_and_shape(shape):
    vectors = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(vectors.double())
    shares = values / values.sum()
    expected = math.exp(-float((shares * shares.log()).sum()))
    for scale in (1e-4, 1.0, 1e4):
        assert effective_rank(vectors * scale) == pytest.approx(expected, rel=1e-5)


# --- between-video cosine -----------------------------------------------------------------------


def test_between_cosine_by_hand():
    """Pairs: 0, 1/√2, 1/√2."""
    assert between_cosine(rows([1, 0], [0, 2], [3, 3])) == pytest.approx(2 / math.sqrt(2) / 3)
    assert between_cosine(torch.ones(4, 3)) == pytest.approx(1)
    assert between_cosine(rows([1, 0], [-1, 0])) == pytest.approx(-1)
    assert between_cosine(rows([1, 0], [0, 0])) == pytest.approx(0)
    assert between_cosine(torch.ones(1, 3)) is None


# --- share of the video -------------------------------------------------------------------------


def share(*clips):
    measured = VideoShare()
    for clip in clips:
        measured.add(clip)
    return measured.value


def test_video_share_by_hand():
    """Token 1 is the same in both clips; token 2 is ±1 about 0: 2 of an energy of 2·4 + 2."""
    assert share(rows([2, 0], [0, 1]), rows([2, 0], [0, -1])) == pytest.approx(2 / 10)


def test_video_share_is_exactly_0_for_equal_clips_however_large():
    clip = 1e4 + torch.randn(9, 5)
    assert share(*[clip] * 7) == 0.0


def test_video_share_of_clips_that_have_nothing_in_common():
    clips = torch.eye(6).unsqueeze(1)
    assert share(*clips) == pytest.approx(5 / 6)
    assert share(clips[0]) is None and share(*torch.zeros(3, 2, 2)) is None


def test_video_share_does_not_fade_with_the_number_of_tokens_as_pooling_does():
    generator = torch.Generator().manual_seed(0)
    common = torch.ones(8)
    clips = [common + torch.randn(4096, 8, generator=generator) for _ in range(8)]
    assert between_cosine(torch.stack([c.mean(0) for c in clips])) > 0.99
    assert share(*clips) == pytest.approx(0.5 * 7 / 8, abs=0.02)


# --- neighbours ---------------------------------------------------------------------------------


def test_neighbours_survive_a_rotation_a_shift_and_a_scale():
    generator = torch.Generator().manual_seed(1)
    before = torch.randn(20, 6, generator=generator)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=generator)).Q
    assert neighbour_overlap(before, 3 * before @ turn + 100) == pytest.approx(1.0)


def test_neighbour_overlap_by_hand():
    """Two tight pairs; after, clips 1 and 2 have changed places: k = 1, nobody keeps theirs."""
    before = rows([5, 1], [5, -1], [-5, 1], [-5, -1])
    assert neighbour_overlap(before, before) == 1.0
    assert neighbour_overlap(before, before[[0, 2, 1, 3]]) == 0.0


def test_neighbours_of_a_constant_are_not_guessed():
    before = torch.randn(8, 3, generator=torch.Generator().manual_seed(2))
    assert neighbour_overlap(before, torch.ones(8, 3)) is None
    assert neighbour_overlap(before[:2], before[:2]) is None
    assert [overlap_neighbours(n) for n in (1, 2, 3, 6, 11, 32)] == [0, 0, 1, 2, 5, 5]


def test_neighbours_by_chance():
    generator = torch.Generator().manual_seed(3)
    found = [
        neighbour_overlap(*torch.randn(2, 32, 16, generator=generator).unbind()) for _ in range(40)
    ]
    assert sum(found) / 40 == pytest.approx(5 / 31, abs=0.02)


# --- attention ----------------------------------------------------------------------------------


def test_attention_entropy_by_hand():
    assert float(attention_entropy(torch.full((2, 3, 8), 1 / 8))) == pytest.approx(1)
    assert float(attention_entropy(torch.eye(4))) == 0
    assert float(attention_entropy(rows([0.5, 0.5, 0, 0], [1, 0, 0, 0]))) == pytest.approx(0.25)
    assert float(attention_entropy(torch.ones(3, 1))) == 0


ATTENDING = {
    "query_abstractor": ({"queries": 3, "heads": 4}, 1),
    "query_perceiver": ({"queries": 3, "heads": 4, "depth": 2}, 2),
    "perceiver": ({"latents": 3, "heads": 2, "head_dim": 4, "depth": 2}, 2),
    "linear": ({}, 0),
}


@pytest.mark.parametrize("name", ATTENDING)
def test_attention_to_the_video_is_watched_and_changes_nothing(name):
    options, modules = ATTENDING[name]
    torch.manual_seed(0)
    projector = projectors.build(name, SHAPE, 32, **options).eval()
    features = torch.randn(1, 2, 4, 12)
    with torch.no_grad():
        plain = projector(features)
        with attention_watched(projector) as found:
            watched = projector(features)
        assert torch.equal(projector(features), plain)
    assert torch.equal(watched, plain)
    assert len(found) == modules and all(0 <= float(h) <= 1 + 1e-6 for h in found)


@pytest.mark.parametrize(("scale", "expected"), [(0.0, 1.0), (1e4, 0.0)])
def test_entropy_of_flat_and_of_hard_attention(scale, expected):
    torch.manual_seed(0)
    abstractor = projectors.build("query_abstractor", SHAPE, 32, queries=3, heads=4)
    perceiver = projectors.build("perceiver", SHAPE, 32, latents=3, heads=2, head_dim=4)
    with torch.no_grad():
        abstractor.attention.in_proj_weight.mul_(scale)
        for layer in perceiver.layers:
            layer.attention.to_q.weight.mul_(scale)
        for projector in (abstractor, perceiver):
            with attention_watched(projector) as found:
                projector(torch.randn(1, 2, 4, 12))
            assert float(torch.stack(found).mean()) == pytest.approx(expected, abs=0.06)


def test_attention_weights_of_the_perceiver_are_those_it_attends_with():
    torch.manual_seed(0)
    projector = projectors.build("perceiver", SHAPE, 32, latents=3, heads=2, head_dim=4)
    attention = projector.layers[0].attention
    latents, context = torch.randn(5, 3, 12), torch.randn(5, 4, 12)
    weights = attention.attention_weights(latents, context)
    values = attention._queries_keys_values(latents, context)[2]
    by_hand = attention.to_out((weights @ values).transpose(1, 2).flatten(2))
    torch.testing.assert_close(attention(latents, context), by_hand)


# --- gradients ----------------------------------------------------------------------------------


def test_shares_of_the_squared_norm_by_hand():
    """Norms 3 and 4 in the projector, 12 in the adapters: 25 of 169."""
    made = {
        name: nn.Parameter(torch.zeros(1))
        for name in ("projector.proj.weight", "projector.norm.bias", "llm.lora_A", "llm.lora_B")
    }
    for parameter, gradient in zip(made.values(), (3.0, 4.0, 12.0, None), strict=True):
        parameter.grad = None if gradient is None else torch.tensor([gradient])
    parts = gradient_parts(made)
    norms = gradient_norms(parts, torch.device("cpu")).tolist()
    assert norms == [3, 4, 12]
    row = norm_columns(list(parts), norms)
    assert row["grad_norm_projector"] == pytest.approx(5)
    found = gradient_shares([row, row])
    assert found == {
        "grad_share_projector": pytest.approx(25 / 169),
        "grad_share_projector.proj": pytest.approx(9 / 169),
        "grad_share_projector.norm": pytest.approx(16 / 169),
        "grad_share_lora": pytest.approx(144 / 169),
    }
    assert set(gradient_shares([dict.fromkeys(row, 0.0)]).values()) == {None}


def test_histories_of_both_stages_have_the_same_columns(make_model, train):
    for number, lora in ((1, False), (2, True)):
        position = train(make_model("mlp_2l", lora=lora), number=number, resume=f"r{number}")
        for row in position.steps:
            both = row["grad_norm_projector"] ** 2 + row["grad_norm_lora"] ** 2
            assert math.sqrt(both) == pytest.approx(row["grad_norm"], rel=1e-5)
        for row in position.epochs:
            assert row["grad_share_projector"] + row["grad_share_lora"] == pytest.approx(1)
            assert (row["grad_share_lora"] > 0) == lora


# --- a model ------------------------------------------------------------------------------------


def look(model, features, accelerator, ids=IDS):
    return diagnose(model, features.batch, ids, accelerator)


def test_a_healthy_projector(make_model, features, accelerator):
    found = look(make_model(), features, accelerator)
    assert found["diag_n"] == 12
    # A linear map keeps what it is given, whatever it is initialised with.
    assert found["diag_neighbour_overlap"] > 0.6
    assert found["diag_video_share_after"] > 0.5 * found["diag_video_share_before"]
    assert found["diag_attention_entropy"] is None
    assert 0 < make_attending(make_model, features, accelerator) < 1


def make_attending(make_model, features, accelerator):
    model = make_model("query_abstractor", queries=3, heads=4)
    return look(model, features, accelerator)["diag_attention_entropy"]


def test_a_projector_collapsed_to_a_constant(make_model, features, accelerator):
    model = make_model()
    with torch.no_grad():
        model.projector.proj.weight.zero_()
    found = look(model, features, accelerator)
    assert found["diag_video_share_after"] == 0.0
    assert found["diag_cosine_after"] == pytest.approx(1.0)
    assert found["diag_rank_clips"] == pytest.approx(1.0, abs=1e-6)
    assert found["diag_rank_tokens"] == pytest.approx(1.0, abs=1e-6)
    assert found["diag_neighbour_overlap"] is None
    assert found["diag_video_share_before"] > 0.5
    blind = look(make_model("constant_prefix", tokens=4), features, accelerator)
    assert blind["diag_video_share_after"] == 0.0


def test_an_encoder_whose_clips_are_alike(make_model, features, accelerator):
    same = types.SimpleNamespace(batch=lambda ids: features.batch(["one"] * len(ids)))
    found = look(make_model(), same, accelerator)
    assert found["diag_video_share_before"] == 0.0 == found["diag_video_share_after"]
    assert found["diag_cosine_before"] == pytest.approx(1.0)


def test_nothing_is_measured_without_clips(make_model, features, accelerator):
    found = look(make_model(), features, accelerator, [])
    assert found.pop("diag_n") == 0
    assert set(found.values()) == {None}
    assert found.keys() | {"diag_n"} == look(make_model(), features, accelerator).keys()


def test_the_rank_of_many_tokens_is_taken_of_evenly_spaced_ones(
    make_model, features, accelerator, monkeypatch
):
    from siglip_study.training import diagnosis

    model = make_model()
    whole = look(model, features, accelerator)
    monkeypatch.setattr(diagnosis, "RANKED_TOKENS", 24)  # two of eight tokens a clip
    asked = []
    monkeypatch.setattr(diagnosis, "effective_rank", lambda v: asked.append(v) or 1.0)
    some = look(model, features, accelerator)
    tokens = model.video_embeddings(features.batch(IDS))
    torch.testing.assert_close(asked[1], tokens[:, [0, 4]].flatten(0, 1).detach())
    assert some["diag_cosine_after"] == whole["diag_cosine_after"]


# --- in training --------------------------------------------------------------------------------


@pytest.fixture
def told(make_model, train, features, accelerator):
    """Train with the diagnosis on; the rows of its epochs, without clocks."""

    def run(resume, **options):
        position = train(
            make_model(lora=True),
            resume=resume,
            diagnosis=lambda model: diagnose(model, features.batch, IDS, accelerator),
            **STAGE2,
            **options,
        )
        return [{k: v for k, v in row.items() if k != "seconds"} for row in position.epochs]

    return run


@pytest.mark.parametrize("dies", [1, 2])
@pytest.mark.parametrize("pace", [0.0, 1e9])
def test_a_resumed_run_tells_the_same(told, killed, dies, pace):
    expected = told("undisturbed")
    with pytest.raises(killed):
        told("r", dies=dies, pace=pace)
    assert told("r", pace=pace) == expected
    assert len(expected) == 3
    starts = {row["diag_start_video_share_after"] for row in expected}
    assert len(starts) == 1 and starts != {expected[0]["diag_video_share_after"]}


def test_any_forward_split_tells_the_same(told):
    one, two = (told(f"f{n}", forward=n) for n in (4, 1))
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            near = b[key] if b[key] is None else pytest.approx(b[key], rel=1e-3, abs=1e-5)
            assert a[key] == near, key


def test_looking_does_not_change_what_is_trained(make_model, train, features, accelerator):
    plain, watched = make_model(lora=True), make_model(lora=True)
    train(plain, resume="plain", **STAGE2)
    train(
        watched,
        resume="watched",
        diagnosis=lambda model: diagnose(model, features.batch, IDS, accelerator),
        **STAGE2,
    )
    ends = zip(plain.trainable().values(), watched.trainable().values(), strict=True)
    assert all(torch.equal(one, two) for one, two in ends)
