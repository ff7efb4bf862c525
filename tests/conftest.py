"""Tiny real models, built offline once a session. Heavy imports stay inside the fixtures."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import ClassVar

import pytest
from support.browser import CHROMIUM, Browser
from support.fake_hub import TOKEN, serve
from support.tiny_models import llm_sizes

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
    "{% endif %}"
)
CORPUS = [
    "이 영상을 자세히 설명해주세요.",
    "빨간 공이 왼쪽으로 굴러간다.",
    "a red ball rolls left.",
]
DIM, FRAMES, GRID = 12, 2, (2, 2)

# Each process of a test run has cores of its own, as has what it starts: threads of small models
# would wait for each other most of the time. Said before any of them imports torch.
_PROCESSES = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if _PROCESSES > 1:
    _CORES = sorted(os.sched_getaffinity(0))
    _OWN = _CORES[int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw")) :: _PROCESSES]
    if _OWN:
        os.sched_setaffinity(0, _OWN)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(_OWN))))
os.environ.setdefault("GOMP_SPINCOUNT", "20000")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that is marked ``gpu`` where there are not so many."""
    marker = item.get_closest_marker("gpu")
    if marker is not None:
        import torch

        wanted, found = marker.kwargs.get("count", 1), torch.cuda.device_count()
        if found < wanted:
            pytest.skip(f"needs {wanted} GPU(s), found {found}")


#: Rooms whose files take long, so that several processes end together.
_FIRST = ("workflow", "training", "models", "report", "planning")


def pytest_configure(config: pytest.Config) -> None:
    """pytest-xdist would hand files out by their number of tests; those with few take longest."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long comes first: one process waits for jobs while others have tests to run."""
    rooms = {room: place for place, room in enumerate(_FIRST)}
    items.sort(key=lambda item: rooms.get(item.path.parent.name, len(rooms)))


class MadeFeatures:
    """Features made from the id alone: what a FeatureStore gives, without files."""

    facts: ClassVar = {"dim": DIM, "grid": list(GRID), "patches": 4, "frames": FRAMES}

    def __init__(self, folder=None):
        self.folder = folder

    def __getitem__(self, clip):
        import torch

        seed = int.from_bytes(hashlib.sha256(clip.encode()).digest()[:4], "big")
        generator = torch.Generator().manual_seed(seed)
        shape = (FRAMES, GRID[0] * GRID[1], DIM)
        return (3.0 * torch.randn(shape, generator=generator) + 1.0).bfloat16()

    def batch(self, ids):
        import torch

        return torch.stack([self[clip] for clip in ids])


@pytest.fixture(scope="session")
def features():
    return MadeFeatures()


@pytest.fixture(scope="session")
def tiny_llm(tmp_path_factory) -> Path:
    """Folder of a two-layer Qwen3 and a byte-level BPE tokenizer with a short chat template."""
    import torch
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    folder = tmp_path_factory.mktemp("tiny-llm")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
    tokenizer.train_from_iterator(
        CORPUS * 3,
        trainers.BpeTrainer(
            vocab_size=320,
            special_tokens=specials,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=specials[0],
        eos_token=specials[2],
        model_max_length=4096,
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = llm_sizes(vocab_size=400, bos_token_id=None, tie_word_embeddings=False)
    # Wide enough for captions to differ without training.
    config = Qwen3Config(**sizes, initializer_range=0.3)
    Qwen3ForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def llm_config(tiny_llm):
    from siglip_study.config.training import LlmConfig, LoraConfig

    return LlmConfig(
        model=str(tiny_llm), quantization="none", lora=LoraConfig(r=4, alpha=8, dropout=0.0)
    )


@pytest.fixture
def tokenizer(llm_config):
    from siglip_study.models.llm import load_tokenizer

    return load_tokenizer(llm_config)


@pytest.fixture
def make_model(llm_config, tokenizer, features):
    """Builder of a calibrated model; with ``lora=True`` as stage 2 sees it."""
    import torch

    from siglip_study import projectors
    from siglip_study.models.llm import add_lora, load_llm, prompt_layout
    from siglip_study.models.vlm import VisionLanguageModel

    def build(projector="linear", lora=False, seed=0, config=llm_config, **options):
        torch.set_num_threads(1)
        llm = load_llm(config, torch.device("cpu"))
        torch.manual_seed(seed)
        made = projectors.build(
            projector, projectors.FeatureShape(FRAMES, GRID, DIM), 32, **options
        )
        model = VisionLanguageModel(made, llm, prompt_layout(tokenizer, config))
        model.calibrate(features.batch([f"clip{i}" for i in range(8)]), match_embeddings=True)
        if lora:
            torch.manual_seed(seed + 1)
            model.llm = add_lora(model.llm, config.lora)
        return model

    return build


@pytest.fixture
def make_clips(features, tokenizer):
    """Builder of ``n`` clips with ragged captions that end in EOS."""
    from siglip_study.runs.clips import Clips, tokenize_captions

    def build(n, start=0, source=features):
        ids = tuple(f"clip{i}" for i in range(start, start + n))
        texts = [["빨간 공 " * (1 + i % 3) + str(i)] for i in range(start, start + n)]
        tokens, cut = tokenize_captions(tokenizer, texts, tokenizer.eos_token_id, 64)
        return Clips(ids, source, tokens, cut)

    return build


@pytest.fixture
def fake_hub(monkeypatch, tmp_path):
    """A hub on this machine that the client asks, with an empty cache and a token that may write.

    Its client has read the environment when it was imported, so its constants are set as well.
    """
    with serve(tmp_path / "hub") as hub:
        home = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": TOKEN}
        for name, value in {**home, "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1"}.items():
            monkeypatch.setenv(name, value)
        template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        for name, value in {
            "ENDPOINT": hub.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": template,
            "HF_HUB_CACHE": str(tmp_path / "home/hub"),
            "HF_HUB_OFFLINE": False,
        }.items():
            monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
        yield hub


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("no chromium or google-chrome on the PATH")
    found = Browser(tmp_path_factory.mktemp("browser") / "profile")
    yield found
    found.close()
