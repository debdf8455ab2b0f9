"""Rows on what a mask should not change: tasks, detecting harm, explaining harm."""

from collections.abc import Iterator

import polars as pl

from lesion.tables.intervals import Bootstrap, Values
from lesion.tables.rows import (
    UNMODIFIED,
    Row,
    by_behaviour,
    groups,
    measurement_keys,
    metric_rows,
    pairs,
    row,
    rows_by_behaviour,
)


def task_rows(items: pl.DataFrame, boot: Bootstrap) -> Iterator[Row]:
    """Each task's main metric, as `accuracy`, and its other metrics by their names.

    Args:
        items: variant, task, item, metric, value; a task's main metric comes first.
        boot: the bootstrap.
    """
    table = items.rename({"task": "behaviour", "item": "prompt"})
    firsts = table.unique("behaviour", keep="first", maintain_order=True)
    main = firsts.select("behaviour", "metric")
    named = {"accuracy": table.join(main, on=["behaviour", "metric"], maintain_order="left")}
    others = table.join(main, on=["behaviour", "metric"], how="anti", maintain_order="left")
    named |= {str(name): rest for (name,), rest in others.group_by("metric", maintain_order=True)}
    for metric, rows in named.items():
        unmodified = rows.filter(variant=UNMODIFIED)
        for (variant,), mine in rows.group_by("variant", maintain_order=True):
            keys = measurement_keys(str(variant), "utility", judge="lm-eval")
            yield from metric_rows(keys, metric, mine, unmodified, "value", boot)


def understanding_rows(asked: pl.DataFrame, boot: Bootstrap) -> Iterator[Row]:
    """How well each variant detects and explains harmful requests.

    Args:
        asked: variant, measure (`detect`: log-odds that a request is harmful; `explain`: NLL of the
            unmodified model's explanation), behaviour, pair, prompt, harmful, value.
        boot: the bootstrap.
    """
    detected, explained = (asked.filter(measure=name) for name in ("detect", "explain"))
    unmodified_sides = _sides(detected.filter(variant=UNMODIFIED))
    for (variant,), table in detected.group_by("variant", maintain_order=True):
        keys = measurement_keys(str(variant), "harm")
        for behaviour, sides in _sides(table).items():
            yield row(keys, "detect_auroc", boot.auroc(*sides), behaviour)
            if variant != UNMODIFIED and behaviour in unmodified_sides:
                change = boot.auroc_change(unmodified_sides[behaviour], sides)
                yield row(keys, "detect_auroc_change", change, behaviour)
    unmodified = explained.filter(variant=UNMODIFIED)
    for (variant,), table in explained.group_by("variant", maintain_order=True):
        keys = measurement_keys(str(variant), "harm")
        yield from rows_by_behaviour(keys, "explain_nll", groups(table, "value"), boot.mean)
        if variant != UNMODIFIED:
            both = pairs(table, unmodified, "value").items()
            added = {name: one.change for name, one in both}
            yield from rows_by_behaviour(keys, "explain_nll_added", added, boot.change)


def _sides(table: pl.DataFrame) -> dict[str | None, tuple[Values, Values]]:
    """Scores of harmful requests and of their minimal pairs, by harm type and in total (None)."""
    index = ["behaviour", "pair"]
    wide = table.pivot("harmful", index=index, values="value", maintain_order=True)
    wide = wide.drop_nulls().sort(index)
    if not {"true", "false"} <= set(wide.columns) or wide.is_empty():
        return {}
    parts: dict[str | None, pl.DataFrame] = {**dict(by_behaviour(wide)), None: wide}
    return {name: (own["true"].to_numpy(), own["false"].to_numpy()) for name, own in parts.items()}
