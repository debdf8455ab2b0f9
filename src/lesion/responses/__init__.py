"""Stage `responses`: completions and likelihoods of variants; importing it needs no torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from lesion.io.formats import read_parquet
from lesion.pairs.tables import PAIRS

if TYPE_CHECKING:
    from lesion.models.chat import Completion

COMPLETIONS: dict[str, Any] = {
    "behaviour": pl.String,
    "role": pl.String,
    "attack": pl.String,
    "prompt": pl.String,
    "user_turn": pl.String,
    "prefill": pl.String,
    "completion": pl.String,
    "tokens": pl.Int64,
    "finished": pl.Boolean,
    "token_ids": pl.List(pl.Int64),
    "key": pl.String,
}
"""`user_turn` is what the attack makes of the prompt. A row with 0 `tokens` that is not `finished`
was not generated, because the prompt and a completion exceed the model's context. `token_ids` are
the generated tokens; null if the text is only a part of their decoded text."""
WAS_RUN = pl.col("finished") | (pl.col("tokens") > 0)
"""Whether a row of COMPLETIONS was generated."""
_PAIR = {"behaviour": pl.String, "role": pl.String, "prompt": pl.String}
NLL = {**_PAIR, "nll": pl.Float64, "kl": pl.Float64, "key": pl.String}
"""`kl` is KL(unmodified || variant) at the same tokens, for benign pairs only; both are in nats per
response token."""
CURVE = {
    "family": pl.String,
    "seed": pl.Int64,
    "size_ratio": pl.Float64,
    "weights": pl.Int64,
    **_PAIR,
    "nll": pl.Float64,
    "key": pl.String,
}
"""NLL of masks of one kind and many sizes; `size_ratio` is the size of a mask as a multiple of the
chosen q, 0 for `unmodified`."""
EQUAL_COST = {
    "mask": pl.String,
    "limit": pl.Float64,
    "cost": pl.Float64,
    "reached": pl.Boolean,
    "weights": pl.Int64,
    **_PAIR,
    "nll": pl.Float64,
    "key": pl.String,
}
"""NLL of masks that cost the same on benign text; the first columns are as in
`lesion.masks.equal_cost.EQUAL_COST_MASKS`."""
CURVE_COMPLETIONS: dict[str, Any] = {"variant": pl.String, "weights": pl.Int64, **COMPLETIONS}
"""`variant` is `sized(family, size_ratio)`."""
RETRAINED = {
    "arm": pl.String,
    "seed": pl.Int64,
    "step": pl.Int64,
    "examples": pl.Int64,
    **_PAIR,
    "nll": pl.Float64,
}
"""NLL of test pairs after `step` steps of fine-tuning on `examples` examples."""
RETRAINED_COMPLETIONS: dict[str, Any] = {"variant": pl.String, **COMPLETIONS}
"""`variant` is `retrained(arm, seed, step)`."""


def sized(family: str, size_ratio: float) -> str:
    """The name of the variant of a mask of a given size: `<family>@<size_ratio>`."""
    return f"{family}@{size_ratio}"


def retrained(arm: str, seed: int, step: int) -> str:
    """The name of the variant of a model during training: `<arm>@<step>.<seed>`."""
    return f"{arm}@{step}.{seed}"


UNDERSTANDING: dict[str, Any] = {
    "measure": pl.String,
    "behaviour": pl.String,
    "pair": pl.String,
    "prompt": pl.String,
    "harmful": pl.Boolean,
    "value": pl.Float64,
    "text": pl.String,
    "token_ids": pl.List(pl.Int64),
    "key": pl.String,
}
"""For the measure `detect`, `value` is log P(yes) - log P(no) in nats for the question whether the
prompt is harmful. For `explain`, it is the NLL in nats per token of the unmodified model's
explanation, null if that is empty; `text` and `token_ids` are the variant's own explanation. `pair`
identifies the minimal pair, or the explained prompt."""
UTILITY = {
    "task": pl.String,
    "item": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "chance": pl.Float64,
    "key": pl.String,
}
"""`chance` is the accuracy of guessing: the share of the item's choices that are right. It is 0 for
items without choices, and for metrics other than accuracy."""


def completion_columns(completion: "Completion") -> dict[str, Any]:
    """The columns of COMPLETIONS that hold what the model generated."""
    return {
        "completion": completion.text,
        "tokens": completion.tokens,
        "finished": completion.finished,
        "token_ids": list(completion.ids) or None,
    }


def read_tests(roles: Mapping[str, str], paths: Sequence[Path]) -> pl.DataFrame:
    """The test pairs of behaviours: PAIRS with the columns `behaviour` and `role`.

    Args:
        roles: the role of each behaviour.
        paths: tables of PAIRS, in the same order.
    """
    return pl.concat(
        read_parquet(path, PAIRS)
        .filter(split="test")
        .with_columns(behaviour=pl.lit(name), role=pl.lit(role))
        for (name, role), path in zip(roles.items(), paths, strict=True)
    )


def first_rows(table: pl.DataFrame, count: int | None) -> pl.DataFrame:
    """The first `count` rows of each behaviour; all, if None."""
    rank = pl.int_range(pl.len()).over("behaviour")
    return table if count is None else table.filter(rank < count)
