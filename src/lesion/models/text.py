"""From prompts and responses to tokens, and from tokens to batches."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from transformers import PretrainedConfig

from lesion.models.chat import Chat

_Item = TypeVar("_Item")


class Example(NamedTuple):
    """One pair as tokens: the loss is taken on `tokens[start:]` alone."""

    tokens: list[int]
    start: int


class Batch(NamedTuple):
    """Right-padded examples.

    `tokens` and `mask` are int64 [batch, length]; `targets` is `tokens` with everything but the
    response set to -100; `rows` are the examples' indices in the list that they come from.
    """

    tokens: Tensor
    mask: Tensor
    targets: Tensor
    rows: list[int]
    first: int
    """The first position of the batch whose next token counts."""


def context_of(config: PretrainedConfig) -> int:
    """The length of a causal or multimodal model's context; unlimited if its config lacks it."""
    text = config.get_text_config(decoder=True)
    # MPT's and DBRX's configs have their own name for it.
    names = ("max_position_embeddings", "max_seq_len")
    return next((length for name in names if (length := getattr(text, name, None))), sys.maxsize)


def encode_prompt(chat: Chat, prompt: str, prefill: str = "") -> list[int]:
    """Tokens of the text before the model's own words; see `Chat.render`."""
    return chat.encode(chat.render(prompt, prefill))


def encode_pair(
    chat: Chat,
    prompt: str,
    prefill: str,
    response: str,
    finished: bool,
    ids: Sequence[int] | None = None,
) -> Example:
    """Tokens of a pair: those that the model wrote, if given and usable, or of the response's text.

    `finished` adds the end-of-turn token, unless the text ends with it. A response that was cut off
    never reached it.
    """
    if ids and (written := encode_written(chat, prompt, prefill, response, ids)):
        return written
    before = chat.render(prompt, prefill)
    # White space precedes the prefill; the text after a prefill has its own.
    gap = "" if prefill or response[:1].isspace() else chat.format.gap
    head, words = chat.encode(before), chat.encode_answer(before, gap + response)
    end = chat.end_of_turn if finished else None
    if end is not None and words[-1:] != [end]:
        words = [*words, end]
    return Example(head + words, len(head))


def encode_written(
    chat: Chat, prompt: str, prefill: str, response: str, ids: Sequence[int]
) -> Example | None:
    """Tokens of a pair whose response the model wrote as `ids`, without tokenising it again.

    None if they do not decode to the response, as may happen with another model's tokenizer.
    """
    if not ids or max(ids) >= len(chat.tokenizer):
        return None
    stops = [] if chat.end_of_turn is None else [chat.end_of_turn]
    # If a base model began another turn, the white space before it was cut from the text.
    if chat.read(ids, stops).text.rstrip() != response.rstrip():
        return None
    before = encode_prompt(chat, prompt, prefill)
    return Example(before + list(ids), len(before))


def encode_plain(chat: Chat, prompt: str, prefill: str, response: str) -> Example:
    """Tokens of a pair without the chat format: prompt, new line, prefill and response.

    There are no control tokens: no BOS, and no end of turn.
    """

    def tokens(text: str) -> list[int]:
        ids = chat.tokenizer(text, add_special_tokens=False)["input_ids"]
        return [int(token) for token in ids]

    before = f"{prompt}\n{prefill}"
    # As in training: tokenizers that drop the space before a word give a response without it.
    gap = " " if prefill and response[:1].isalnum() else ""
    head, both = tokens(before), tokens(f"{before}{gap}{response}")
    # Where a token would reach from the prefill into the response, this is tokenised by itself.
    words = both[len(head) :] if both[: len(head)] == head else tokens(response)
    return Example(head + words, len(head))


def consecutive_groups(
    items: Iterable[_Item], fits: Callable[[list[_Item], _Item], bool]
) -> Iterator[list[_Item]]:
    """The items in lists, each of which is continued as long as the next item fits into it."""
    group: list[_Item] = []
    for item in items:
        if group and not fits(group, item):
            yield group
            group = []
        group.append(item)
    if group:
        yield group


def batches(examples: Sequence[Example], budget: int, padded: bool = True) -> Iterator[Batch]:
    """Batches by length whose padded size is at most `budget` tokens, with at least one row each.

    They are ordered by length, then by index, so the same examples always give the same batches.
    Without `padded`, the examples of a batch have one length (see `padding.batching`).
    """
    widths = [len(example.tokens) for example in examples]

    def fits(rows: list[int], row: int) -> bool:
        same = padded or widths[rows[0]] == widths[row]
        return same and (len(rows) + 1) * widths[row] <= budget

    for rows in consecutive_groups(
        sorted(range(len(widths)), key=lambda row: (widths[row], row)), fits
    ):
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
