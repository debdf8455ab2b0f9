"""The table that compares the models of a study: a row a model, a column a claim. Pure."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import polars as pl

from lesion.report.headline import headline
from lesion.report.opening import LOOKS
from lesion.tables.claims.claim import Claim
from lesion.tables.claims.registry import PAPER, REGISTRY, outcome_together
from lesion.tables.intervals import Estimate
from lesion.tables.lookup import estimate_of
from lesion.tables.metrics import shown_rows
from lesion.tables.read import StudyTables
from lesion.tables.wording import NOTHING, amount, interval, shared_digits, unit_word

FEWEST_MODELS = 3
"""The number of models from which on the page begins with this table."""
_DIGITS = 2


class ModelCell(NamedTuple):
    """An outcome, if the column is a claim's, and a number, as texts."""

    outcome: str
    look: str
    number: str
    interval: str = ""


class Column(NamedTuple):
    """The head of a column, a few words below it, and what is in the column."""

    head: str
    below: str
    meaning: str


class ModelsTable(NamedTuple):
    """The models in the study's order, with a cell for each column."""

    columns: list[Column]
    rows: list[tuple[str, list[ModelCell]]]


def models_table(tables: StudyTables) -> ModelsTable | None:
    """The outcomes of all claims, and the numbers of the terminal's summary, for every model.

    A claim's outcome is that of all its numbers; the number is that of the first in the order of
    the registry that any model has. Claims over the stages of a family have no column.

    Args:
        tables: of the whole study.

    Returns:
        The table; None for a study of fewer than FEWEST_MODELS.
    """
    if len(tables.models) < FEWEST_MODELS:
        return None
    numbers = [*_first_numbers(tables)]
    keys = {row.key: row for _, row in shown_rows() if row.summary}
    complied = bool(tables.judged_harm(tables.models))
    columns = [_column(claim, variant, tables.headline.mask) for claim, variant in numbers]
    for row in keys.values():
        label, note = row.named(complied)
        columns.append(Column(label, "unmodified → ablated", note))
    columns.append(Column("Weights zeroed", "", "number of weights set to zero"))
    rows = []
    for model in tables.models:
        own = tables.of(model)
        measured = headline(own.measurements, own.where, own.headline, compliance=complied)
        shown = {(row["key"], row["column"]): row for row in measured.rows(named=True)}
        cells = [_of_claim(claim, own.claims.rows(named=True)) for claim, _ in numbers]
        cells += [_change(shown, key) for key in keys]
        cells.append(ModelCell("", "", _text(shown.get(("zeroed", "ablated")))))
        rows.append((model, cells))
    return ModelsTable(columns, rows)


def _first_numbers(tables: StudyTables) -> Iterator[tuple[Claim, str | None]]:
    """For each claim that any model has, the first of its numbers and that number's variant."""
    own = tables.claims.filter(pl.col("scope") != "family").rows(named=True)
    for number in PAPER:
        measured = [
            (claim, row["variant"])
            for claim in REGISTRY
            for row in own
            if claim.number == number and claim.matches(row)
        ]
        yield from measured[:1]


def _column(claim: Claim, variant: str | None, mask: str) -> Column:
    unit = unit_word(claim.unit).strip()
    number = f"{claim.question_about(variant, mask)}{unit and f' ({unit})'}"
    return Column(
        f"Claim {claim.number}",
        claim.name.format(**claim.words(variant)),
        f"the outcome of the claim that {PAPER[claim.number]}; the number answers: {number}",
    )


def _of_claim(claim: Claim, rows: list[dict[str, Any]]) -> ModelCell:
    own = [row for row in rows if row["claim"] == claim.number]
    if not own:
        return ModelCell("not measured", "unmeasured", "")
    outcome, _ = outcome_together(claim.number, own)
    number = next((estimate_of(row) for row in own if claim.matches(row)), Estimate(math.nan))
    texts = amount(number.value, claim.unit, shared_digits(number)), interval(number, claim.unit)
    return ModelCell(outcome, LOOKS[outcome], *texts)


def _change(shown: dict[tuple[str, str], dict[str, Any]], key: str) -> ModelCell:
    sides = (_text(shown.get((key, column))) for column in ("unmodified", "ablated"))
    return ModelCell("", "", " → ".join(sides))


def _text(row: dict[str, Any] | None) -> str:
    return NOTHING if row is None else amount(row["value"], row["unit"], _DIGITS)
