"""The micro models: the trainer end to end at a tiny size, and the committed weights."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import (
    AutoImageProcessor,
    AutoModelForCausalLM,
    AutoProcessor,
    AutoTokenizer,
    CLIPVisionModel,
    Qwen3ForCausalLM,
    SiglipModel,
)

from siglip_study.base.io import read_json
from siglip_study.demo.facts import parse_facts
from siglip_study.demo.world import ATTRIBUTES, Scene, facts
from tools.demo_models import measure, sequence, slots
from tools.demo_models.__main__ import main
from tools.demo_models.card import card
from tools.demo_models.lm import build_corpus, slot_ids
from tools.demo_models.proof import patch_features
from tools.demo_models.scenes import (
    captions,
    frame_times,
    geometry,
    pictures,
    sample_scenes,
    unseen,
)
from tools.demo_models.scorer import text_ids

COMMITTED = Path(__file__).parents[2] / "resources" / "demo"
PARTS = ("vision", "llm", "scorer")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("micro")
    main(["--out", str(folder), "--scale", "tiny", "--device", "cpu", "--workers", "1"])
    return folder


@pytest.fixture(scope="module", params=[pytest.param("tiny", marks=pytest.mark.full), "committed"])
def models(request: pytest.FixtureRequest) -> Path:
    if request.param == "committed":
        return COMMITTED
    folder: Path = request.getfixturevalue("tiny")
    return folder


@pytest.fixture(scope="module")
def lm() -> Qwen3ForCausalLM:
    model = AutoModelForCausalLM.from_pretrained(COMMITTED / "llm", dtype=torch.float32)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(COMMITTED / "llm")


def test_every_part_loads_by_its_auto_class_in_bf16(models: Path) -> None:
    total = 0
    for part in PARTS:
        path = models / part / "model.safetensors"
        total += path.stat().st_size
        with safe_open(path, "pt") as tensors:
            assert {tensors.get_tensor(k).dtype for k in tensors.keys()} == {torch.bfloat16}  # noqa: SIM118
    assert total <= 32e6
    assert isinstance(AutoModelForCausalLM.from_pretrained(models / "llm"), Qwen3ForCausalLM)
    tower, info = CLIPVisionModel.from_pretrained(models / "vision", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert (tower.config.image_size, tower.config.patch_size) == (64, 16)
    assert isinstance(SiglipModel.from_pretrained(models / "scorer"), SiglipModel)
    told = read_json(models / "quality.json", "demo_quality/1")
    assert (models / "README.md").read_text(encoding="utf-8") == card(models, told)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "빨간 공 두 개가 왼쪽으로 움직인다.",
        "쀍뚫 훈민정음 ㄱㄴㄷ",
        "🙂👨‍👩‍👧 é\u0301",
        "a\nb\t\x07",
        "𝄞漢字",
    ],
)
def test_tokenizers_give_back_any_text_in_nfc(models: Path, text: str) -> None:
    normal = unicodedata.normalize("NFC", text)
    for part in ("llm", "scorer"):
        tokenizer = AutoTokenizer.from_pretrained(models / part)
        for form in ("NFC", "NFD"):
            ids = tokenizer(unicodedata.normalize(form, text))["input_ids"]
            assert tokenizer.decode(ids, skip_special_tokens=True) == normal


def test_chat_template_is_qwens_without_a_think_block(models: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(models / "llm")
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "안녕"}],
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=False,
    )
    assert text == "<|im_start|>user\n안녕<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.eos_token == "<|im_end|>" and tokenizer.pad_token == "<|endoftext|>"
    ids = tokenizer.encode("<|vision_start|><|vision_end|>")
    assert len(ids) == 2 and tokenizer.model_max_length == 512
    # Head, video and tail together are the template with the video's place cut out.
    whole = sequence.head_ids(tokenizer) + sequence.tail_ids(tokenizer)
    content = f"<|vision_start|><|vision_end|>{sequence.PROMPT}"
    assert tokenizer.decode(whole) == text.replace("안녕", content)


def test_processors_work_without_torchvision(models: Path) -> None:
    from PIL import Image

    picture = Image.fromarray(np.full((90, 120, 3), 127, np.uint8))
    images = AutoImageProcessor.from_pretrained(models / "vision")(picture, return_tensors="np")
    assert images["pixel_values"].shape == (1, 3, 64, 64)
    both = AutoProcessor.from_pretrained(models / "scorer")(
        text=["새"], images=[picture], padding="max_length", return_tensors="pt"
    )
    assert both["input_ids"].shape == (1, 64) and set(both) == {"input_ids", "pixel_values"}


def test_unseen_facts_are_in_no_training_set() -> None:
    train = sample_scenes("lm", 300, 0)
    test = sample_scenes("lm", 100, 1, test=True)
    seen = {tuple(facts(s).values()) for s in train}
    assert not seen & {tuple(facts(s).values()) for s in test}
    assert all(map(unseen, test)) and not any(map(unseen, train))


def _scene(**changes: str) -> Scene:
    first = {a: values[0] for a, values in ATTRIBUTES.items()} | changes
    return Scene(**first, render_seed=7)


def test_geometry_of_a_thing_that_goes_right_moves_right() -> None:
    scenes = [_scene(motion="right"), _scene(motion="still")]
    placed = geometry(scenes, frame_times(2, 0, 0.0))
    assert (np.diff(placed.centre[0, :, 0]) > 0).all()
    assert np.ptp(placed.centre[1], axis=0).max() == 0
    assert placed.cover.min() >= 0 and placed.cover.max() <= 1
    # The patch under a lone thing's centre is the one it covers fully.
    x, y = placed.centre[0, 0]
    assert placed.cover[0, 0, int(y * 4) * 4 + int(x * 4)] == 1


def test_hard_slots_hold_one_word_true_of_the_scene(tokenizer: Any) -> None:
    torch.manual_seed(0)
    scenes = sample_scenes("lm", 8, 0)
    tensors = slots.SceneTensors.make(
        slot_ids(tokenizer, scenes), geometry(scenes, frame_times(8, 0, 0.0)), CPU
    )
    for weights in (slots.hard_pictures(tensors), slots.lists(tensors)):
        assert weights.shape == (8, 64, 15)
        assert ((weights == 0) | (weights == 1)).all() and (weights.sum(-1) == 1).all()
        # Motion and camera are never stated: they follow from what moves.
        assert not weights[..., [slots.MOTION, slots.CAMERA]].any()
    bag = slots.bags(tensors, 16, soft=False)
    assert (bag.sum((0, 1))[:8] > 0).all() and not bag[..., 8:].any()
    assert slots.pooled(tensors, soft=True).shape == (8, 16, 15)


def test_retrieval_shares_ties_and_margin_is_zero_for_one_caption() -> None:
    r1, margin = measure.retrieval(np.eye(3))
    assert (r1, margin) == (1.0, 1.0)
    same = np.tile([[0.2, 0.5, 0.5]], (3, 1))
    r1, margin = measure.retrieval(same)
    assert r1 == pytest.approx((0 + 0.5 + 0.5) / 3) and margin == pytest.approx(0)


def test_committed_lm_describes_what_its_video_span_states(
    lm: Qwen3ForCausalLM, tokenizer: Any
) -> None:
    torch.manual_seed(0)
    scenes = sample_scenes("lm", 40, 123, test=True)
    texts = captions(scenes, "clips", 1, 123, 1)
    corpus = build_corpus(tokenizer, scenes, texts, 0, 1, CPU, jitter=0.0)
    targets = [some[0] for some in corpus.captions]
    table = lm.get_input_embeddings().weight
    weights = slots.soft_pictures(corpus.scenes)
    span = slots.embed(weights, corpus.scenes.word_ids, table, disturb=False)
    head, tail = sequence.head_ids(tokenizer), sequence.tail_ids(tokenizer)

    def perplexity(video: torch.Tensor | None, prompt: list[int]) -> float:
        sums, tokens = sequence.target_losses(lm, head, video, [prompt] * len(targets), targets)
        return float((sums.sum() / tokens.sum()).exp())

    own = perplexity(span, tail)
    assert own < 0.7 * perplexity(None, sequence.blind_ids(tokenizer))
    assert own < 0.7 * perplexity(span.roll(1, 0), tail)
    accuracy = measure.fact_accuracy(sequence.greedy(lm, tokenizer, span), scenes)
    assert min(accuracy.values()) > 0.75


def test_committed_scorer_finds_a_captions_clip() -> None:
    scorer = SiglipModel.from_pretrained(COMMITTED / "scorer", dtype=torch.float32).eval()
    words = AutoTokenizer.from_pretrained(COMMITTED / "scorer")
    from tools.demo_models.pictures import HALF, normalise

    scenes = sample_scenes("scorer", 20, 55, test=True)
    frames = torch.from_numpy(pictures(scenes, frame_times(20, 0, 0.0), 1))
    with torch.no_grad():
        images = scorer.vision_model(normalise(frames, HALF, HALF)).pooler_output
        texts = [c[0] for c in captions(scenes, "clips", 1, 55, 1)]
        said = scorer.text_model(text_ids(words, texts)).pooler_output
    clips = torch.nn.functional.normalize(images, dim=-1).unflatten(0, (20, 4)).mean(1)
    cosine = torch.nn.functional.cosine_similarity(said[:, None], clips[None], dim=-1)
    r1, margin = measure.retrieval(cosine.numpy())
    assert r1 > 0.5 and margin > 0.2


def test_committed_tower_tells_the_place_from_one_patch() -> None:
    tower = CLIPVisionModel.from_pretrained(COMMITTED / "vision", dtype=torch.float32).eval()
    train = sample_scenes("tower", 60, 3)
    test = sample_scenes("tower", 30, 4, test=True)
    features = patch_features(tower, train + test)
    assert features.shape == (90, 4, 16, 192)
    values = ATTRIBUTES["place"]
    wanted = torch.tensor([values.index(s.place) for s in train + test])
    x = features.mean((1, 2))
    assert measure.linear_probe(x[:60], wanted[:60], x[60:], wanted[60:]) > 0.8


def test_probe_recovers_a_linear_rule_and_not_noise() -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(400, 6, generator=rng)
    y = (x[:, 0] > 0).long()
    assert measure.linear_probe(x[:200], y[:200], x[200:], y[200:]) > 0.9
    noise = torch.randint(0, 2, (400,), generator=rng)
    assert 0.35 < measure.linear_probe(x[:200], noise[:200], x[200:], noise[200:]) < 0.65


def test_facts_unstated_count_as_wrong() -> None:
    scene = _scene()
    assert parse_facts("")["thing"] is None
    assert set(measure.fact_accuracy([""], [scene]).values()) == {0.0}
