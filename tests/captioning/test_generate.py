"""Batched greedy decoding with a cache, against an argmax loop without either."""

import pytest
import torch

from siglip_study.captioning.generate import Caption, finish, generate_captions

IDS = [f"clip{i}" for i in range(7)]


def slow_greedy(model, batch, limit):
    """One clip, one token at a time, everything computed anew for every token."""
    embeddings = model.prompt_embeddings(batch)
    embed = model.llm.get_input_embeddings()
    tokens = []
    while len(tokens) < limit:
        logits = model.llm(inputs_embeds=embeddings, use_cache=False).logits[0, -1]
        tokens.append(int(logits.argmax()))
        if tokens[-1] == model.layout.eos:
            break
        embeddings = torch.cat([embeddings, embed(torch.tensor([[tokens[-1]]]))], dim=1)
    return tokens


def bias_towards_eos(model, amount):
    """Make the LLM end now and then: the tiny one never would by itself."""
    head = model.llm.get_output_embeddings()
    with torch.no_grad():
        head.weight[model.layout.eos] *= amount


@pytest.mark.parametrize("lora", [False, True])
def test_batches_equal_one_at_a_time_and_a_loop_without_cache(
    make_model, features, tokenizer, lora
):
    model = make_model(lora=lora).eval()
    bias_towards_eos(model, 1.5)
    captions = {
        size: generate_captions(
            model, tokenizer, IDS, features.batch, max_new_tokens=12, batch_size=size
        )
        for size in (1, 3, 7)
    }
    assert captions[1] == captions[3] == captions[7]
    assert len({caption.text for caption in captions[1]}) > 3  # else equality says little
    ends = set()
    for clip, caption in zip(IDS, captions[1], strict=True):
        with torch.no_grad():
            tokens = slow_greedy(model, features.batch([clip]), 12)
        ended = tokens[-1] == model.layout.eos
        text = tokenizer.decode(tokens[: len(tokens) - ended], skip_special_tokens=True).strip()
        assert caption == Caption(text, len(tokens), not ended)
        ends.add(ended)
    assert ends == {True, False}


def test_a_longer_budget_begins_with_the_shorter_caption(make_model, features, tokenizer):
    model = make_model()
    short, long = (
        generate_captions(model, tokenizer, ["a"], features.batch, max_new_tokens=n, batch_size=1)
        for n in (3, 9)
    )
    assert short[0].n_tokens == 3 and short[0].truncated
    assert long[0].n_tokens > 3


def test_a_generation_config_that_samples_is_overruled(make_model, features, tokenizer):
    model = make_model()

    def caption():
        return generate_captions(
            model, tokenizer, IDS[:2], features.batch, max_new_tokens=6, batch_size=2
        )

    plain = caption()
    model.llm.generation_config.update(
        do_sample=True, temperature=5.0, top_k=7, num_beams=3, use_cache=False, eos_token_id=[5, 6]
    )
    assert caption() == plain == caption()


def test_generation_draws_no_random_number(make_model, features, tokenizer):
    model = make_model()
    before = torch.get_rng_state()
    generate_captions(model, tokenizer, IDS, features.batch, max_new_tokens=4, batch_size=4)
    assert torch.equal(before, torch.get_rng_state())


def test_no_clips_no_captions(make_model, features, tokenizer):
    assert not generate_captions(
        make_model(), tokenizer, [], features.batch, max_new_tokens=4, batch_size=4
    )


def test_repetition_penalty_is_felt(make_model, features, tokenizer):
    model = make_model()
    plain, penalised = (
        generate_captions(
            model,
            tokenizer,
            IDS,
            features.batch,
            max_new_tokens=12,
            batch_size=7,
            repetition_penalty=p,
        )
        for p in (1.0, 5.0)
    )
    assert plain != penalised


@pytest.mark.parametrize(
    ("row", "n_tokens", "truncated"),
    [([2], 1, False), ([5, 2, 0, 0], 2, False), ([5, 6, 7], 3, True), ([5, 2, 6, 2], 2, False)],
)
def test_captions_end_at_the_first_eos(tokenizer, row, n_tokens, truncated):
    ended = row.index(2) if 2 in row else len(row)
    text = tokenizer.decode(row[:ended], skip_special_tokens=True).strip()
    assert finish(row, 2, tokenizer) == Caption(text, n_tokens, truncated)
