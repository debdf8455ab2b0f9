"""Sentences on whether a study kept its limit on benign loss. Pure."""

import polars as pl

from lesion.tables.effects import LARGEST_LIMIT
from lesion.tables.lookup import first_estimate
from lesion.tables.rows import SHARED, TOTAL

_SO = "No claim about the effect of the mask can be supported."


def limit_notices(
    sweep: pl.DataFrame, limit: float, measurements: pl.DataFrame, mask: str = SHARED
) -> list[str]:
    """Warnings about a model that come before any outcome: its limit was lifted or missed.

    Args:
        sweep: every (p, q) that was tried, with `chosen`.
        limit: `masks.max_benign_increase`, nats per token.
        measurements: the model's table of MEASUREMENTS.
        mask: the study's headline mask.

    Returns:
        Sentences; none if the limit was effective and kept on validation and test prompts.
    """
    notices = []
    if lifted(limit):
        notices.append(
            f"The limit on benign loss was lifted: `masks.max_benign_increase` is {limit:g} nats "
            f"per token, and a limit above {LARGEST_LIMIT:g} hardly protects benign use. {_SO}"
        )
    tried = sweep.filter("chosen").select(pl.col("benign_nll") - pl.col("benign_nll_unmodified"))
    on_validation = [value for (value,) in tried.iter_rows() if not value <= limit]
    if on_validation:
        notices.append(
            f"The limit on benign loss was missed: the chosen p and q add {on_validation[0]:.3g} "
            f"nats per token to benign responses of the validation split, and "
            f"`masks.max_benign_increase` is {limit:g}. {_SO}"
        )
    added = first_estimate(
        measurements.filter(variant=mask, metric="nll_added", level=TOTAL, role="benign")
    )
    if added is not None and not added.value <= limit:
        notices.append(
            f"The limit on benign loss was missed: the {mask} mask adds {added.value:.3g} "
            f"[{added.low:.3g}, {added.high:.3g}] nats per token to benign responses of the test "
            f"split, and `masks.max_benign_increase` is {limit:g}. {_SO}"
        )
    return notices


def lifted(limit: float) -> bool:
    """Whether a limit on benign loss is too large to have an effect."""
    return limit > LARGEST_LIMIT
