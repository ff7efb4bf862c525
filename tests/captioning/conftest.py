"""Tiny language models of several families with random weights, each behind a projector."""

import pytest
import torch
from support.tiny_models import gemma_sizes, llm_sizes

EOS = 2
FAMILIES = ("qwen3", "llama", "gemma3", "gemma3_short_window", "mistral_sliding")


def _config(family):
    import transformers

    shared = llm_sizes(
        num_hidden_layers=3,
        initializer_range=0.3,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=EOS,
    )
    mixed = {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
    experts = {"num_local_experts": 2, "num_experts_per_tok": 1}
    # Prompts here have 13 positions: one window ends within the prompt, one within the caption.
    name, sizes = {
        "qwen3": ("Qwen3Config", shared),
        "llama": ("LlamaConfig", shared),
        "gpt_oss": ("GptOssConfig", shared | experts | {"sliding_window": 5}),
        "gemma2": ("Gemma2Config", gemma_sizes(shared, 5) | {"attn_logit_softcapping": 1.0}),
        "gemma3": ("Gemma3TextConfig", gemma_sizes(shared, 16) | mixed),
        "gemma3_short_window": ("Gemma3TextConfig", gemma_sizes(shared, 5) | mixed),
        "mistral_sliding": ("MistralConfig", shared | {"sliding_window": 7}),
    }[family]
    return getattr(transformers, name)(**sizes)


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture
def make_family(features):
    """Builder of an fp32 model of a family; ``eos_bias`` makes captions end early now and then."""
    from transformers import AutoModelForCausalLM

    from siglip_study import projectors
    from siglip_study.models.llm import PromptLayout
    from siglip_study.models.vlm import VisionLanguageModel

    def build(family, eos_bias=0.0, dtype=torch.float32):
        torch.set_num_threads(1)
        torch.manual_seed(3)
        llm = AutoModelForCausalLM.from_config(_config(family), dtype=dtype).eval()
        llm.requires_grad_(False)
        if eos_bias:
            bias = eos_bias * torch.eye(300, dtype=dtype)[EOS]
            llm.lm_head.bias = torch.nn.Parameter(bias, requires_grad=False)
        projector = projectors.build("linear", projectors.FeatureShape(2, (2, 2), 12), 32)
        layout = PromptLayout((3, 4, 5), (6, 7), (3, 4, 7), EOS, 0)
        model = VisionLanguageModel(projector, llm, layout)
        model.calibrate(features.batch([f"clip{i}" for i in range(8)]), match_embeddings=True)
        return model.eval()

    return build


class Numbers:
    """A tokenizer that writes ids as numbers."""

    @staticmethod
    def decode(ids, skip_special_tokens=True):
        return " ".join(map(str, ids))


@pytest.fixture
def numbers():
    return Numbers()
