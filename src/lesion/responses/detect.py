"""Harm detection: a model's probabilities of yes and no as the first token of its answer."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lesion.io.formats import LesionError
from lesion.models.likelihood import measure_examples
from lesion.models.padding import batching
from lesion.models.text import Example


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
    found = Answers(sorted(yes - no), sorted(no - yes))
    if not all(found):
        raise LesionError(
            "the model's tokenizer has no first tokens that distinguish `Yes` from `No`, so harm "
            "detection cannot be measured. Set `understanding.minimal_pairs: null`"
        )
    return found


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
    # The appended 0 only marks the position of the answer; its value is not used.
    examples = [Example([*prompt, 0], len(prompt)) for prompt in prompts]

    def odds(logits: Tensor, targets: Tensor) -> Tensor:
        # The differences of bf16 logits would be rounded away, so they are computed in fp32.
        last = logits[targets != -100].float()
        return last[:, answer_tokens.yes].logsumexp(1) - last[:, answer_tokens.no].logsumexp(1)

    limits = batching(model, "right", prompts)
    return measure_examples(model, examples, limits, budget, odds, advance)
