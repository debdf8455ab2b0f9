"""What each variant is: its mask, the size of the mask, and when it was zeroed. Pure."""

from collections.abc import Iterable

import polars as pl

from lesion.responses import sized
from lesion.study.training import arm_of
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

    def of_mask(
        name: str, kind: str, mask: str | None, lesioned: str | None = None
    ) -> tuple[object, ...]:
        return (name, kind, mask, None if mask is None else 1.0, lesioned)

    answered = {*measured["variant"]}
    sizes = curve.select("family", "share").unique().sort("family", "share").rows()
    rows = [of_mask(name, MASK, None if name == UNMODIFIED else name) for name in evaluated]
    for family, share in sizes:
        if sized(family, share) in answered:
            rows.append((sized(family, share), SIZE, family, share, None))
    rows += [of_mask(arm, ARM, *arm_of(arm)) for arm in dict.fromkeys(arms)]
    return pl.DataFrame(rows, schema=VARIANTS, orient="row")
