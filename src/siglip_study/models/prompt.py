"""The chat template of a language model, split around the video and around the caption."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from siglip_study.base.errors import StudyError
from siglip_study.config.training import LlmConfig

log = logging.getLogger(__name__)

# Stand where video and caption go while the template is rendered; no tokenizer ever sees them.
_VIDEO = "\x00video\x00"
_CAPTION = "\x00caption\x00"
# Special tokens that enclose an image, by the models that know them: Qwen, Gemma 3.
_MARKERS = (("<|vision_start|>", "<|vision_end|>"), ("<start_of_image>", "<end_of_image>"))
# Llama's system preamble names today's date: a prompt must be the same tomorrow. This is the day
# that its templates fall back on, put in the place of the clock that they ask.
_NO_CLOCK = "{% macro strftime_now(format) %}26 Jul 2024{% endmacro %}"


@dataclass(frozen=True)
class PromptLayout:
    """Token ids around the video span and around the caption.

    A sequence is ``before + [video embeddings] + after + caption + eos``. The blind sequence is the
    same template with the video span and its markers removed.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    blind: tuple[int, ...]
    #: with which the template ends an assistant's turn; it need not be the tokenizer's own EOS
    eos: int
    pad: int


def prompt_layout(tokenizer: Any, config: LlmConfig) -> PromptLayout:
    """Render the chat template and split it where the video goes.

    Everything comes from the template: a BOS token, a system preamble, the role names, an empty
    thought where thinking is switched off, and the token that ends a turn.

    Raises:
        StudyError: the tokenizer has no chat template that shows a message once, or no token that
            ends a turn.
    """
    source = f"llm.model {config.model}"
    if tokenizer.chat_template is None:
        raise StudyError(
            f"{source}: its tokenizer has no chat template; expected an instruction-tuned model."
        )

    def ids(text: str) -> tuple[int, ...]:
        # The template spells special tokens, BOS among them, so that none is added here.
        return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])

    start, end = vision_markers(tokenizer, config)
    question = [{"role": "user", "content": f"{start}{_VIDEO}{end}{config.prompt}"}]
    parts = _render(tokenizer, question, True).split(_VIDEO)
    if len(parts) != 2:
        raise StudyError(
            f"{source}: its chat template shows a message {len(parts) - 1} times; expected once."
        )
    before, after = parts
    pad = tokenizer.pad_token_id
    eos = _end_of_turn(tokenizer, source)
    blind = _render(tokenizer, [{"role": "user", "content": config.prompt}], True)
    return PromptLayout(
        before=ids(before),
        after=ids(after),
        blind=ids(blind),
        eos=eos,
        pad=eos if pad is None else int(pad),
    )


def vision_markers(tokenizer: Any, config: LlmConfig) -> tuple[str, str]:
    """The text before and after the video: the config's, else the tokenizer's own, else none."""
    if config.vision_markers is None:
        vocabulary = tokenizer.get_vocab()
        known = (pair for pair in _MARKERS if all(marker in vocabulary for marker in pair))
        return next(known, ("", ""))
    for marker in config.vision_markers:
        pieces = tokenizer(marker, add_special_tokens=False)["input_ids"]
        if len(pieces) > 1:
            log.warning(
                "llm.vision_markers: %s is no token of %s; it is spelt with %d.",
                marker,
                config.model,
                len(pieces),
            )
    return config.vision_markers


def _render(tokenizer: Any, messages: Sequence[dict[str, str]], prompts: bool) -> str:
    return str(
        tokenizer.apply_chat_template(
            messages,
            chat_template=_NO_CLOCK + tokenizer.get_chat_template(),
            tokenize=False,
            add_generation_prompt=prompts,
            enable_thinking=False,
        )
    )


def _end_of_turn(tokenizer: Any, source: str) -> int:
    """The special token that follows an assistant's words; failing that, the tokenizer's EOS."""
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _CAPTION}]
    parts = _render(tokenizer, turns, False).split(_CAPTION)
    if len(parts) == 2:
        tail = tokenizer(parts[1].lstrip(), add_special_tokens=False)["input_ids"]
        special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
        if tail and tail[0] in special and tail[0] != tokenizer.bos_token_id:
            return int(tail[0])
    if tokenizer.eos_token_id is None:
        raise StudyError(
            f"{source}: its chat template ends a turn with no token of its own, and its tokenizer "
            "has no end-of-text token; expected one of them."
        )
    return int(tokenizer.eos_token_id)
