"""A release gate: the outcomes of a finished study's claims as one outcome, exit code and JSON.

A claim is supported if all its numbers are, not supported if one of them is not, and "can't tell"
otherwise, as where the study did not measure one that it needs. The study's outcome follows from
the required claims of its models in the same way.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import BaseModel
from rich.table import Table
from rich.text import Text

from lesion.io.formats import LesionError, read_parquet
from lesion.tables.claims.outcome import CANNOT_TELL, NOT_SUPPORTED, SUPPORTED, together
from lesion.tables.claims.registry import numbers, outcome_together, unit_of
from lesion.tables.lookup import estimate_of
from lesion.tables.read import models_in_order, read_study_record
from lesion.tables.schemas import CLAIMS
from lesion.tables.wording import amount, interval, shared_digits

FORMAT = 2
"""Version of the JSON; raised when a key changes its meaning or is removed."""

EXIT_CODES = {SUPPORTED: 0, NOT_SUPPORTED: 1, CANNOT_TELL: 3}
"""2 is left out: it means that the command failed."""

_PLAIN = str.maketrans("−–×", "--x")
_DIGITS = 3
_STYLES = {SUPPORTED: "green", NOT_SUPPORTED: "red", CANNOT_TELL: "yellow"}


class ClaimOutcome(BaseModel):
    """One claim of one model with its numbers; no numbers if it was not measured."""

    claim: int
    required: bool
    verdict: str
    unmeasured: list[str]
    """The names of the numbers without which it cannot be supported; empty if all were measured, or
    none."""
    statistics: list[dict[str, Any]]
    """Rows of CLAIMS, without the model, the scope and the claim; NaN and infinity are None."""


class ModelOutcome(BaseModel):
    """One model's claims."""

    model: str
    digest: str | None
    verdict: str
    claims: list[ClaimOutcome]


class Gate(BaseModel):
    """What a release gate needs to know about a study; docs/how-to/gate.md explains every key."""

    format: int = FORMAT
    study: str
    lesion: str
    """The version of the package that made the tables."""
    confidence: float
    required: list[int]
    notices: list[dict[str, str]]
    """Warnings that come before any outcome: `model` and `notice`."""
    verdict: str
    exit_code: int
    """0 supported, 1 not supported, 3 can't tell."""
    models: list[ModelOutcome]


def gate(tables: Path, require: Sequence[int] = (), model: str | None = None) -> Gate:
    """Compare a study's claims table with what a release requires.

    Args:
        tables: the study's tables folder.
        require: numbers of claims; if empty, every claim that was measured for any of the models.
            A required claim that was not measured for a model is "can't tell".
        model: the only model that counts; all models of the study if None.

    Raises:
        BadFile: a table is missing or damaged.
        LesionError: there is no such claim or model.
    """
    about = read_study_record(tables)
    models = models_in_order(about)
    if model is not None:
        if model not in models:
            raise LesionError(
                f"--model: the study has no model {model!r}. Its models are {', '.join(models)}."
            )
        models = [model]
    known = numbers()
    unknown = sorted(set(require) - set(known))
    if unknown:
        raise LesionError(
            f"--require: there is no claim {unknown[0]}. The claims are {known[0]} to {known[-1]}."
        )
    table = read_parquet(tables / "claims.parquet", CLAIMS)
    # A family's claim counts for its last stage, which was trained through all the others.
    families = about["config"].get("training_stages", {})
    counted = [
        families.get(name, [[]])[-1] if scope == "family" else [name]
        for name, scope in table.select("model", "scope").rows()
    ]
    rows = table.with_columns(
        # JSON has neither NaN nor infinity.
        pl.when(pl.col(pl.Float64).is_finite()).then(pl.col(pl.Float64)),
        model=pl.Series(counted, dtype=pl.List(pl.String)),
    )
    rows = rows.explode("model").filter(pl.col("model").is_in(models))
    required = sorted(set(require or rows["claim"]))
    outcomes = []
    for name in models:
        own, claims = rows.filter(model=name), []
        for number in sorted({*required, *own["claim"]}):
            statistics = own.filter(claim=number)
            verdict, missing = outcome_together(number, statistics.rows(named=True))
            claims.append(
                ClaimOutcome(
                    claim=number,
                    required=number in required,
                    verdict=verdict,
                    unmeasured=missing,
                    statistics=statistics.drop("model", "scope", "claim").rows(named=True),
                )
            )
        outcomes.append(
            ModelOutcome(
                model=name,
                digest=about["models"][name].get("digest"),
                verdict=together(claim.verdict for claim in claims if claim.required),
                claims=claims,
            )
        )
    verdict = together(outcome.verdict for outcome in outcomes)
    return Gate(
        study=about["study"],
        lesion=about.get("version", "unknown"),
        confidence=about["confidence"],
        required=required,
        notices=[
            {"model": name, "notice": text}
            for name in models
            for text in about["models"][name].get("notices", [])
        ],
        verdict=verdict,
        exit_code=EXIT_CODES[verdict],
        models=outcomes,
    )


def verdict_table(judged: ModelOutcome, confidence: float) -> Table:
    """One model's claims for a terminal of 80 columns, with two lines for each number."""
    table = plain_table()
    table.add_column("", no_wrap=True)
    table.add_column(Text(judged.model, style="bold"), overflow="fold")
    table.add_column(Text(f"[{confidence:.0%} interval]"), justify="right")
    table.add_column(verdict_text(judged.verdict), no_wrap=True)
    for claim in judged.claims:
        mark = f"{claim.claim}{'' if claim.required else '*'}"
        if not claim.statistics:
            table.add_row(mark, "not measured by this study", "", verdict_text(claim.verdict))
        for row in claim.statistics:
            why = f"\n{row['why']}" if row["why"] else ""
            variant = "own masks" if row["variant"] is None else row["variant"]
            variant_text = plain(f"{row['statistic']}, {variant}{why}")
            threshold = plain(amount(row["threshold"], unit_of(row["statistic"])))
            about = f"n = {row['n']}, threshold {threshold}"
            table.add_row(
                mark,
                Text.assemble(row["name"], "\n", (variant_text, "dim")),
                Text.assemble(number_text(row), "\n", (about, "dim")),
                verdict_text(row["verdict"]),
            )
        if claim.unmeasured:
            missing = f"not measured by this study: {', '.join(claim.unmeasured)}"
            table.add_row(mark, missing, "", verdict_text(claim.verdict))
    return table


def plain_table(*, expand: bool = False) -> Table:
    """A table for a terminal, without lines, with dim names of columns."""
    return Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim", expand=expand)


def number_text(row: dict[str, Any]) -> str:
    """A claim's number and interval, as the terminal shows them."""
    unit, estimate = unit_of(row["statistic"]), estimate_of(row)
    after = " points" if unit == "points" else ""
    # A small number is never shown as 0.000 [0.000, 0.000].
    digits = max(_DIGITS, shared_digits(estimate))
    value = amount(estimate.value, unit, digits)
    return plain(f"{value}{after} {interval(estimate, unit, digits)}".strip())


def notice_text(model: str, notice: str) -> Text:
    """A warning about a model, as the terminal shows it before the outcomes."""
    return Text(plain(f"{model}: {notice}"), style="yellow")


def verdict_text(verdict: str) -> Text:
    """The outcome, in colour where the terminal has colours; the words alone are sufficient."""
    return Text(verdict, style=_STYLES[verdict])


def plain(text: str) -> str:
    """The text with characters that every terminal and log file can show."""
    return text.translate(_PLAIN)
