"""A new model: a vocabulary of words, and a small Llama with random weights."""

from collections.abc import Iterable

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from lesion.io.formats import LesionError
from lesion.study.training import New

PAD, UNKNOWN, USER, BOT, END = SPECIAL = ("<pad>", "<unk>", "<user>", "<bot>", "<end>")
"""In the vocabulary's order. END closes an assistant's turn and a plain text."""
CHAT = (
    "{% for m in messages %}"
    "{% if m['role'] == 'assistant' %}<bot>{{ m['content'] }}<end>"
    "{% else %}<user>{{ m['content'] }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<bot>{% endif %}"
)
_WORD = r"\w+(?:['\u2019]\w+)*|[^\w\s]"
_CLOSING = ",.;:?!)"
"""Marks that follow a word without a space."""


def make_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer of lower-case words, in which every punctuation mark is a token.

    The vocabulary is every word of the texts; all other words become `<unk>`. The tokenizer has a
    chat template. Decoded text has ordinary spaces and no capital letter except the pronoun I, by
    which refusals are recognised.

    Raises:
        LesionError: the texts contain no word.
    """
    normal = normalizers.Lowercase()
    # Into words and single marks; everything between them is dropped.
    split = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\s+"), "removed"),
            pre_tokenizers.Split(Regex(_WORD), "isolated"),
        ]
    )
    words = {
        word for text in texts for word, _ in split.pre_tokenize_str(normal.normalize_str(text))
    }
    if not words:
        raise LesionError("the training texts contain no word for the vocabulary of the new model")
    # In alphabetical order, so that the same words give the same tokens.
    vocabulary = {word: index for index, word in enumerate([*SPECIAL, *sorted(words)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normal
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.Sequence(
        [
            # No token begins with the prefix, so this only joins words by spaces.
            decoders.WordPiece(prefix=" ", cleanup=False),
            decoders.Fuse(),
            *(decoders.Replace(f" {mark}", mark) for mark in _CLOSING),
            decoders.Replace(Regex(r"\bi\b"), "I"),
        ]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=UNKNOWN,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[USER, BOT],
        chat_template=CHAT,
        clean_up_tokenization_spaces=False,
    )


def new_model(shape: New, tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
    """A Llama with random fp32 weights for the vocabulary of a tokenizer from `make_tokenizer`.

    Raises:
        LesionError: the width can't be divided among the heads.
    """
    if shape.width % (2 * shape.heads):
        raise LesionError(
            f"a width of {shape.width} can't be divided among {shape.heads} heads of even width. "
            "Set `new.width` to a multiple of twice `new.heads`."
        )
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        max_position_embeddings=shape.context,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
        # Llama's 0.02 is for thousands of units; this value halves the steps to learn facts.
        initializer_range=shape.width**-0.5,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: PreTrainedModel = LlamaForCausalLM(config)
    model.eval()
    return model
