"""Byte-level BPE tokenizers for the micro models, trained on captions; every byte is encodable."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
VISION_START, VISION_END = "<|vision_start|>", "<|vision_end|>"
LM_SPECIALS = (PAD, START, END, VISION_START, VISION_END)
LM_MAX_LENGTH = 512
SCORER_MAX_LENGTH = 64

#: Qwen's chat format without its think block; `enable_thinking` is accepted and has no effect.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def _byte_level_bpe(
    texts: Iterable[str], whole_words: Sequence[str], specials: Sequence[str], vocab_size: int
) -> Tokenizer:
    """A BPE over bytes, NFC first; each of ``whole_words`` (after a space) becomes one token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    corpus = list(texts)
    # A word as frequent as the whole corpus wins its merges before the vocabulary is full.
    line = "".join(" " + word for word in whole_words)
    corpus.extend([line] * len(corpus))
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(token, special=True) for token in specials],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return tokenizer


def language_tokenizer(
    texts: Iterable[str], whole_words: Sequence[str], vocab_size: int = 1500
) -> PreTrainedTokenizerFast:
    """The language model's tokenizer, with Qwen's special tokens and chat format."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_byte_level_bpe(texts, whole_words, LM_SPECIALS, vocab_size),
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[START, VISION_START, VISION_END],
        model_max_length=LM_MAX_LENGTH,
        padding_side="right",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def scorer_tokenizer(texts: Iterable[str], vocab_size: int = 1200) -> PreTrainedTokenizerFast:
    """The scorer's tokenizer: a text is followed by ``</s>`` and padded to 64 tokens.

    It returns no attention mask, as SigLIP's own does not: the text tower was trained without.
    """
    bpe = _byte_level_bpe(texts, (), ("<pad>", "</s>"), vocab_size)
    bpe.post_processor = TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", bpe.token_to_id("</s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="</s>",
        pad_token="<pad>",
        model_max_length=SCORER_MAX_LENGTH,
        model_input_names=["input_ids"],
        padding_side="right",
        clean_up_tokenization_spaces=False,
    )
