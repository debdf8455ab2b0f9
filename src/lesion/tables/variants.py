"""What each variant is: its mask, the size of the mask, and when it was zeroed. Pure."""

from collections.abc import Iterable

import polars as pl

from lesion.responses import sized
from lesion.study.training import arm_of
from lesion.tables.lookup import mask_size
from lesion.tables.rows import UNMODIFIED

VARIANTS = {
    "variant": pl.String,
    "kind": pl.String,
    "mask": pl.String,
    "size": pl.Int64,
    "size_ratio": pl.Float64,
    "lesioned": pl.String,
}
"""Names of variants and arms; `lesion.tables.columns` explains the columns."""

MASK, SIZE, ARM = "mask", "size", "arm"
"""A mask as the study chose it (or none), a mask of another size, a model trained in memory."""


def variants_table(
    evaluated: Iterable[str],
    curve: pl.DataFrame,
    measured: pl.DataFrame,
    arms: Iterable[str],
    where: pl.DataFrame,
) -> pl.DataFrame:
    """The variants of one model.

    Args:
        evaluated: the unmodified model and the masks that were zeroed.
        curve: masks of several sizes, by family, size ratio and weights.
        measured: the model's table of MEASUREMENTS, which contains the variants with completions.
        arms: the arms of all trainings in memory.
        where: the number of weights of each mask by matrix.

    Returns:
        A table of VARIANTS.
    """

    def of_mask(
        name: str, kind: str, mask: str | None, lesioned: str | None = None
    ) -> tuple[object, ...]:
        if mask is None:
            return (name, kind, None, None, None, lesioned)
        weights, candidates = mask_size(where, mask)
        return (name, kind, mask, weights if candidates else None, 1.0, lesioned)

    answered = {*measured["variant"]}
    sizes = curve.select("family", "size_ratio", "weights").unique()
    rows = [of_mask(name, MASK, None if name == UNMODIFIED else name) for name in evaluated]
    for family, size_ratio, weights in sizes.sort("family", "size_ratio").rows():
        if sized(family, size_ratio) in answered:
            rows.append((sized(family, size_ratio), SIZE, family, weights, size_ratio, None))
    rows += [of_mask(arm, ARM, *arm_of(arm)) for arm in dict.fromkeys(arms)]
    return pl.DataFrame(rows, schema=VARIANTS, orient="row")
