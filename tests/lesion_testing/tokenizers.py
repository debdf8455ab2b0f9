"""Small tokenizers: of whole words, and of bytes."""

from collections.abc import Iterable, Sequence
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast


def of_words(words: Sequence[str], split: Any, **settings: Any) -> PreTrainedTokenizerFast:
    """A tokenizer of whole words, in the order of their ids; the first stands for every other.

    Args:
        words: its vocabulary.
        split: a pre-tokenizer, which says where a word ends.
        settings: of the tokenizer, such as its template.
    """
    vocabulary = {word: number for number, word in enumerate(words)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=words[0]))
    backend.pre_tokenizer = split
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token=words[0], **settings)


def _byte_level(model: models.BPE, prefix_space: bool = False) -> Tokenizer:
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    backend.decoder = decoders.ByteLevel()
    return backend


def trained_byte_level(
    texts: Iterable[str], special: Sequence[str], size: int, prefix_space: bool = False
) -> Tokenizer:
    """Byte-level BPE as GPT-2's, with the merges that some texts give."""
    backend = _byte_level(models.BPE(), prefix_space)
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return backend


def of_letters(words: Sequence[str], **settings: Any) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer without merges: every token is a letter, or a special token."""
    backend = _byte_level(models.BPE({word: number for number, word in enumerate(words)}, []))
    return PreTrainedTokenizerFast(tokenizer_object=backend, **settings)
