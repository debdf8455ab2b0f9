"""The page's table of masks that cost the same on benign text."""

from collections.abc import Iterable
from typing import Any

import polars as pl

from lesion.tables.lookup import estimate_of
from lesion.tables.wording import Unit, amount, mask_words, with_interval

_COLUMNS: dict[str, tuple[str, Unit]] = {
    "benign_added": ("added to benign", "nats"),
    "harm_added": ("added to harmful", "nats"),
    "matched_added": ("added to matched", "nats"),
    "specificity": ("specificity", "score"),
    "harm_added_less_than_shared": ("shared adds more to harmful by", "nats"),
}
_NAMES = {
    "plain": "as shared, without the contrast",
    "matched": "of matched answers",
    "refusals": "of refusals",
    "benign-signed": "of benign answers",
    "opposite-sign": "opposite sign",
    "second-q": "second q",
    "unsigned": "unsigned scores",
    "unimportant": "least importance",
    "wanda": "Wanda",
    "random": "random",
    "random-magnitude": "random, matched on |W|",
    "random-importance": "random, matched on importance",
    "random-magnitude-importance": "random, matched on both",
    "random-lines": "random, matched on lines",
}
"""What a figure has room for; `, ` breaks a label in two lines."""


def equal_cost_texts(table: pl.DataFrame) -> pl.DataFrame:
    """One row for each limit and mask, with numbers as text; the shared mask comes first.

    Args:
        table: a model's rows of `equal_cost`.
    """
    rows: list[dict[str, Any]] = []
    names = mask_names(table["mask"])
    ordered = table.sort("limit", pl.col("mask") != "shared", "mask", maintain_order=True)
    keys = ["limit", "mask", "reached", "weights"]
    for (limit, mask, reached, weights), own in ordered.group_by(keys, maintain_order=True):
        numbers = {row["metric"]: estimate_of(row) for row in own.iter_rows(named=True)}
        cells = {
            title: with_interval(numbers.get(metric), unit)
            for metric, (title, unit) in _COLUMNS.items()
            if metric in set(table["metric"])
        }
        name = names[str(mask)]
        rows.append(
            {
                "mask": name if reached else f"{name} (does not come near the limit)",
                "benign limit": f"{limit:g}",
                "weights": amount(weights, "count"),
                **cells,
            }
        )
    return pl.DataFrame(rows)


def mask_names(masks: Iterable[str]) -> dict[str, str]:
    """What the page calls each mask."""
    return {mask: _NAMES.get(mask, mask_words(mask)) for mask in masks}
