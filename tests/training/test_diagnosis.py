"""What is measured of a projector: against hand-worked figures, planted collapses and a resume."""

import math
from types import SimpleNamespace

import pytest
import torch

from siglip_study import projectors
from siglip_study.runs.clips import Clips
from siglip_study.training import diagnosis
from siglip_study.training.diagnosis import (
    VideoShare,
    attention_entropy,
    attention_watched,
    between_cosine,
    diagnose,
    effective_rank,
    frame_cost,
    neighbour_overlap,
)

IDS = [f"clip{i}" for i in range(12)]
STAGE2 = {"number": 2, "epochs": 3, "batch_size": 4, "gradient_accumulation": 1, "keep": "last"}
SHAPE = projectors.FeatureShape(2, (2, 2), 12)


def rows(*vectors):
    return torch.tensor(vectors, dtype=torch.float32)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


# ---- How vectors lie to each other.


@pytest.mark.parametrize(
    ("vectors", "rank"),
    [
        (torch.eye(5), 5),
        (torch.eye(5)[:3].repeat(4, 1), 3),
        (torch.ones(6, 4), 1),
        (torch.zeros(3, 4), 0),
        # Singular values 3 and 1: shares ¾ and ¼.
        (rows([3, 0, 0], [0, 1, 0]), math.exp(0.75 * math.log(4 / 3) + 0.25 * math.log(4))),
    ],
)
def test_effective_rank_by_hand(vectors, rank):
    assert effective_rank(vectors) == pytest.approx(rank, abs=1e-6)


@pytest.mark.parametrize("shape", [(7, 30), (30, 7)])
def test_effective_rank_is_that_of_the_singular_values_at_any_scale_and_shape(shape, generator):
    vectors = torch.randn(shape, generator=generator)
    values = torch.linalg.svdvals(vectors.double())
    shares = values / values.sum()
    expected = math.exp(-float((shares * shares.log()).sum()))
    for scale in (1e-4, 1.0, 1e4):
        assert effective_rank(vectors * scale) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("vectors", "cosine"),
    [
        (rows([1, 0], [0, 2], [3, 3]), 2 / math.sqrt(2) / 3),  # pairs: 0, 1/√2, 1/√2
        (torch.ones(4, 3), 1),
        (rows([1, 0], [-1, 0]), -1),
        (rows([1, 0], [0, 0]), 0),
    ],
)
def test_between_cosine_by_hand(vectors, cosine):
    assert between_cosine(vectors) == pytest.approx(cosine)
    assert between_cosine(vectors[:1]) is None


def share(*clips):
    measured = VideoShare()
    for clip in clips:
        measured.add(clip)
    return measured.value


def test_video_share_by_hand():
    # Token 1 is the same in both clips; token 2 is ±1 about 0: 2 of an energy of 2·4 + 2.
    assert share(rows([2, 0], [0, 1]), rows([2, 0], [0, -1])) == pytest.approx(2 / 10)
    clips = torch.eye(6).unsqueeze(1)  # nothing in common
    assert share(*clips) == pytest.approx(5 / 6)
    assert share(clips[0]) is None and share(*torch.zeros(3, 2, 2)) is None
    large = 1e4 + torch.randn(9, 5)
    assert share(*[large] * 7) == 0.0


def test_video_share_does_not_fade_with_the_number_of_tokens_as_pooling_does(generator):
    clips = [1 + torch.randn(4096, 8, generator=generator) for _ in range(8)]
    assert between_cosine(torch.stack([c.mean(0) for c in clips])) > 0.99
    assert share(*clips) == pytest.approx(0.5 * 7 / 8, abs=0.02)


def test_neighbours_survive_a_rotation_a_shift_and_a_scale(generator):
    before = torch.randn(20, 6, generator=generator)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=generator)).Q
    assert neighbour_overlap(before, 3 * before @ turn + 100) == pytest.approx(1.0)


def test_neighbour_overlap_by_hand():
    """Two tight pairs; after, clips 1 and 2 have changed places: k = 1, nobody keeps theirs."""
    before = rows([5, 1], [5, -1], [-5, 1], [-5, -1])
    assert neighbour_overlap(before, before) == 1.0
    assert neighbour_overlap(before, before[[0, 2, 1, 3]]) == 0.0


