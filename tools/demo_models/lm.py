"""Training of the micro language model: Qwen3 that describes whatever its video span states."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from siglip_study.demo.captions import fact_words
from siglip_study.demo.world import ATTRIBUTES, Scene
from tools.demo_models import sequence, slots
from tools.demo_models.scales import Budget, train
from tools.demo_models.scenes import captions, frame_times, geometries, sample_scenes
from tools.demo_models.tokenizer import LM_MAX_LENGTH, language_tokenizer

VARIANTS = 3
#: Other wordings of the request, so that the model keeps to the video whatever the prompt.
PROMPTS = (
    sequence.PROMPT,
    "영상을 설명해주세요.",
    "이 영상에 무엇이 보이나요?",
    "Describe this video.",
)
QUESTIONS = {
    "thing": "무엇이 있나요?",
    "colour": "무슨 색인가요?",
    "size": "얼마나 큰가요?",
    "count": "몇 개인가요?",
    "motion": "어느 쪽으로 움직이나요?",
    "place": "어디인가요?",
    "weather": "날씨는 어떤가요?",
    "camera": "카메라는 어떻게 움직이나요?",
}
#: Kind of each training step: 12 with 64 slots, 6 with 16, 2 without a video, of every 20.
SCHEDULE = ("64", "64", "16", "64", "64", "16", "64", "blind", "64", "16") * 2
#: Share of requests that are a question about one attribute.
QUESTION_SHARE = 0.15
STUDY_PROMPT_SHARE = 0.7


@dataclass(frozen=True)
class Corpus:
    """Tokenized captions and answers of scenes, and the words their slots may hold."""

    scenes: slots.SceneTensors
    captions: list[list[list[int]]]
    answers: list[list[list[int]]]
    n: int


def build_model(vocab_size: int, pad: int, end: int) -> Qwen3ForCausalLM:
    """An untrained model. Embeddings start large, so that they stay nearly orthogonal."""
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=vocab_size,
            hidden_size=192,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=32,
            max_position_embeddings=LM_MAX_LENGTH,
            tie_word_embeddings=True,
            initializer_range=0.05,
            pad_token_id=pad,
            eos_token_id=end,
            bos_token_id=None,
            use_cache=True,
        )
    )
    with torch.no_grad():
        model.model.embed_tokens.weight.normal_(0, 0.25)
        model.model.norm.weight.fill_(0.3)
    model.generation_config.eos_token_id = end
    model.generation_config.pad_token_id = pad
    model.generation_config.do_sample = False
    return model


def single_tokens(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[int]:
    """The token of each word written after a space; every slot word is exactly one."""
    encoded = tokenizer([" " + text for text in texts], add_special_tokens=False)["input_ids"]
    for text, ids in zip(texts, encoded, strict=True):
        if len(ids) != 1:
            raise ValueError(f"{text!r} is {len(ids)} tokens; expected a slot word to be one")
    return [ids[0] for ids in encoded]


def slot_ids(tokenizer: PreTrainedTokenizerFast, scenes: list[Scene]) -> np.ndarray:
    """Token ids of the 15 words of each scene; int64 [N, 15]."""
    names = slots.slot_words()
    token = dict(zip(names, single_tokens(tokenizer, names), strict=True))
    return np.array([[token[w] for w in slots.scene_words(s)] for s in scenes], np.int64)


def train_tokenizer(scenes: list[Scene], texts: list[list[str]]) -> PreTrainedTokenizerFast:
    """The tokenizer of the captions, questions and slot words."""
    corpus = [text for some in texts[:20_000] for text in some]
    requests = [*PROMPTS, *QUESTIONS.values()]
    frame = [f"user\n{request}\nassistant\n" for request in requests]
    return language_tokenizer(corpus + frame * max(len(corpus) // 200, 1), slots.slot_words())


def build_corpus(
    tokenizer: PreTrainedTokenizerFast,
    scenes: list[Scene],
    texts: list[list[str]],
    seed: int,
    workers: int,
    device: torch.device,
    jitter: float = 0.3,
) -> Corpus:
    """Everything a training or a measurement needs of some scenes."""
    placed = geometries(scenes, frame_times(len(scenes), seed, jitter), workers)
    flat = sequence.target_ids(tokenizer, [text for some in texts for text in some])
    variants = len(texts[0])
    names = slots.slot_words()
    known = dict(zip(names, sequence.target_ids(tokenizer, names), strict=True))
    return Corpus(
        scenes=slots.SceneTensors.make(slot_ids(tokenizer, scenes), placed, device),
        captions=[flat[i * variants : (i + 1) * variants] for i in range(len(scenes))],
        answers=[[known[word] for word in fact_words(s).values()] for s in scenes],
        n=len(scenes),
    )


def mixed_slots(scenes: slots.SceneTensors, kind: str) -> torch.Tensor:
    """Weights [B, S, 15] of one training step: all the ways of filling 64 or 16 slots."""
    n = len(scenes.cover)
    cuts = [0, n // 2, n * 65 // 100, n * 8 // 10, n * 9 // 10, n]
    parts = [scenes.at(torch.arange(a, b)) for a, b in pairwise(cuts)]
    if kind == "64":
        made = [
            slots.soft_pictures(parts[0]),
            slots.hard_pictures(parts[1]),
            slots.lists(parts[2]),
            slots.bags(parts[3], slots.SLOTS, soft=True),
            slots.bags(parts[4], slots.SLOTS, soft=False),
        ]
    else:
        made = [
            slots.pooled(parts[0], soft=True),
            slots.pooled(parts[1], soft=False),
            slots.bags(parts[2], slots.POOLED, soft=True),
            slots.bags(parts[3], slots.POOLED, soft=True),
            slots.bags(parts[4], slots.POOLED, soft=False),
        ]
    return torch.cat(made)


def train_lm(
    out: Path, budget: Budget, minutes: float | None, seed: int, device: torch.device, workers: int
) -> dict[str, float]:
    """Train tokenizer and model on the pool ``lm`` and save both to ``out``.

    Returns:
        What the card states of the training.
    """
    torch.manual_seed(seed)
    draw = random.Random(seed)
    scenes = sample_scenes("lm", budget.scenes, seed)
    texts = captions(scenes, "clips", VARIANTS, seed, workers)
    tokenizer = train_tokenizer(scenes, texts)
    corpus = build_corpus(tokenizer, scenes, texts, seed, workers, device)
    model = build_model(len(tokenizer), tokenizer.pad_token_id, tokenizer.eos_token_id).to(device)
    head = sequence.head_ids(tokenizer)
    tails = [sequence.tail_ids(tokenizer, p) for p in PROMPTS]
    asks = [sequence.tail_ids(tokenizer, q) for q in QUESTIONS.values()]
    blind = sequence.blind_ids(tokenizer)
    table = model.get_input_embeddings().weight

    def requests(rows: list[int]) -> tuple[list[list[int]], list[list[int]]]:
        prompts, targets = [], []
        for row in rows:
            if draw.random() < QUESTION_SHARE:
                attribute = draw.randrange(len(ATTRIBUTES))
                prompts.append(asks[attribute])
                targets.append(corpus.answers[row][attribute])
            else:
                study = draw.random() < STUDY_PROMPT_SHARE
                prompts.append(tails[0] if study else draw.choice(tails))
                targets.append(draw.choice(corpus.captions[row]))
        return prompts, targets

    def loss_at(step: int) -> torch.Tensor:
        kind = SCHEDULE[step % len(SCHEDULE)]
        rows = [draw.randrange(corpus.n) for _ in range(budget.batch)]
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            if kind == "blind":
                targets = [draw.choice(corpus.captions[row]) for row in rows]
                sums, tokens = sequence.target_losses(
                    model, head, None, [blind] * len(rows), targets
                )
            else:
                some = corpus.scenes.at(torch.tensor(rows, device=device))
                with torch.no_grad():
                    weights = mixed_slots(some, kind)
                vectors = slots.embed(weights, some.word_ids, table, disturb=True)
                sums, tokens = sequence.target_losses(model, head, vectors, *requests(rows))
        return sums.sum() / tokens.sum()

    model.train()
    steps = train(list(model.parameters()), loss_at, budget, minutes, "llm")
    model.eval().to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    return {"scenes": budget.scenes, "steps": steps, "batch": budget.batch}
