"""The end of a run on the terminal: what was found, in one screen, and where the page is."""

import sys
from pathlib import Path
from typing import Any

import polars as pl
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lesion.report.estimate import estimate_of, percent, written
from lesion.report.headline import headline, mask_size
from lesion.report.inputs import Inputs, read_inputs

_WIDTH = 80


def print_summary(tables: Path, page: Path) -> None:
    """Print the before/after table of every model, what was chosen, and where the page is.

    Args:
        tables: the study's tables folder.
        page: the page to name.

    Raises:
        BadFile: a table is missing or damaged.
    """
    inputs = read_inputs(tables)
    console = Console(file=sys.stdout, width=_WIDTH, highlight=False)
    rows = headline(inputs.measurements, inputs.where)
    for model in inputs.models:
        console.print(_table(model, rows.filter(model=model), inputs.confidence))
        console.print(Text(_chosen(inputs, model)))
    console.print(Text(f"Report: {page}"), soft_wrap=True)


def _table(model: str, rows: pl.DataFrame, confidence: float) -> Table:
    table = Table(
        title=Text(f"{model}, [{confidence:.0%} interval]", style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        padding=(0, 1),
    )
    table.add_column("", no_wrap=True)
    for name in ("intact", "pruned", "random"):
        table.add_column(name, justify="right")
    for _, group in rows.group_by("key", maintain_order=True):
        table.add_row(group["label"][0], *(_cell(row) for row in group.iter_rows(named=True)))
    return table


def _cell(row: dict[str, Any]) -> Text:
    # Two decimals: three columns with intervals have no room for more.
    return Text(_plain(written(estimate_of(row), row["unit"], digits=2)))


def _chosen(inputs: Inputs, model: str) -> str:
    about = inputs.study["models"][model]
    weights, candidates = mask_size(inputs.where.filter(model=model), "shared")
    share = f", {percent(weights / candidates)} of {candidates:,}" if candidates else ""
    p, q = (f"{about[name]:g}" if about.get(name) is not None else "?" for name in ("p", "q"))
    return f"Chosen p={p}, q={q}: {weights:,} weights{share}"


def _plain(text: str) -> str:
    """Signs that every terminal and log file can show."""
    return text.replace("−", "-").replace("–", "-")
