"""From prompts and responses to tokens, and from tokens to batches."""

import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedTokenizerBase

PLAIN = "User: {prompt}\n\nAssistant:"
"""What a base model without a chat template is given (docs/architectures.md).

A prefill follows after one space, the response after that, and the tokenizer's own special tokens
(a BOS) come before. EOS ends a turn.
"""


class Example(NamedTuple):
    """One pair as tokens: the loss is taken on `tokens[start:]` alone."""

    tokens: list[int]
    start: int


class Batch(NamedTuple):
    """Right-padded examples.

    `tokens` and `mask` are int64 [batch, length]; `targets` is `tokens` with everything but the
    response set to -100; `rows` are the examples' places in the list they came from.
    """

    tokens: Tensor
    mask: Tensor
    targets: Tensor
    rows: list[int]
    first: int
    """The first position of the batch whose next token counts."""


def context_of(config: PretrainedConfig) -> int:
    """The most tokens that a model was made for; without end if its config does not say.

    Args:
        config: of a causal model, or of one that holds one beside others (vision, audio).
    """
    text = config.get_text_config(decoder=True)
    return getattr(text, "max_position_embeddings", None) or sys.maxsize


def render(tokenizer: PreTrainedTokenizerBase, prompt: str, prefill: str = "") -> str:
    """The text that precedes the model's own words: chat template, prompt, and the prefill."""
    if tokenizer.chat_template is None:
        text = PLAIN.format(prompt=prompt) + (" " if prefill else "")
    else:
        text = str(
            tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
            )
        )
    return text + prefill


def encode_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str, prefill: str = "") -> list[int]:
    """Tokens of `render`. A template writes its own special tokens, so none are added to it."""
    plain = tokenizer.chat_template is None
    ids = tokenizer(render(tokenizer, prompt, prefill), add_special_tokens=plain)["input_ids"]
    return [int(token) for token in ids]


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The token that closes an assistant's turn; the tokenizer's EOS without a chat template."""
    if tokenizer.chat_template is not None:
        text = str(
            tokenizer.apply_chat_template(
                [{"role": "user", "content": "?"}, {"role": "assistant", "content": "\u2603"}],
                tokenize=False,
            )
        )
        after = tokenizer(text.rpartition("\u2603")[2], add_special_tokens=False)["input_ids"]
        special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
        closing = [int(token) for token in after if token in special]
        if closing:
            return closing[0]
    return tokenizer.eos_token_id  # type: ignore[no-any-return]


def encode_pair(
    tokenizer: PreTrainedTokenizerBase, prompt: str, prefill: str, response: str, finished: bool
) -> Example:
    """Tokens of a pair; the response is tokenised by itself, so that its first token is its own.

    `finished` adds the end-of-turn token, which a response that was cut off never reached.
    """
    before = encode_prompt(tokenizer, prompt, prefill)
    words = [int(token) for token in tokenizer(response, add_special_tokens=False)["input_ids"]]
    end = end_of_turn(tokenizer) if finished else None
    return Example(before + words + ([] if end is None else [end]), len(before))


def batches(examples: Sequence[Example], budget: int, padded: bool = True) -> Iterator[Batch]:
    """Batch by length so that the padded size stays within `budget` tokens; one row at least.

    The order is by length, then by place: the same examples always make the same batches. Without
    `padded`, the examples of a batch have one length (see `padding.batching`).
    """
    order = sorted(range(len(examples)), key=lambda row: (len(examples[row].tokens), row))
    rows: list[int] = []
    for row in order:
        width = len(examples[row].tokens)
        other = not padded and rows and len(examples[rows[0]].tokens) != width
        if rows and (other or (len(rows) + 1) * width > budget):
            yield _pad(examples, rows)
            rows = []
        rows.append(row)
    if rows:
        yield _pad(examples, rows)


def _pad(examples: Sequence[Example], rows: list[int]) -> Batch:
    width = max(len(examples[row].tokens) for row in rows)
    tokens = torch.zeros(len(rows), width, dtype=torch.int64)
    mask = torch.zeros_like(tokens)
    targets = torch.full_like(tokens, -100)
    for line, row in enumerate(rows):
        ids, start = examples[row]
        tokens[line, : len(ids)] = torch.tensor(ids)
        mask[line, : len(ids)] = 1
        targets[line, start : len(ids)] = tokens[line, start : len(ids)]
    first = min(examples[row].start for row in rows) - 1
    return Batch(tokens, mask, targets, rows, first)
