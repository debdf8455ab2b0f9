"""What masks of different rules do that cost the same on benign text. Pure."""

from collections.abc import Iterator, Sequence

import polars as pl

from lesion.tables.intervals import Bootstrap, Values
from lesion.tables.likelihoods import specificity_rows
from lesion.tables.rows import BEHAVIOUR, ESTIMATE, SHARED, TOTAL, UNMODIFIED, Row, groups, pairs

EQUAL_COSTS = {
    "mask": pl.String,
    "limit": pl.Float64,
    "cost": pl.Float64,
    "reached": pl.Boolean,
    "weights": pl.Int64,
    "metric": pl.String,
    **ESTIMATE,
    "fewest": pl.Int64,
    "p_value": pl.Float64,
}
"""Masks that cost the same; `lesion.tables.columns` explains the columns."""

_METRICS = {"specificity": "specificity", "counterpart_nll_added": "counterpart_added"}


def equal_cost_table(
    nll: pl.DataFrame, unmodified: pl.DataFrame, matched: pl.DataFrame, boot: Bootstrap
) -> pl.DataFrame:
    """The comparison of all masks of one model.

    Args:
        nll: a table of `lesion.responses.EQUAL_COST` without keys.
        unmodified: behaviour, role, prompt, nll of the unmodified model.
        matched: behaviour, prompt, of, counterpart of the matched requests.
        boot: the bootstrap.

    Returns:
        A table of EQUAL_COSTS, ordered by limit and mask.
    """
    if nll.is_empty():
        return pl.DataFrame(schema=EQUAL_COSTS)
    keys = ["limit", "mask", "cost", "reached", "weights"]
    of_shared = {
        limit: own for (limit, mask), own in nll.group_by("limit", "mask") if mask == SHARED
    }
    rows: list[Row] = []
    for of_mask, own in nll.sort("limit", maintain_order=True).group_by(keys, maintain_order=True):
        place = dict(zip(keys, of_mask, strict=True))
        for metric, values in _measured(own, unmodified):
            rows.append({**place, "metric": metric, **_change(values, boot)})
        # As if it were the only variant.
        both = pl.concat(
            [
                own.select("behaviour", "role", "prompt", "nll", variant=pl.lit(SHARED)),
                unmodified.select("behaviour", "role", "prompt", "nll", variant=pl.lit(UNMODIFIED)),
            ]
        ).with_columns(kl=pl.lit(None, pl.Float64))
        of_pairs = [row for row in specificity_rows(both, matched, boot) if row["role"] == "harm"]
        fewest = min((row["n"] for row in of_pairs if row["level"] == BEHAVIOUR), default=0)
        rows += [
            {
                **place,
                **{name: row[name] for name in ESTIMATE},
                "metric": _METRICS[row["metric"]],
                "fewest": fewest,
            }
            for row in of_pairs
            if row["level"] == TOTAL
        ]
        shared = of_shared.get(place["limit"])
        if shared is not None and place["mask"] != SHARED:
            most, least = (_at_limit(side, unmodified) for side in (shared, own))
            less = [paired.change for paired in pairs(most, least, "added").values()]
            name = "harm_added_less_than_shared"
            rows.append({**place, "metric": name, **_change(less, boot)})
    return pl.DataFrame(rows, schema=EQUAL_COSTS)


def _at_limit(own: pl.DataFrame, unmodified: pl.DataFrame) -> pl.DataFrame:
    """What a mask would add to harmful responses at exactly the limit, in proportion to its cost.

    A mask that does not come near the limit is taken as it is.
    """
    added = _added(own, unmodified).filter(role="harm")
    factor = pl.when("reached").then(pl.col("limit") / pl.col("cost")).otherwise(1.0)
    return added.with_columns(added=pl.col("added") * factor)


def _added(own: pl.DataFrame, unmodified: pl.DataFrame) -> pl.DataFrame:
    before = unmodified.select("behaviour", "prompt", before="nll")
    both = own.join(before, on=["behaviour", "prompt"], maintain_order="left")
    return both.with_columns(added=pl.col("nll") - pl.col("before")).sort("behaviour", "prompt")


def _change(values: Sequence[Values], boot: Bootstrap) -> Row:
    """The mean over behaviours, and the prompts of the one that has the fewest."""
    return {**boot.change(values)._asdict(), "fewest": min(map(len, values))}


def _measured(own: pl.DataFrame, unmodified: pl.DataFrame) -> Iterator[tuple[str, list[Values]]]:
    """What a mask adds to the responses of each role, by behaviour."""
    both = _added(own, unmodified)
    for role in ("harm", "matched", "benign", "refusal"):
        if values := list(groups(both.filter(role=role), "added").values()):
            yield f"{role}_added", values
