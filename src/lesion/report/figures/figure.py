"""A figure: a chart with its caption and its numbers."""

from collections.abc import Callable
from typing import Any, NamedTuple

import altair as alt
import polars as pl

from lesion.report.figures.captions import Caption
from lesion.report.figures.charts import CONFIG, Axis, Chart
from lesion.tables.lookup import estimate_of
from lesion.tables.wording import NOTHING, Unit, with_interval

VEGALITE = alt.SCHEMA_VERSION.removeprefix("v").rsplit(".", 1)[0]
"""The Vega-Lite that Altair writes for, as vl-convert names it, such as `6.4`."""

TextOf = Callable[[dict[str, Any]], str]
"""A function of a table's row to a text."""


class Figure(NamedTuple):
    """A chart with its texts and numbers."""

    key: str
    title: str
    summary: str
    """One sentence that replaces the chart for a reader who cannot see it."""
    caption: Caption
    chart: Chart
    around: int
    """The height in pixels of what is above and below the plot: legend, axis and menu."""
    numbers: pl.DataFrame
    """The numbers of the chart as a table of texts."""
    least_width: int = 300
    """The width in pixels below which it is unreadable; on narrower pages it scrolls. Charts with
    text in their cells need more."""

    @property
    def height(self) -> int:
        """The height in pixels that the page reserves before the chart is drawn."""
        return int(self.chart.height) + self.around

    def spec(self, width: int | str = "container") -> dict[str, Any]:
        """The Vega-Lite specification, drawn at a width in pixels or at its container's."""
        chart = self.chart.properties(width=width, description=self.summary)
        # Validation takes longer than all else that draws; tests validate every figure.
        spec: dict[str, Any] = chart.configure(**CONFIG).to_dict(validate=False)
        return spec


def text_column(table: pl.DataFrame, name: str, text: TextOf) -> pl.Series:
    """A column of texts, one for each row of a table."""
    return pl.Series(name, map(text, table.iter_rows(named=True)), dtype=pl.String)


def with_written(table: pl.DataFrame, unit: Unit) -> pl.DataFrame:
    """The table with a column `written`, the number and interval of each row."""
    return table.with_columns(
        text_column(table, "written", lambda row: with_interval(estimate_of(row), unit))
    )


def crossed(
    table: pl.DataFrame, rows: Axis, columns: Axis, corner: str, text: str = "written"
) -> pl.DataFrame:
    """A table of the texts of one field, with row names in a first column called `corner`.

    Empty cells hold `NOTHING`, and gaps between groups of columns are left out.
    """
    cells = {
        (str(row), str(column)): cell
        for row, column, cell in table.select(rows.field, columns.field, text).iter_rows()
    }
    body = {
        column: [cells.get((row, column), NOTHING) for row in rows.names]
        for column in columns.names
        if column.strip()
    }
    return pl.DataFrame({corner: list(rows.names), **body})
