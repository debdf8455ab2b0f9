"""Whether a model calls a request harmful, read off the first token of its answer."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lesion.io.formats import LesionError
from lesion.models.padding import batching
from lesion.models.prefix import PrefixCache, frozen, logits_at, shared_prefix
from lesion.models.text import Batch, Example, batches


class Answers(NamedTuple):
    """Tokens with which an answer begins that says yes, and one that says no."""

    yes: list[int]
    no: list[int]


def answers(tokenizer: PreTrainedTokenizerBase) -> Answers:
    """First tokens of `Yes` and `No` in four spellings: small or capital, with a space or without.

    A token that begins both (a lone space, a word that the vocabulary lacks) tells nothing.

    Raises:
        LesionError: the tokenizer has no token of its own for one of the two.
    """
    yes, no = (_beginnings(tokenizer, word) for word in ("Yes", "No"))
    found = Answers(sorted(yes - no), sorted(no - yes))
    if not all(found):
        raise LesionError(
            "the model's tokenizer has no first tokens that tell `Yes` from `No`, so it can't be "
            "asked whether a request is harmful. Set `understanding.minimal_pairs: null`"
        )
    return found


def _beginnings(tokenizer: PreTrainedTokenizerBase, word: str) -> set[int]:
    spellings = [space + one for one in (word, word.lower()) for space in ("", " ")]
    rows = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in spellings]
    return {int(row[0]) for row in rows if row} - {tokenizer.unk_token_id}


@torch.inference_mode()
def log_odds(
    model: PreTrainedModel,
    prompts: Sequence[list[int]],
    said: Answers,
    budget: int,
    advance: Callable[[int], object] = lambda _: None,
) -> list[float]:
    """Log odds of yes against no at the token after each prompt, in nats, in the prompts' order.

    Each P is the sum over the tokens of `said`. What all prompts begin with is run once; `budget`
    bounds the padded tokens of a batch without it.
    """
    prefix = shared_prefix(model, [one[:-1] for one in prompts])
    seen = prefix.lengths[0] if prefix else 0
    # The token that would follow only marks the place: what stands there is not looked at.
    rests = [Example([*one[seen:], 0], len(one) - seen) for one in prompts]
    found = [float("nan")] * len(prompts)
    may = batching(model, "right", prompts)
    for batch in batches(rests, may.size(budget), may.padded):
        ends = torch.tensor([rests[row].start - 1 for row in batch.rows])
        logits = _last(model, batch, ends, prefix)
        odds = logits[:, said.yes].logsumexp(1) - logits[:, said.no].logsumexp(1)
        for row, one in zip(batch.rows, odds.tolist(), strict=True):
            found[row] = one
        advance(len(batch.rows))
    return found


def _last(model: PreTrainedModel, batch: Batch, ends: Tensor, prefix: PrefixCache | None) -> Tensor:
    """Logits of the token after each row's end, float32 [batch, vocabulary]."""
    seen = prefix.lengths[0] if prefix else 0
    past = {"past_key_values": frozen(prefix)} if prefix else {}
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
    # In fp32: bf16 logits lose the differences that the score is about.
    return logits[rows, ends.to(model.device) - first].float()
