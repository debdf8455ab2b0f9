"""The summary that a run prints on the terminal: its results in one screen, and the page's path."""

import sys
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lesion.report.gate import gate, notice_text, number_text, plain, plain_table, verdict_text
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
    gated = gate(tables)
    for notice in gated.notices:
        console.print(notice_text(**notice))
    for judged in gated.models:
        own = inputs.of(judged.model)
        console.print(Text(_mask_line(inputs, judged.model), style="bold"))
        console.print(_before_after(own, compliance=bool(inputs.judged_harm([judged.model]))))
        if judged.claims:
            claims = judged.claims
            rows = [{"claim": claim.claim, **row} for claim in claims for row in claim.statistics]
            console.print(_verdicts(rows, own))
    for family in inputs.families:
        own = inputs.of_family(family)
        if own.claims.height:
            stages = own.stages.sort("stage")["name"].unique(maintain_order=True)
            console.print(Text(f"{family}: {' > '.join(stages)}", style="bold"))
            console.print(_verdicts(own.claims.rows(named=True), own))
    console.print(
        Text("MDE: minimum detectable effect (80% power). NLL: higher is less likely text")
    )
    console.print(Text(f"Report: {page}"), soft_wrap=True)


def _mask_line(inputs: StudyTables, model: str) -> str:
    about = inputs.study["models"][model]
    weights, candidates = mask_size(inputs.where.filter(model=model), inputs.headline.mask)
    share = f" ({percent(weights / candidates)})" if candidates else ""
    p, q = (f"{about[name]:g}" if about.get(name) is not None else "?" for name in ("p", "q"))
    return f"{model}: {weights:,} weights{share} zeroed, p={p}, q={q}"


def _before_after(tables: StudyTables, *, compliance: bool) -> Table:
    table = plain_table(expand=True)
    table.add_column("", no_wrap=True)
    for name in tables.headline.columns:
        table.add_column(name, justify="right", ratio=1)
    # A screen has no room for the other rows; the page has them all.
    keys = [shown.key for _, shown in shown_rows() if shown.summary]
    own = (tables.measurements, tables.where, tables.headline)
    rows = headline(*own, compliance=compliance).filter(pl.col("key").is_in(keys))
    for _, group in rows.group_by("key", maintain_order=True):
        # Three columns with intervals have no room for more than two decimals.
        cells = [
            plain(with_interval(estimate_of(row), row["unit"], digits=2))
            for row in group.iter_rows(named=True)
        ]
        table.add_row(group["label"][0], *map(Text, cells))
    return table


def _verdicts(rows: list[dict[str, Any]], tables: StudyTables) -> Table:
    """The outcomes; a further number of a claim is named by its statistic or its variant."""
    table = plain_table(expand=True)
    table.add_column("", no_wrap=True)
    table.add_column("", ratio=1)
    table.add_column(f"{tables.confidence:.0%} interval", justify="right", no_wrap=True)
    table.add_column("MDE", justify="right", no_wrap=True)
    for before, row in zip([None, *rows], rows, strict=False):
        name = row["name"]
        if before and (before["claim"], before["name"]) == (row["claim"], name):
            same = before["statistic"] == row["statistic"]
            name = f"  {row['variant'] if same else 'by ' + row['statistic'].replace('_', ' ')}"
        least = amount(detectable(row, tables.measurements), unit_of(row["statistic"]), _DIGITS)
        table.add_row(verdict_text(row["verdict"]), Text(name), number_text(row), plain(least))
    return table
