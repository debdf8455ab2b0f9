"""Rows on what a mask should not change: tasks, detecting harm, explaining harm."""

from collections.abc import Iterator

import polars as pl

from lesion.tables.intervals import Bootstrap, Values
from lesion.tables.rows import UNMODIFIED, Row, RowKey, groups, metric_rows, pairs, row, with_total


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
            place = RowKey(str(variant), "utility", judge="lm-eval")
            before = None if variant == UNMODIFIED else unmodified
            yield from metric_rows(place, metric, mine, before, "value", boot)


def understanding_rows(asked: pl.DataFrame, boot: Bootstrap) -> Iterator[Row]:
    """How well each variant detects and explains harmful requests.

    Args:
        asked: variant, measure (`detect`: log-odds that a request is harmful; `explain`: NLL of the
            unmodified model's explanation), behaviour, pair, prompt, harmful, value.
        boot: the bootstrap.
    """
    yield from _detect(asked.filter(measure="detect"), boot)
    explained = asked.filter(measure="explain")
    unmodified = explained.filter(variant=UNMODIFIED)
    for (variant,), table in explained.group_by("variant", maintain_order=True):
        place = RowKey(str(variant), "harm")
        for name, one in with_total(groups(table, "value"), boot.mean):
            yield row(place, name, "explain_nll", one)
        both = {} if variant == UNMODIFIED else pairs(table, unmodified, "value")
        added = {name: one.after - one.before for name, one in both.items()}
        for name, change in with_total(added, boot.change):
            yield row(place, name, "explain_nll_added", change)


def _detect(asked: pl.DataFrame, boot: Bootstrap) -> Iterator[Row]:
    unmodified = _sides(asked.filter(variant=UNMODIFIED))
    for (variant,), table in asked.group_by("variant", maintain_order=True):
        place = RowKey(str(variant), "harm")
        for name, sides in _sides(table).items():
            yield row(place, name, "detect_auroc", boot.auroc(*sides))
            if variant != UNMODIFIED and name in unmodified:
                change = boot.auroc_change(unmodified[name], sides)
                yield row(place, name, "detect_auroc_change", change)


def _sides(table: pl.DataFrame) -> dict[str | None, tuple[Values, Values]]:
    """Scores of harmful requests and of their minimal pairs, by harm type and in total (None)."""
    wide = (
        table.pivot("harmful", index=["behaviour", "pair"], values="value", maintain_order=True)
        .drop_nulls()
        .sort("behaviour", "pair")
    )
    if not {"true", "false"} <= set(wide.columns) or wide.is_empty():
        return {}
    parts: dict[str | None, pl.DataFrame] = {
        str(name): one for (name,), one in wide.group_by("behaviour", maintain_order=True)
    }
    return {
        name: (one["true"].to_numpy(), one["false"].to_numpy())
        for name, one in {**parts, None: wide}.items()
    }
