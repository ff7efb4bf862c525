"""The sequence and its loss, against transformers' own loss with full labels and a mask."""

import pytest
import torch
from support.tiny_models import stir_adapters

from siglip_study.base.errors import StudyError
from siglip_study.captioning.generate import generate_captions
from siglip_study.models.llm import embedding_rms

RAGGED = [[7, 8, 9, 10, 11, 2], [20, 2], [2], [33, 34, 35, 2]]


def reference_loss(model, features, captions):
    """Mean loss of each row by the LLM's own forward: ids embedded, labels −100 elsewhere."""
    layout, llm = model.layout, model.llm
    video = model.video_embeddings(features)
    embed = llm.get_input_embeddings()
    rows, labels, masks = [], [], []
    longest = max(map(len, captions))
    for row, caption in zip(video, captions, strict=True):
        empty = longest - len(caption)
        tail = [*layout.after, *caption, *[layout.pad] * empty]
        rows.append(torch.cat([embed(torch.tensor(layout.before)), row, embed(torch.tensor(tail))]))
        prompt = len(layout.before) + len(row) + len(layout.after)
        labels.append([-100] * prompt + list(caption) + [-100] * empty)
        masks.append([1] * (prompt + len(caption)) + [0] * empty)
    return llm(
        inputs_embeds=torch.stack(rows),
        attention_mask=torch.tensor(masks),
        labels=torch.tensor(labels),
        use_cache=False,
    ).loss


@pytest.mark.parametrize("projector", ["linear", "constant_prefix"])
@pytest.mark.parametrize("lora", [False, True])
def test_loss_and_gradients_are_those_of_transformers(make_model, features, projector, lora):
    model = make_model(projector, lora=lora).eval()
    if lora:  # B starts at zero, which would hide A's gradient
        stir_adapters(model.llm)
    batch = features.batch(["a", "b", "c", "d"])
    sums, counts = model.caption_loss(batch, RAGGED)
    assert counts.tolist() == [6, 2, 1, 4]
    (sums.sum() / counts.sum()).backward()
    ours = {name: p.grad.clone() for name, p in model.trainable().items()}
    model.zero_grad()
    expected = reference_loss(model, batch, RAGGED)
    expected.backward()
    torch.testing.assert_close(sums.sum() / counts.sum(), expected, rtol=1e-5, atol=0)
    for name, parameter in model.trainable().items():
        scale = float(parameter.grad.abs().max())
        assert scale > 0, name
        torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-4, atol=1e-5 * scale)


def test_a_caption_costs_the_same_alone_and_beside_longer_ones(make_model, features):
    model = make_model().eval()
    ids = ["a", "b", "c", "d"]
    together, _ = model.caption_loss(features.batch(ids), RAGGED)
    for i, clip in enumerate(ids):
        alone, _ = model.caption_loss(features.batch([clip]), [RAGGED[i]])
        torch.testing.assert_close(alone[0], together[i], rtol=1e-5, atol=1e-6)


def test_padding_is_told_by_position_and_not_by_id(make_model, features):
    """A caption may hold the pad id itself; it is learned like any other token."""
    model = make_model().eval()
    pad = model.layout.pad
    batch = features.batch(["a", "b"])
    captions = [[5, pad, 2], [5, 2]]
    sums, counts = model.caption_loss(batch, captions)
    assert counts.tolist() == [3, 2]
    torch.testing.assert_close(
        sums.sum() / 5, reference_loss(model, batch, captions), rtol=1e-5, atol=0
    )


def test_only_the_video_span_depends_on_the_features(make_model, features):
    model = make_model()
    one, other = (model.prompt_embeddings(features.batch([clip])) for clip in "ab")
    differs = (one != other).any(-1)[0]
    first, video = len(model.layout.before), model.projector.tokens_per_video(2)
    assert one.shape[1] == first + video + len(model.layout.after)
    assert differs[first : first + video].all()
    assert not differs[:first].any() and not differs[first + video :].any()


def test_output_has_the_rms_of_the_embeddings(make_model, features):
    batch = features.batch([f"clip{i}" for i in range(8)])
    for projector in ("linear", "mlp_2l", "query_abstractor", "constant_prefix"):
        model = make_model(projector)
        rms = model.video_embeddings(batch).pow(2).mean().sqrt()
        assert float(rms) == pytest.approx(embedding_rms(model.llm), rel=1e-4)
        scaled = batch.float() * model.feature_scale
        assert float(scaled.pow(2).mean().sqrt()) == pytest.approx(1, rel=1e-5)


def test_all_zero_features_are_refused(make_model):
    with pytest.raises(StudyError, match="RMS of 0"):
        make_model().calibrate(torch.zeros(2, 2, 4, 12), match_embeddings=True)


def test_after_adapters_projector_and_lora_train_and_nothing_else(make_model, features):
    model = make_model(lora=True).train()
    assert {"feature_scale", "output_scale"} <= set(model.state_dict())
    names = set(model.trainable())
    assert {n for n in names if "lora_" not in n} == {
        "projector.proj.weight",
        "projector.proj.bias",
    }
    assert len([n for n in names if "lora_" in n]) == 2 * 7 * 2  # A and B, seven layers, twice
    model.caption_loss(features.batch(["a"]), [[5, 2]])[0].sum().backward()
    frozen = [p for n, p in model.named_parameters() if n not in names]
    assert frozen and all(p.grad is None for p in frozen)


def test_eos_is_learned(make_model, features, tokenizer):
    """A few steps on one short caption, and greedy decoding stops where the caption did."""
    model = make_model("mlp_2l", lora=True).train()
    target = [*tokenizer("빨간 공")["input_ids"], tokenizer.eos_token_id]
    optimizer = torch.optim.Adam(model.trainable().values(), lr=0.01)
    for _ in range(60):
        loss = model.caption_loss(features.batch(["a"]), [target])[0].sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    [caption] = generate_captions(
        model, tokenizer, ["a"], features.batch, max_new_tokens=32, batch_size=1
    )
    assert (caption.text, caption.n_tokens, caption.truncated) == ("빨간 공", len(target), False)
