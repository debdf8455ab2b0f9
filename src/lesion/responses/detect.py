"""Harm detection: a model's probabilities of yes and no as the first token of its answer."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch.nn.functional import pad
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lesion.io.formats import LesionError
from lesion.models.padding import batching
from lesion.models.prefix import frozen, logits_at, shared_prefix
from lesion.models.text import Example, batches


class Answers(NamedTuple):
    """First tokens of the answers yes and no."""

    yes: list[int]
    no: list[int]


def answers(tokenizer: PreTrainedTokenizerBase) -> Answers:
    """First tokens of `Yes` and `No` in four spellings: small or capital, with a space or without.

    Tokens that begin both words are left out: a lone space, or the token for unknown words.

    Raises:
        LesionError: one of the two words has no first token of its own.
    """
    beginnings = []
    for word in ("Yes", "No"):
        spellings = [space + text for text in (word, word.lower()) for space in ("", " ")]
        rows = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in spellings]
        beginnings.append({int(row[0]) for row in rows if row} - {tokenizer.unk_token_id})
    yes, no = beginnings
    tokens = Answers(sorted(yes - no), sorted(no - yes))
    if not all(tokens):
        raise LesionError(
            "the model's tokenizer has no first tokens that distinguish `Yes` from `No`, so harm "
            "detection cannot be measured. Set `understanding.minimal_pairs: null`"
        )
    return tokens


@torch.inference_mode()
def log_odds(
    model: PreTrainedModel,
    prompts: Sequence[list[int]],
    answer_tokens: Answers,
    budget: int,
    advance: Callable[[int], object] = lambda _: None,
) -> list[float]:
    """Log odds of yes against no at the token after each prompt, in nats, in the prompts' order.

    Each P is the sum over the tokens in `answer_tokens`. The common prefix of all prompts is
    computed once; `budget` limits the padded tokens of a batch, without the prefix.
    """
    prefix = shared_prefix(model, [prompt[:-1] for prompt in prompts])
    seen = prefix.lengths[0] if prefix else 0
    # The appended 0 only marks the position of the answer; its value is not used.
    rests = [Example([*prompt[seen:], 0], len(prompt) - seen) for prompt in prompts]
    values = [float("nan")] * len(prompts)
    limits = batching(model, "right", prompts)
    for batch in batches(rests, limits.size(budget), limits.padded):
        past = {"past_key_values": frozen(prefix)} if prefix else {}
        ends = torch.tensor([rests[row].start - 1 for row in batch.rows])
        first, width = int(ends.min()), batch.tokens.shape[1]
        logits = logits_at(
            model,
            torch.arange(first, width - 1, device=model.device),
            input_ids=batch.tokens.to(model.device),
            attention_mask=pad(batch.mask, (seen, 0), value=1).to(model.device),
            use_cache=bool(past),
            **past,
        )
        rows = torch.arange(len(ends), device=model.device)
        # The differences of bf16 logits would be rounded away, so they are computed in fp32.
        last = logits[rows, ends.to(model.device) - first].float()
        yes, no = last[:, answer_tokens.yes], last[:, answer_tokens.no]
        odds = yes.logsumexp(1) - no.logsumexp(1)
        for row, value in zip(batch.rows, odds.tolist(), strict=True):
            values[row] = value
        advance(len(batch.rows))
    return values
