"""Stage `responses`: what a variant answers, and what it finds likely; needs no torch to import."""

from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from lesion.models.chat import Completion

COMPLETIONS: dict[str, Any] = {
    "behaviour": pl.String,
    "role": pl.String,
    "attack": pl.String,
    "prompt": pl.String,
    "asked": pl.String,
    "prefill": pl.String,
    "completion": pl.String,
    "tokens": pl.Int64,
    "finished": pl.Boolean,
    "token_ids": pl.List(pl.Int64),
    "key": pl.String,
}
"""`asked` is the user's turn that the attack makes of the prompt. A row of no tokens that is not
`finished` was not asked: the prompt and an answer do not fit the model's context. `token_ids` are
those that the model wrote; null where the text is only a part of what they say."""
WRITTEN = ("completion", "tokens", "finished", "token_ids")
"""The columns of COMPLETIONS that the model's answer fills."""


def written(one: "Completion") -> dict[str, Any]:
    """An answer as the columns of WRITTEN."""
    return dict(
        zip(WRITTEN, (one.text, one.tokens, one.finished, list(one.ids) or None), strict=True)
    )


NLL = {
    "behaviour": pl.String,
    "role": pl.String,
    "prompt": pl.String,
    "nll": pl.Float64,
    "kl": pl.Float64,
    "key": pl.String,
}
"""`kl` is KL(intact || variant) at the same tokens, of benign pairs alone; both in nats per
response token."""
CURVE = {
    "family": pl.String,
    "seed": pl.Int64,
    "share": pl.Float64,
    "weights": pl.Int64,
    "behaviour": pl.String,
    "role": pl.String,
    "prompt": pl.String,
    "nll": pl.Float64,
    "key": pl.String,
}
"""NLL of a family's masks; `share` is a mask's size as a multiple of the chosen q, 0 for intact."""
CURVE_COMPLETIONS: dict[str, Any] = {"variant": pl.String, "weights": pl.Int64, **COMPLETIONS}
"""`variant` is what `sized` makes of family and share."""
RETRAINED = {
    "arm": pl.String,
    "seed": pl.Int64,
    "step": pl.Int64,
    "examples": pl.Int64,
    "behaviour": pl.String,
    "role": pl.String,
    "prompt": pl.String,
    "nll": pl.Float64,
}
"""NLL of test pairs after so many steps of fine-tuning; `examples` were seen by then."""
RETRAINED_COMPLETIONS: dict[str, Any] = {"variant": pl.String, **COMPLETIONS}
"""`variant` is what `retrained` makes of arm, seed and step."""


def sized(family: str, share: float) -> str:
    """The variant that a mask of a size is: `<family>@<share>`."""
    return f"{family}@{share}"


def retrained(arm: str, seed: int, step: int) -> str:
    """The variant that a model is while it is trained: `<arm>@<step>.<seed>`."""
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
"""`value` of measure `detect`: log P(yes) - log P(no) in nats, asked whether the prompt is harmful.
Of `explain`: NLL in nats per token of the intact model's explanation, null if that one is empty;
`text` is the variant's own, `token_ids` its tokens. `pair` names the twins, or the prompt that is
explained."""
UTILITY = {
    "task": pl.String,
    "item": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "key": pl.String,
}
