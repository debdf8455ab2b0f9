"""The before/after table as Markdown, for a model card."""

from pathlib import Path

import polars as pl

from lesion.report.headline import headline
from lesion.tables.lookup import estimate_of
from lesion.tables.read import read_study_tables
from lesion.tables.wording import written

_SHARED, _RANDOM = "shared", "random"


def before_after(tables: Path, model: str, mask: str) -> str | None:
    """What a mask changed, as the report has it; None if the study did not evaluate it.

    Args:
        tables: the study's tables folder.
        model: the study's model.
        mask: the mask that was zeroed.

    Raises:
        BadFile: a table is missing or damaged.
    """
    inputs = read_study_tables(tables).of(model)
    if inputs.measurements.filter(variant=mask).is_empty():
        return None
    rows = headline(
        _as_shared(inputs.measurements, "variant", mask), _as_shared(inputs.where, "mask", mask)
    )
    # The random control was drawn to match the shared mask, so it says nothing of another.
    columns = {"intact": "intact", _SHARED: "pruned"}
    if mask == _SHARED:
        columns[_RANDOM] = "as many at random"
    lines = [f"| | {' | '.join(columns.values())} |", "|---" * (len(columns) + 1) + "|"]
    for _, group in rows.group_by("key", maintain_order=True):
        by_variant = {row["variant"]: row for row in group.iter_rows(named=True)}
        cells = [
            written(estimate_of(row), row["unit"], digits=2)
            for row in map(by_variant.__getitem__, columns)
        ]
        first = group.row(0, named=True)
        lines.append(f"| {first['label']}: {first['note']} | {' | '.join(cells)} |")
    return "\n".join(lines) + f"\n\nBrackets: {inputs.confidence:.0%} interval.\n"


def _as_shared(table: pl.DataFrame, column: str, mask: str) -> pl.DataFrame:
    """The table with one mask's rows in place of the shared one's, which the headline shows."""
    if mask == _SHARED:
        return table
    renamed = pl.when(pl.col(column) == mask).then(pl.lit(_SHARED)).otherwise(pl.col(column))
    return table.filter(pl.col(column) != _SHARED).with_columns(renamed.alias(column))