def test_neighbours_of_a_constant_or_of_two_are_not_guessed(generator):
    before = torch.randn(8, 3, generator=generator)
    assert neighbour_overlap(before, torch.ones(8, 3)) is None
    assert neighbour_overlap(before[:2], before[:2]) is None


def test_neighbours_by_chance(generator):
    pairs = torch.randn(40, 2, 32, 16, generator=generator)
    found = [neighbour_overlap(before, after) for before, after in pairs]
    assert sum(found) / 40 == pytest.approx(5 / 31, abs=0.02)


@pytest.mark.parametrize(
    ("weights", "entropy"),
    [
        (torch.full((2, 3, 8), 1 / 8), 1),
        (torch.eye(4), 0),
        (rows([0.5, 0.5, 0, 0], [1, 0, 0, 0]), 0.25),
        (torch.ones(3, 1), 0),
    ],
)
def test_attention_entropy_by_hand(weights, entropy):
    assert float(attention_entropy(weights)) == pytest.approx(entropy)


# ---- Attention to the video.

ATTENDING = {
    "query_abstractor": ({"queries": 3, "heads": 4}, 1),
    "query_perceiver": ({"queries": 3, "heads": 4, "depth": 2}, 2),
    "perceiver": ({"latents": 3, "heads": 2, "head_dim": 4, "depth": 2}, 2),
    "linear": ({}, 0),
}


def attending(name):
    torch.manual_seed(0)
    return projectors.build(name, SHAPE, 32, **ATTENDING[name][0]).eval()


@torch.no_grad()
@pytest.mark.parametrize("name", ATTENDING)
def test_attention_to_the_video_is_watched_and_changes_nothing(name):
    projector = attending(name)
    features = torch.randn(1, 2, 4, 12)
    plain = projector(features)
    with attention_watched(projector) as found:
        watched = projector(features)
    assert torch.equal(projector(features), plain) and torch.equal(watched, plain)
    assert len(found) == ATTENDING[name][1]
    assert all(0 <= float(entropy) <= 1 + 1e-6 for entropy in found)


@torch.no_grad()
@pytest.mark.parametrize(("scale", "expected"), [(0.0, 1.0), (1e4, 0.0)])
def test_entropy_of_flat_and_of_hard_attention(scale, expected):
    abstractor, perceiver = attending("query_abstractor"), attending("perceiver")
    abstractor.attention.in_proj_weight.mul_(scale)
    for layer in perceiver.layers:
        layer.attention.to_q.weight.mul_(scale)
    for projector in (abstractor, perceiver):
        with attention_watched(projector) as found:
            projector(torch.randn(1, 2, 4, 12))
        assert float(torch.stack(found).mean()) == pytest.approx(expected, abs=0.06)


def test_attention_weights_of_the_perceiver_are_those_it_attends_with():
    attention = attending("perceiver").layers[0].attention
    latents, context = torch.randn(5, 3, 12), torch.randn(5, 4, 12)
    weights = attention.attention_weights(latents, context)
    values = attention._queries_keys_values(latents, context)[2]
    by_hand = attention.to_out((weights @ values).transpose(1, 2).flatten(2))
    torch.testing.assert_close(attention(latents, context), by_hand)


# ---- A model.


@pytest.fixture
def look(features, accelerator):
    def measure(model, ids=IDS, source=features):
        return diagnose(model, source.batch, ids, accelerator)

    return measure


def test_a_healthy_projector(make_model, look):
    found = look(make_model())
    assert found["diag_n"] == 12
    # A linear map keeps what it is given, whatever it is initialised with.
    assert found["diag_neighbour_overlap"] > 0.6
    assert found["diag_video_share_after"] > 0.5 * found["diag_video_share_before"]
    assert found["diag_attention_entropy"] is None
    abstractor = make_model("query_abstractor", queries=3, heads=4)
    assert 0 < look(abstractor)["diag_attention_entropy"] < 1


def test_a_projector_collapsed_to_a_constant(make_model, look):
    model = make_model()
    with torch.no_grad():
        model.projector.proj.weight.zero_()
    found = look(model)
    assert found["diag_video_share_after"] == 0.0
    assert found["diag_cosine_after"] == pytest.approx(1.0)
    assert found["diag_rank_clips"] == pytest.approx(1.0, abs=1e-6)
    assert found["diag_rank_tokens"] == pytest.approx(1.0, abs=1e-6)
    assert found["diag_neighbour_overlap"] is None
    assert found["diag_video_share_before"] > 0.5
    assert look(make_model("constant_prefix", tokens=4))["diag_video_share_after"] == 0.0


