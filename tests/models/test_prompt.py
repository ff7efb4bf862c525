"""Prompts of the families: Qwen3, Llama 3, Gemma 3, each by a small template of its structure."""

import logging
from dataclasses import dataclass
from datetime import datetime

import pytest
from support.tiny_models import byte_level_tokenizer
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from siglip_study.base.errors import StudyError
from siglip_study.config.training import LlmConfig
from siglip_study.models.llm import prompt_layout, vision_markers

# Qwen3: no BOS; an empty thought where thinking is off, also before an assistant's last words.
QWEN = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% endif %}{% endif %}"
)
# Llama 3: BOS, a system turn with today's date, trimmed contents, EOS that ends no turn.
LLAMA = (
    "{{ bos_token }}{% if not date_string is defined %}{% if strftime_now is defined %}"
    "{% set date_string = strftime_now('%d %b %Y') %}{% else %}"
    "{% set date_string = '26 Jul 2024' %}{% endif %}{% endif %}"
    "<|start_header_id|>system<|end_header_id|>\n\nDate: {{ date_string }}\n\n<|eot_id|>"
    "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
# Gemma 3: BOS, the assistant is called model, no system role, roles must alternate.
GEMMA = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role not in ('user', 'assistant') %}{{ raise_exception('no such role') }}{% endif %}"
    "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
# ChatGLM-like: nothing of its own ends a turn.
BARE = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}"
# Mistral-like: a blank, then EOS.
SPACED = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }} {{ eos_token }}{% endif %}{% endfor %}"
)


@dataclass(frozen=True)
class Family:
    """A template, its special tokens, and what a prompt must be."""

    template: str
    specials: tuple[str, ...]
    before: str
    after: str
    end: str
    eos: str
    bos: str | None = None
    pad: str | None = None
    markers: tuple[str, str] = ("", "")


FAMILIES = {
    "qwen3": Family(
        QWEN,
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"),
        before="<|im_start|>user\n<|vision_start|>",
        after="<|vision_end|>Q?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
        end="<|im_end|>",
        eos="<|im_end|>",
        pad="<|endoftext|>",
        markers=("<|vision_start|>", "<|vision_end|>"),
    ),
    "llama3": Family(
        LLAMA,
        (
            *("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"),
            *("<|start_header_id|>", "<|end_header_id|>"),
        ),
        before="<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nDate: 26 Jul 2024"
        "\n\n<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n",
        after="Q?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        end="<|eot_id|>",
        eos="<|end_of_text|>",
        bos="<|begin_of_text|>",
    ),
    "gemma3": Family(
        GEMMA,
        (
            *("<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"),
            *("<start_of_image>", "<end_of_image>"),
        ),
        before="<bos><start_of_turn>user\n<start_of_image>",
        after="<end_of_image>Q?<end_of_turn>\n<start_of_turn>model\n",
        end="<end_of_turn>",
        eos="<eos>",
        bos="<bos>",
        pad="<pad>",
        markers=("<start_of_image>", "<end_of_image>"),
    ),
    "bare": Family(BARE, ("</s>",), before="[user] ", after="Q?", end="</s>", eos="</s>"),
    "spaced": Family(
        SPACED,
        ("<s>", "</s>"),
        before="<s>[INST] ",
        after="Q? [/INST]",
        end="</s>",
        eos="</s>",
        bos="<s>",
    ),
}
FAMILY = pytest.mark.parametrize("family", FAMILIES)


def build(family, adds_bos=True):
    """A byte tokenizer with the family's special tokens, which adds BOS by itself where it can."""
    made = FAMILIES[family]
    tokenizer = byte_level_tokenizer([*made.specials])
    if made.bos and adds_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{made.bos} $A", special_tokens=[(made.bos, tokenizer.token_to_id(made.bos))]
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=made.bos, eos_token=made.eos, pad_token=made.pad
    )
    fast.chat_template = made.template
    return fast


def layout_of(tokenizer, **config):
    return prompt_layout(tokenizer, LlmConfig(model="m", **{"prompt": "Q?", **config}))


