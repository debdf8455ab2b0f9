"""Greedy, batched generation."""

from collections.abc import Iterator, Sequence

import torch
from transformers import DynamicCache, GenerationConfig, PretrainedConfig, PreTrainedModel

from lesion.io.progress import Advance
from lesion.models.chat import Chat, Completion
from lesion.models.padding import alike, batching, own_settings_aside
from lesion.models.prefix import (
    accepts,
    batch_cache,
    can_share,
    last_only,
    left_padded,
    shared_prefix,
)
from lesion.models.text import consecutive_groups, context_of


@torch.inference_mode()
def complete(
    model: PreTrainedModel,
    chat: Chat,
    prompts: Sequence[list[int]],
    max_new_tokens: int,
    batch_size: int,
    advance: Advance = lambda *_: None,
) -> list[Completion]:
    """Complete each prompt greedily, in batches of similar length, and return them in order.

    Tokens that all prompts begin with are run once, and so is a prompt that others extend.
    If padding changes the model's answers, each batch has prompts of a single length.
    Prompts that leave no room for `max_new_tokens` in the model's context are not run.
    """
    rows = fitting(model.config, prompts, max_new_tokens)
    fitting_prompts = [prompts[row] for row in rows]
    limits = batching(model, "generate", fitting_prompts, max_new_tokens, batch_size)
    # A model without `position_ids` may count columns, which differ for a cached row.
    shares = limits.padded and accepts(model, "position_ids") and can_share(model, fitting_prompts)
    prefix = shared_prefix(model, [prompt[:-1] for prompt in fitting_prompts]) if shares else None
    families = _families(prompts, rows) if shares else [[row] for row in rows]
    roots = {row: prompts[family[0]] for family in families for row in family}
    if limits.padded:
        batches = _batches(prompts, families, batch_size)
    else:
        alike_rows = alike([len(prompt) for prompt in fitting_prompts], limits.size(batch_size))
        batches = ([rows[index] for index in batch] for batch in alike_rows)
    completions: dict[int, Completion] = {}
    for batch in batches:
        chosen = [prompts[row] for row in batch]
        beginnings = [roots[row] for row in batch]
        cache = batch_cache(model, chosen, beginnings, prefix) if shares else None
        done = _complete_batch(model, chat, chosen, max_new_tokens, cache)
        completions.update(zip(batch, done, strict=True))
        advance(len(batch), sum(completion.tokens for completion in done))
    if len(rows) < len(prompts):
        advance(len(prompts) - len(rows))
    return [completions.get(row, Completion("", 0, False)) for row in range(len(prompts))]


def fitting(
    config: PretrainedConfig, prompts: Sequence[list[int]], max_new_tokens: int
) -> list[int]:
    """The rows that fit the context; beyond it, position embeddings are missing or untrained."""
    context = context_of(config)
    return [row for row, prompt in enumerate(prompts) if len(prompt) + max_new_tokens <= context]


def _families(prompts: Sequence[list[int]], rows: Sequence[int]) -> list[list[int]]:
    """The rows, grouped by the shortest prompt that their prompts begin with, the root."""

    def extends(family: list[int], row: int) -> bool:
        root = prompts[family[0]]
        return prompts[row][: len(root)] == root

    # In sorted order, every row between a prompt and its extension extends it too.
    order = sorted(rows, key=lambda row: (prompts[row], row))
    return list(consecutive_groups(order, extends))


def _batches(
    prompts: Sequence[list[int]], families: Sequence[list[int]], size: int
) -> Iterator[list[int]]:
    """The rows by the length of their roots; only a family larger than a batch is divided."""
    batch: list[int] = []
    for family in sorted(families, key=lambda rows: (len(prompts[rows[0]]), rows[0])):
        if batch and len(family) <= size < len(batch) + len(family):
            yield batch
            batch = []
        for row in family:
            batch.append(row)
            if len(batch) == size:
                yield batch
                batch = []
    if batch:
        yield batch


def _complete_batch(
    model: PreTrainedModel,
    chat: Chat,
    prompts: list[list[int]],
    max_new_tokens: int,
    cache: DynamicCache | None,
) -> list[Completion]:
    stops = stop_tokens(model.generation_config, chat)
    padding = stops[0] if stops else 0
    tokens, mask = left_padded(prompts, padding)
    # A checkpoint's own generation_config may sample or penalise, which is not reproducible.
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        eos_token_id=stops or None,
        pad_token_id=padding,
    )
    with own_settings_aside(model):
        # All tokens and the full mask: `generate` computes positions from the mask, and feeds
        # the tokens that are not in the cache.
        output = model.generate(  # type: ignore[operator]
            tokens.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=config,
            **({} if cache is None else {"past_key_values": cache}),
            **last_only(model),
        )
    return [chat.read(row, stops) for row in output[:, tokens.shape[1] :].tolist()]


def stop_tokens(declared: GenerationConfig | None, chat: Chat) -> list[int]:
    """Tokens that end an answer: end of turn, end of text, and those the checkpoint declares."""
    ends = declared.eos_token_id if declared else None
    several = ends if isinstance(ends, list) else [ends]
    tokens = [chat.end_of_turn, chat.tokenizer.eos_token_id, *several]
    return list(dict.fromkeys(int(token) for token in tokens if token is not None))