def test_an_encoder_whose_clips_are_alike(make_model, features, look):
    same = SimpleNamespace(batch=lambda ids: features.batch(["one"] * len(ids)))
    found = look(make_model(), source=same)
    assert found["diag_video_share_before"] == 0.0 == found["diag_video_share_after"]
    assert found["diag_cosine_before"] == pytest.approx(1.0)


def test_nothing_is_measured_without_clips(make_model, look):
    model = make_model()
    found = look(model, [])
    assert found.keys() == look(model).keys()
    assert found.pop("diag_n") == 0
    assert set(found.values()) == {None}


def test_the_rank_of_many_tokens_is_taken_of_evenly_spaced_ones(
    make_model, features, look, monkeypatch
):
    monkeypatch.setattr(diagnosis, "RANKED_TOKENS", 24)  # two of eight tokens a clip
    asked = []
    monkeypatch.setattr(diagnosis, "effective_rank", lambda v: asked.append(v) or 1.0)
    model = make_model()
    look(model)
    tokens = model.video_embeddings(features.batch(IDS))
    torch.testing.assert_close(asked[1], tokens[:, [0, 4]].flatten(0, 1).detach())


def test_a_foreign_frame_costs_what_the_loss_says_and_nothing_where_no_video_is_seen(
    make_model, features, accelerator
):
    captions = tuple(((3, 4 + i, 5),) for i in range(6))
    clips = Clips(tuple(IDS[:6]), features, captions, 0)
    model = make_model()
    # Frames 0, 1, 0, … of clips 0, 1, 2, … are those of the next clip.
    own = features.batch(IDS[:6])
    changed, foreign = own.clone(), features.batch([*IDS[1:6], IDS[0]])
    for i in range(6):
        changed[i, i % own.shape[1]] = foreign[i, i % own.shape[1]]
    model.eval()
    with torch.no_grad():
        sums = [model.caption_loss(x, [c[0] for c in captions])[0] for x in (own, changed)]
    expected = float((sums[1] - sums[0]).mean()) / 3
    for batch in (6, 2):
        assert frame_cost(model, clips, 6, batch, accelerator) == pytest.approx(expected, abs=1e-5)
    assert abs(expected) > 1e-4
    blind = make_model("constant_prefix", tokens=4)
    assert frame_cost(blind, clips, 6, 6, accelerator) == 0.0
    assert frame_cost(model, clips, 1, 6, accelerator) is None


# ---- In training.


@pytest.fixture
def watched(make_model, train, look):
    """Train with the diagnosis on: the model, and the rows of its epochs without clocks."""

    def run(resume, diagnosis=look, **options):
        model = make_model(lora=True)
        position = train(model, resume=resume, diagnosis=diagnosis, **STAGE2, **options)
        rows = [{k: v for k, v in row.items() if k != "seconds"} for row in position.epochs]
        return model, rows

    return run


@pytest.mark.parametrize("dies", [1, 2])
@pytest.mark.parametrize("pace", [0.0, 1e9])
def test_a_resumed_run_measures_the_same(watched, killed, dies, pace):
    _, expected = watched("undisturbed")
    with pytest.raises(killed):
        watched("r", dies=dies, pace=pace)
    assert watched("r", pace=pace)[1] == expected
    assert len(expected) == 3
    starts = {row["diag_start_video_share_after"] for row in expected}
    assert len(starts) == 1 and starts != {expected[0]["diag_video_share_after"]}


def test_any_forward_split_measures_the_same(watched):
    (_, whole), (_, cut) = (watched(f"f{n}", forward=n) for n in (4, 1))
    for one, two in zip(whole, cut, strict=True):
        assert one.pop("diag_attention_entropy") is two.pop("diag_attention_entropy") is None
        assert two == pytest.approx(one, rel=1e-3, abs=1e-5)


def test_looking_does_not_change_what_is_trained(watched):
    (plain, _), (looked_at, _) = watched("plain", diagnosis=None), watched("looked at")
    ends = zip(plain.trainable().values(), looked_at.trainable().values(), strict=True)
    assert all(torch.equal(one, two) for one, two in ends)