@FAMILY
@pytest.mark.parametrize("adds_bos", [True, False])
def test_the_prompt_is_that_of_the_family(family, adds_bos):
    """BOS stands once where the template has it, whether the tokenizer adds one or not."""
    tokenizer, made = build(family, adds_bos), FAMILIES[family]
    layout = layout_of(tokenizer)
    assert tokenizer.decode(layout.before) == made.before
    assert tokenizer.decode(layout.after) == made.after
    start, end = made.markers
    blind = made.before.removesuffix(start) + made.after.removeprefix(end)
    assert tokenizer.decode(layout.blind) == blind
    assert tokenizer.convert_ids_to_tokens(layout.eos) == made.end
    assert layout.pad == tokenizer.convert_tokens_to_ids(made.pad or made.end)


@pytest.mark.parametrize("prompt", ["이 영상을 설명해주세요.", "é 🎬 “what”?", "{{ 7*7 }} {% x %}"])
def test_a_prompt_is_text_and_no_template(prompt):
    tokenizer = build("qwen3")
    after = tokenizer.decode(layout_of(tokenizer, prompt=prompt).after)
    assert after == FAMILIES["qwen3"].after.replace("Q?", prompt)


@FAMILY
def test_it_is_what_transformers_makes_of_the_conversation(family):
    """``apply_chat_template`` to token ids is the reference: nothing lost or added at the seams."""
    tokenizer = build(family)
    layout = layout_of(tokenizer, vision_markers=("", ""))

    def reference(*messages, **options):
        return tokenizer.apply_chat_template(
            messages,
            enable_thinking=False,
            date_string="26 Jul 2024",
            return_dict=False,
            **options,
        )

    question = {"role": "user", "content": "Q?"}
    expected = reference(question, add_generation_prompt=True)
    assert list(layout.blind) == list(expected) == [*layout.before, *layout.after]
    if family in ("qwen3", "llama3", "gemma3"):
        whole = reference(question, {"role": "assistant", "content": "빨간 공"})
        said = tokenizer("빨간 공", add_special_tokens=False)["input_ids"]
        sequence = [*layout.blind, *said, layout.eos]
        assert list(whole[: len(sequence)]) == sequence


def test_the_prompt_does_not_change_with_the_day(monkeypatch):
    import transformers.utils.chat_template_utils as chat

    first = layout_of(build("llama3"))

    class Later(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2031, 1, 2, tzinfo=tz)

    monkeypatch.setattr(chat, "datetime", Later)
    tokenizer = build("llama3")
    turn = [{"role": "user", "content": "Q?"}]
    # The template does ask for the day: without help the prompt would move with it.
    assert "02 Jan 2031" in tokenizer.apply_chat_template(turn, tokenize=False)
    assert layout_of(tokenizer) == first


@FAMILY
def test_markers_are_the_tokenizers_own_or_none(family):
    assert vision_markers(build(family), LlmConfig(model="m")) == FAMILIES[family].markers


def test_markers_that_the_tokenizer_spells_out_are_warned_of(caplog):
    config = LlmConfig(model="m", vision_markers=("<|vision_start|>", "<|vision_end|>"))
    with caplog.at_level(logging.WARNING):
        assert vision_markers(build("qwen3"), config) == config.vision_markers
        assert not caplog.records
        vision_markers(build("llama3"), config)
    assert "<|vision_start|> is no token of m; it is spelt with 16" in caplog.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chat_template": None}, "has no chat template; expected"),
        ({"chat_template": "no message at all"}, "shows a message 0 times; expected once"),
        ({"chat_template": "{{ messages[0].content }}" * 2}, "shows a message 2 times"),
        ({"chat_template": BARE, "eos_token": None}, "ends a turn with no token of its own"),
    ],
)
def test_tokenizers_that_cannot_be_prompted_are_refused(changes, message):
    tokenizer = build("qwen3")
    for name, value in changes.items():
        setattr(tokenizer, name, value)
    with pytest.raises(StudyError, match=rf"^llm\.model m: .*{message}.*\.$"):
        layout_of(tokenizer)
