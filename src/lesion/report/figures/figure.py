"""What a figure is: a chart with the words and numbers that stand beside it."""

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
    """A chart with what must stand beside it."""

    key: str
    title: str
    summary: str
    """One sentence that a reader who cannot see the chart gets instead."""
    caption: Caption
    chart: Chart
    height: int
    """Pixels, to be kept free for it before it is drawn."""
    least_width: int
    """Pixels under which it would be unreadable; narrower pages let it scroll by itself."""
    numbers: pl.DataFrame
    """The same as a table of texts."""

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
