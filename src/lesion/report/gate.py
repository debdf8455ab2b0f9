"""A release gate: the outcomes of a finished study's claims as one outcome, exit code and JSON.

A claim is supported if all its numbers are, not supported if one of them is not, and "can't tell"
otherwise. The study's outcome follows from the required claims of its models in the same way.
"""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
from rich.table import Table
from rich.text import Text

from lesion.io.formats import LesionError, read_parquet
from lesion.tables.claims.outcome import CANNOT_TELL, NOT_SUPPORTED, SUPPORTED
from lesion.tables.claims.registry import numbers, unit_of
from lesion.tables.lookup import estimate_of
from lesion.tables.read import read_study_record
from lesion.tables.schemas import CLAIMS
from lesion.tables.wording import amount, interval, shared_digits

FORMAT = 2
"""Version of the JSON; raised when a key changes its meaning or is removed."""

EXIT_CODES = {SUPPORTED: 0, NOT_SUPPORTED: 1, CANNOT_TELL: 3}
"""2 is left out: it means that the command failed."""

_PLAIN = str.maketrans("−–×", "--x")
_DIGITS = 3
_STYLES = {SUPPORTED: "green", NOT_SUPPORTED: "red", CANNOT_TELL: "yellow"}


class ClaimOutcome(NamedTuple):
    """One claim of one model with its rows of CLAIMS; no rows if it was not measured."""

    number: int
    required: bool
    verdict: str
    statistics: pl.DataFrame


class ModelOutcome(NamedTuple):
    """One model's claims."""

    model: str
    digest: str | None
    verdict: str
    claims: list[ClaimOutcome]


class Gate(NamedTuple):
    """What a release gate needs to know about a study."""

    study: str
    version: str
    confidence: float
    required: list[int]
    notices: list[tuple[str, str]]
    """Warnings that come before any outcome, each with its model."""
    verdict: str
    models: list[ModelOutcome]

    @property
    def exit_code(self) -> int:
        """0 supported, 1 not supported, 3 can't tell."""
        return EXIT_CODES[self.verdict]


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
    models = _models(about, model)
    rows = _of_models(read_parquet(tables / "claims.parquet", CLAIMS), about).filter(
        pl.col("model").is_in(models)
    )
    known = numbers()
    unknown = sorted(set(require) - set(known))
    if unknown:
        raise LesionError(
            f"--require: there is no claim {unknown[0]}. The claims are {known[0]} to {known[-1]}."
        )
    required = sorted(set(require or rows["claim"]))
    judged = [
        _judged(name, about["models"][name].get("digest"), rows.filter(model=name), required)
        for name in models
    ]
    return Gate(
        about["study"],
        about.get("version", "unknown"),
        about["confidence"],
        required,
        [(name, text) for name in models for text in about["models"][name].get("notices", [])],
        together(one.verdict for one in judged),
        judged,
    )


def _of_models(rows: pl.DataFrame, about: dict[str, Any]) -> pl.DataFrame:
    """Count a family's claim for its last stage, which was trained through all the others."""
    families = about["config"].get("training_stages", {})
    last = {name: stages[-1] for name, stages in families.items()}
    families = pl.DataFrame(
        [(family, name) for family, names in last.items() for name in names],
        schema={"model": pl.String, "stage": pl.String},
        orient="row",
    )
    found = rows.join(families, on="model", how="left", maintain_order="left")
    return found.with_columns(pl.coalesce("stage", "model").alias("model")).drop("stage")


def _models(about: dict[str, Any], model: str | None) -> list[str]:
    known = sorted(about["models"])
    if model is None:
        return known
    if model not in known:
        raise LesionError(
            f"--model: the study has no model {model!r}. Its models are {', '.join(known)}."
        )
    return [model]


def _judged(
    model: str, digest: str | None, rows: pl.DataFrame, required: list[int]
) -> ModelOutcome:
    claims = []
    for number in sorted({*required, *rows["claim"]}):
        found = rows.filter(claim=number)
        claims.append(ClaimOutcome(number, number in required, together(found["verdict"]), found))
    verdict = together(one.verdict for one in claims if one.required)
    return ModelOutcome(model, digest, verdict, claims)


def together(verdicts: Iterable[str]) -> str:
    """The joint outcome of several claims; "can't tell" if there are none."""
    found = set(verdicts)
    if NOT_SUPPORTED in found:
        return NOT_SUPPORTED
    return SUPPORTED if found == {SUPPORTED} else CANNOT_TELL


def document(gate: Gate) -> dict[str, Any]:
    """The gate as JSON types, with null for NaN and infinity. docs/gate.md explains every key."""
    return {
        "format": FORMAT,
        "study": gate.study,
        "lesion": gate.version,
        "confidence": gate.confidence,
        "required": gate.required,
        "notices": [{"model": model, "notice": text} for model, text in gate.notices],
        "verdict": gate.verdict,
        "exit_code": gate.exit_code,
        "models": [
            {
                "model": one.model,
                "digest": one.digest,
                "verdict": one.verdict,
                "claims": [_claim_document(claim) for claim in one.claims],
            }
            for one in gate.models
        ],
    }


def _claim_document(claim: ClaimOutcome) -> dict[str, Any]:
    return {
        "claim": claim.number,
        "required": claim.required,
        "verdict": claim.verdict,
        "statistics": [
            {name: _finite(value) for name, value in row.items() if name not in ("model", "claim")}
            for row in claim.statistics.iter_rows(named=True)
        ],
    }


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def verdict_table(judged: ModelOutcome, confidence: float) -> Table:
    """One model's claims for a terminal of 80 columns, with two lines for each number."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("", no_wrap=True)
    table.add_column(Text(judged.model, style="bold"), overflow="fold")
    table.add_column(Text(f"[{confidence:.0%} interval]"), justify="right")
    table.add_column(said(judged.verdict), no_wrap=True)
    for claim in judged.claims:
        mark = f"{claim.number}{'' if claim.required else '*'}"
        if claim.statistics.is_empty():
            table.add_row(mark, "not measured by this study", "", said(claim.verdict))
        for row in claim.statistics.iter_rows(named=True):
            table.add_row(mark, *_cells(row), said(row["verdict"]))
    return table


def _cells(row: dict[str, Any]) -> tuple[Text, Text]:
    why = f"\n{row['why']}" if row["why"] else ""
    variant = "own masks" if row["variant"] is None else row["variant"]
    place = f"{row['statistic']}, {variant}{why}"
    name = Text.assemble(row["name"], "\n", (plain(place), "dim"))
    number = number_text(row)
    threshold = plain(amount(row["threshold"], unit_of(row["statistic"])))
    return name, Text.assemble(number, "\n", (f"n = {row['n']}, threshold {threshold}", "dim"))


def number_text(row: dict[str, Any]) -> str:
    """A claim's number and interval, as the terminal shows them."""
    unit, one = unit_of(row["statistic"]), estimate_of(row)
    after = " points" if unit == "points" else ""
    # A small number is never shown as 0.000 [0.000, 0.000].
    digits = max(_DIGITS, shared_digits(one))
    return plain(f"{amount(one.value, unit, digits)}{after} {interval(one, unit, digits)}".strip())


def noticed(model: str, notice: str) -> Text:
    """A warning about a model, as the terminal shows it before the outcomes."""
    return Text(plain(f"{model}: {notice}"), style="yellow")


def said(verdict: str) -> Text:
    """The outcome, in colour where the terminal has colours; the words alone are sufficient."""
    return Text(verdict, style=_STYLES[verdict])


def plain(text: str) -> str:
    """The text with characters that every terminal and log file can show."""
    return text.translate(_PLAIN)
