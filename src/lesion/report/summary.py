"""The summary that a run prints on the terminal: its results in one screen, and the page's path."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lesion.report.gate import gate, noticed, number_text, plain, said
from lesion.report.headline import headline
from lesion.report.verdicts import detectable
from lesion.tables.claims.registry import unit_of
from lesion.tables.lookup import estimate_of, mask_size
from lesion.tables.metrics import shown_rows
from lesion.tables.read import StudyTables, read_study_tables
from lesion.tables.wording import amount, percent, with_interval

_WIDTH = 80
_DIGITS = 3


def print_summary(tables: Path, page: Path) -> None:
    """Print each model before and after, the outcomes of the claims, and the path of the page.

    The models come first, then the stages of each family of models. One model fills a screen of 80
    columns and 24 lines. Colours are written only to a terminal.

    Args:
        tables: the study's tables folder.
        page: the page whose path is printed.

    Raises:
        BadFile: a table is missing or damaged.
    """
    inputs = read_study_tables(tables)
    console = Console(file=sys.stdout, width=_WIDTH, highlight=False)
    held = gate(tables)
    for model, notice in held.notices:
        console.print(noticed(model, notice))
    for judged in held.models:
        found = inputs.of(judged.model)
        console.print(Text(_pruned(inputs, judged.model), style="bold"))
        console.print(_before_after(found))
        if judged.claims:
            console.print(_verdicts([claim.statistics for claim in judged.claims], found))
    for family in inputs.families:
        found = inputs.of_family(family)
        if found.claims.height:
            console.print(Text(f"{family}: {_stages(found)}", style="bold"))
            console.print(_verdicts([found.claims], found))
    console.print(Text("MDE: minimum detectable effect, a true difference detected with 80% power"))
    console.print(Text(f"Report: {page}"), soft_wrap=True)


def _pruned(inputs: StudyTables, model: str) -> str:
    about = inputs.study["models"][model]
    weights, candidates = mask_size(inputs.where.filter(model=model), inputs.headline.mask)
    share = f" ({percent(weights / candidates)})" if candidates else ""
    p, q = (f"{about[name]:g}" if about.get(name) is not None else "?" for name in ("p", "q"))
    return f"{model}: {weights:,} weights{share} zeroed, p={p}, q={q}"


def _grid() -> Table:
    return Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim", expand=True)


def _before_after(found: StudyTables) -> Table:
    table = _grid()
    table.add_column("", no_wrap=True)
    for name in found.headline.columns:
        table.add_column(name, justify="right", ratio=1)
    # A screen has no room for the other rows; the page has them all.
    keys = [shown.key for _, shown in shown_rows() if shown.summary]
    rows = headline(found.measurements, found.where, found.headline).filter(
        pl.col("key").is_in(keys)
    )
    for _, group in rows.group_by("key", maintain_order=True):
        if group["value"].is_not_null().any():
            cells = map(_cell, group.iter_rows(named=True))
            table.add_row(group["label"][0], *cells)
    return table


def _cell(row: dict[str, Any]) -> Text:
    # Three columns with intervals have no room for more than two decimals.
    return Text(plain(with_interval(estimate_of(row), row["unit"], digits=2)))


def _stages(found: StudyTables) -> str:
    """The names of the stages, in their order."""
    return " > ".join(found.stages.sort("stage")["name"].unique(maintain_order=True))


def _verdicts(claims: Iterable[pl.DataFrame], found: StudyTables) -> Table:
    table = _grid()
    table.add_column("", no_wrap=True)
    table.add_column("", ratio=1)
    table.add_column(f"{found.confidence:.0%} interval", justify="right", no_wrap=True)
    table.add_column("MDE", justify="right", no_wrap=True)
    for claim in claims:
        rows = claim.rows(named=True)
        for before, row in zip([None, *rows], rows, strict=False):
            name = _named(row, before)
            least = amount(detectable(row, found.measurements), unit_of(row["statistic"]), _DIGITS)
            table.add_row(said(row["verdict"]), Text(name), number_text(row), plain(least))
    return table


def _named(row: dict[str, Any], before: dict[str, Any] | None) -> str:
    """The claim's name; a further number of the same claim is named by its statistic or variant."""
    if before is None or before["name"] != row["name"]:
        return str(row["name"])
    if before["statistic"] != row["statistic"]:
        return f"  by {row['statistic'].replace('_', ' ')}"
    return f"  {row['variant']}"
