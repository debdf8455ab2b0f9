"""Rows on what a mask should not change: tasks, detecting harm, explaining harm."""

from collections.abc import Iterator

import polars as pl

from lesion.tables.intervals import Bootstrap, Values
from lesion.tables.rows import (
    INTACT,
    Row,
    by_behaviour,
    groups,
    measured,
    pairs,
    place,
    row,
    rows_of,
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
        intact = rows.filter(variant=INTACT)
        for (variant,), mine in rows.group_by("variant", maintain_order=True):
            keys = place(str(variant), "utility", judge="lm-eval")
            yield from measured(keys, metric, mine, intact, "value", boot)


def understanding_rows(asked: pl.DataFrame, boot: Bootstrap) -> Iterator[Row]:
    """How well each variant detects and explains harmful requests.

    Args:
        asked: variant, measure (`detect`: log-odds that a request is harmful; `explain`: NLL of the
            unmodified model's explanation), behaviour, pair, prompt, harmful, value.
        boot: the bootstrap.
    """
    detected, explained = (asked.filter(measure=name) for name in ("detect", "explain"))
    intact_sides = _sides(detected.filter(variant=INTACT))
    for (variant,), table in detected.group_by("variant", maintain_order=True):
        keys = place(str(variant), "harm")
        for behaviour, sides in _sides(table).items():
            yield row(keys, "detect_auroc", boot.auroc(*sides), behaviour)
            if variant != INTACT and behaviour in intact_sides:
                change = boot.auroc_change(intact_sides[behaviour], sides)
                yield row(keys, "detect_auroc_change", change, behaviour)
    intact = explained.filter(variant=INTACT)
    for (variant,), table in explained.group_by("variant", maintain_order=True):
        keys = place(str(variant), "harm")
        yield from rows_of(keys, "explain_nll", groups(table, "value"), boot.mean)
        if variant != INTACT:
            both = pairs(table, intact, "value").items()
            added = {name: one.change for name, one in both}
            yield from rows_of(keys, "explain_nll_added", added, boot.change)


def _sides(table: pl.DataFrame) -> dict[str | None, tuple[Values, Values]]:
    """Scores of harmful requests and of their minimal pairs, by harm type and in total (None)."""
    index = ["behaviour", "pair"]
    wide = table.pivot("harmful", index=index, values="value", maintain_order=True)
    wide = wide.drop_nulls().sort(index)
    if not {"true", "false"} <= set(wide.columns) or wide.is_empty():
        return {}
    parts: dict[str | None, pl.DataFrame] = {**dict(by_behaviour(wide)), None: wide}
    return {name: (own["true"].to_numpy(), own["false"].to_numpy()) for name, own in parts.items()}
