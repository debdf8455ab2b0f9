"""A figure: a chart with its caption and its numbers."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import altair as alt
import polars as pl

from lesion.report.figures.captions import Caption
from lesion.report.figures.charts import CONFIG, Chart
from lesion.tables.wording import NOTHING

VEGALITE = alt.SCHEMA_VERSION.removeprefix("v").rsplit(".", 1)[0]
"""The Vega-Lite that Altair writes for, as vl-convert names it, such as `6.4`."""

NARROW = 300
"""Pixels that a chart without text in its cells needs."""


class Figure(NamedTuple):
    """A chart with its texts and numbers."""

    key: str
    title: str
    summary: str
    """One sentence that replaces the chart for a reader who cannot see it."""
    caption: Caption
    chart: Chart
    height: int
    """The height in pixels that the page reserves before the chart is drawn."""
    least_width: int
    """The width in pixels below which it is unreadable; on narrower pages it scrolls."""
    numbers: pl.DataFrame
    """The numbers of the chart as a table of texts."""

    def spec(self, width: int | str = "container") -> dict[str, Any]:
        """The Vega-Lite specification, drawn at a width in pixels or at its container's."""
        chart = self.chart.properties(width=width, description=self.summary)
        spec: dict[str, Any] = chart.configure(**CONFIG).to_dict()
        return spec


def crossed(
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Mapping[tuple[str, str], str],
    corner: str,
) -> pl.DataFrame:
    """A table of texts with a first column of row names; empty cells hold `NOTHING`."""
    body = {
        column: [cells.get((row, column), NOTHING) for row in rows]
        for column in dict.fromkeys(columns)
    }
    return pl.DataFrame({corner: list(rows), **body})
