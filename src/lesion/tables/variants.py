"""What each variant is: its mask, the size of the mask, and when it was zeroed. Pure."""

from collections.abc import Iterable
from typing import NamedTuple

import polars as pl

from lesion.responses import sized
from lesion.study.training import AFTER, FROZEN, mask_of
from lesion.tables.rows import UNMODIFIED

VARIANTS = {
    "variant": pl.String,
    "kind": pl.String,
    "mask": pl.String,
    "size_ratio": pl.Float64,
    "lesioned": pl.String,
}
"""One row for each name that other tables have as `variant` or `arm`. `kind` is MASK, SIZE or ARM.
`mask` is null for the unmodified model; `size_ratio` is the mask's size as a multiple of the chosen
q. `lesioned` says of an arm when its mask was zeroed: `before` training, `after` training, or
before training and kept at zero (`frozen`)."""

MASK, SIZE, ARM = "mask", "size", "arm"
"""A mask as the study chose it (or none), a mask of another size, a model trained in memory."""


class Arm(NamedTuple):
    """A model that is trained in memory: its mask, and when the mask is zeroed."""

    mask: str | None
    lesioned: str | None


def arm_of(name: str) -> Arm:
    """The mask of an arm, and when it is zeroed, from the arm's name."""
    if name == UNMODIFIED:
        return Arm(None, None)
    lesioned = {AFTER: "after", FROZEN: "frozen"}
    endings = (when for ending, when in lesioned.items() if name.endswith(ending))
    return Arm(mask_of(name), next(endings, "before"))


def variants_table(
    evaluated: Iterable[str], curve: pl.DataFrame, measured: pl.DataFrame, arms: Iterable[str]
) -> pl.DataFrame:
    """The variants of one model.

    Args:
        evaluated: the unmodified model and the masks that were zeroed.
        curve: masks of several sizes, by family and share.
        measured: the model's table of MEASUREMENTS, which contains the variants with completions.
        arms: the arms of all trainings in memory.

    Returns:
        A table of VARIANTS.
    """
    answered = {*measured["variant"]}
    sizes = curve.select("family", "share").unique().sort("family", "share").rows()
    of_arms = {arm: arm_of(arm) for arm in arms}
    rows: list[tuple[object, ...]] = [
        *(
            (name, MASK, *_whole_mask(None if name == UNMODIFIED else name), None)
            for name in evaluated
        ),
        *(
            (sized(family, share), SIZE, family, share, None)
            for family, share in sizes
            if sized(family, share) in answered
        ),
        *((name, ARM, *_whole_mask(arm.mask), arm.lesioned) for name, arm in of_arms.items()),
    ]
    return pl.DataFrame(rows, schema=VARIANTS, orient="row")


def _whole_mask(name: str | None) -> tuple[str | None, float | None]:
    return (name, None if name is None else 1.0)
