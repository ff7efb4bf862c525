"""Prompts of the families: Qwen3, Llama 3, Gemma 3, each by a small template of its structure."""

import logging
from datetime import datetime

import pytest
from support.tiny_models import byte_level_tokenizer
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
FAMILIES = {
    "qwen3": dict(
        template=QWEN,
        specials=[
            "<|endoftext|>",
            "<|im_start|>",
            "<|im_end|>",
            "<|vision_start|>",
            "<|vision_end|>",
        ],
        eos="<|im_end|>",
        pad="<|endoftext|>",
        end="<|im_end|>",
        markers=("<|vision_start|>", "<|vision_end|>"),
        before="<|im_start|>user\n<|vision_start|>",
        after="<|vision_end|>Q?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
    ),
    "llama3": dict(
        template=LLAMA,
        specials=[
            "<|begin_of_text|>",
            "<|end_of_text|>",
            "<|start_header_id|>",
            "<|end_header_id|>",
            "<|eot_id|>",
        ],
        bos="<|begin_of_text|>",
        eos="<|end_of_text|>",
        end="<|eot_id|>",
        markers=("", ""),
        before="<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nDate: 26 Jul 2024"
        "\n\n<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n",
        after="Q?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    "gemma3": dict(
        template=GEMMA,
        specials=[
            "<pad>",
            "<eos>",
            "<bos>",
            "<start_of_turn>",
            "<end_of_turn>",
            "<start_of_image>",
            "<end_of_image>",
        ],
        bos="<bos>",
        eos="<eos>",
        pad="<pad>",
        end="<end_of_turn>",
        markers=("<start_of_image>", "<end_of_image>"),
        before="<bos><start_of_turn>user\n<start_of_image>",
        after="<end_of_image>Q?<end_of_turn>\n<start_of_turn>model\n",
    ),
    "bare": dict(
        template=BARE,
        specials=["</s>"],
        eos="</s>",
        end="</s>",
        markers=("", ""),
        before="[user] ",
        after="Q?",
    ),
    "spaced": dict(
        template=SPACED,
        specials=["<s>", "</s>"],
        bos="<s>",
        eos="</s>",
        end="</s>",
        markers=("", ""),
        before="<s>[INST] ",
        after="Q? [/INST]",
    ),
}
FAMILY = pytest.mark.parametrize("family", FAMILIES)


def build(family, adds_bos=True):
    """A byte tokenizer with the family's special tokens, which adds BOS by itself where it can."""
    from tokenizers import processors

    made = FAMILIES[family]
    tokenizer = byte_level_tokenizer(made["specials"])
    bos = made.get("bos")
    if bos and adds_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=bos, eos_token=made["eos"], pad_token=made.get("pad")
    )
    fast.chat_template = made["template"]
    return fast


def layout_of(tokenizer, **config):
    return prompt_layout(tokenizer, LlmConfig(model="m", prompt="Q?", **config))


@FAMILY
def test_the_prompt_is_that_of_the_family(family):
    tokenizer, made = build(family), FAMILIES[family]
    layout = layout_of(tokenizer)
    assert tokenizer.decode(layout.before) == made["before"]
    assert tokenizer.decode(layout.after) == made["after"]
    start, end = made["markers"]
    expected = made["before"].removesuffix(start) + made["after"].removeprefix(end)
    assert tokenizer.decode(layout.blind) == expected


@FAMILY
def test_a_caption_ends_as_an_assistants_turn_ends(family):
    tokenizer, made = build(family), FAMILIES[family]
    layout = layout_of(tokenizer)
    assert tokenizer.convert_ids_to_tokens(layout.eos) == made["end"]
    assert layout.pad == tokenizer.convert_tokens_to_ids(made.get("pad") or made["end"])


@FAMILY
@pytest.mark.parametrize("adds_bos", [True, False])
def test_bos_stands_once_and_first_where_the_template_has_it(family, adds_bos):
    tokenizer = build(family, adds_bos)
    layout = layout_of(tokenizer)
    for ids in (layout.before, layout.blind):
        count = ids.count(tokenizer.bos_token_id) if "bos" in FAMILIES[family] else 0
        assert count == ("bos" in FAMILIES[family])
        assert not count or ids[0] == tokenizer.bos_token_id


@FAMILY
def test_it_is_what_transformers_makes_of_the_conversation(family):
    """``apply_chat_template`` to token ids is the reference: nothing lost or added at the seams."""
    tokenizer, made = build(family), FAMILIES[family]
    layout = layout_of(tokenizer, vision_markers=("", ""))
    conversation = [{"role": "user", "content": "Q?"}]
    expected = tokenizer.apply_chat_template(
        conversation,
        add_generation_prompt=True,
        enable_thinking=False,
        date_string="26 Jul 2024",
        return_dict=False,
    )
    assert list(layout.blind) == list(expected) == [*layout.before, *layout.after]
    words = {"role": "assistant", "content": "빨간 공"}
    whole = tokenizer.apply_chat_template(
        [*conversation, words],
        enable_thinking=False,
        date_string="26 Jul 2024",
        return_dict=False,
    )
    said = list(tokenizer("빨간 공", add_special_tokens=False)["input_ids"])
    if family in ("qwen3", "llama3", "gemma3"):
        sequence = [*layout.blind, *said, layout.eos]
        assert list(whole[: len(sequence)]) == sequence
    assert made["markers"] == ("", "") or layout.before != layout_of(tokenizer).before


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
    tokenizer, made = build(family), FAMILIES[family]
    assert vision_markers(tokenizer, LlmConfig(model="m")) == made["markers"]
    for marker in filter(None, made["markers"]):
        assert len(tokenizer(marker, add_special_tokens=False)["input_ids"]) == 1


def test_markers_that_the_tokenizer_spells_out_are_warned_of(caplog):
    config = LlmConfig(model="m", vision_markers=("<|vision_start|>", "<|vision_end|>"))
    with caplog.at_level(logging.WARNING):
        assert vision_markers(build("qwen3"), config) == config.vision_markers
        assert not caplog.records
        vision_markers(build("llama3"), config)
    assert "<|vision_start|> is no token of m; it is spelt with 16" in caplog.text


def test_a_tokenizer_without_any_end_is_refused():
    tokenizer = build("bare")
    tokenizer.eos_token = None
    with pytest.raises(StudyError, match="ends a turn with no token of its own"):
        layout_of(tokenizer)
