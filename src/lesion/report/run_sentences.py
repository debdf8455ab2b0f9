"""A finished study's numbers as sentences, for the captions of `snakemake --report`."""

from collections.abc import Callable, Iterable
from pathlib import Path

import polars as pl

from lesion.report.figures.outcomes import outcome_names
from lesion.report.headline import headline
from lesion.report.opening import opening_of
from lesion.tables.answer_outcomes import ANSWER_OUTCOMES
from lesion.tables.curve import LIKELIHOOD
from lesion.tables.lookup import estimate_of, find
from lesion.tables.metrics import shown_rows
from lesion.tables.read import StudyTables, read_study_tables
from lesion.tables.rows import UNMODIFIED
from lesion.tables.wording import amount, with_interval


def run_sentences(tables: Path) -> dict[str, str]:
    """Sentences with the numbers of every model, by what they are about; empty without numbers.

    Raises:
        BadFile: a table is missing or damaged.
    """
    inputs = read_study_tables(tables)
    return {name: _of_each(inputs, sentence) for name, sentence in _SENTENCES.items()}


def _of_each(inputs: StudyTables, sentence: Callable[[StudyTables, str], str]) -> str:
    texts = ((model, sentence(inputs, model)) for model in inputs.models)
    # Names are literals: an underscore at their end would be a link.
    return " ".join(f"``{model}``: {text}" for model, text in texts if text)


def _claims(inputs: StudyTables, model: str) -> str:
    opening = opening_of(inputs, model, "", [])
    named = "; ".join(f"claim {claim.number} {claim.outcome}" for claim in opening.claims)
    return f"{opening.tally} {named.capitalize()}{named and '.'}".strip()


def _before_after(inputs: StudyTables, model: str) -> str:
    own, complied = inputs.of(model), bool(inputs.judged_harm([model]))
    rows = headline(own.measurements, own.where, own.headline, compliance=complied)
    keys = [row.key for _, row in shown_rows() if row.summary]
    return _listed(
        f"{row['label']} {amount(before['value'], row['unit'])} → "
        f"{with_interval(estimate_of(row), row['unit'])}"
        for key in keys
        for before in rows.filter(key=key, column="unmodified").rows(named=True)
        for row in rows.filter(key=key, column="ablated").rows(named=True)
        if row["value"] is not None
    )


def _chosen(inputs: StudyTables, model: str) -> str:
    about, points = inputs.study["models"][model], inputs.of(model).sweep.height
    if not points or any(about.get(name) is None for name in ("p", "q", "limit")):
        return ""
    return (
        f"{points} points were tried; p = {about['p']:g} and q = {about['q']:g} were chosen within "
        f"a limit of {about['limit']:g} nats per token."
    )


def _halving(inputs: StudyTables, model: str) -> str:
    mask = inputs.headline.mask
    rows = inputs.of(model).halving.filter(family=mask, measure=LIKELIHOOD).rows(named=True)
    return _listed(
        f"no size up to {amount(row['largest'], 'count')} weights halves the likelihood of harmful "
        "tokens"
        if row["beyond"]
        else f"{amount(row['halving'], 'count')} weights halve the likelihood of harmful tokens "
        f"and add {amount(row['benign'], 'nats')} nats per token to benign responses"
        for row in rows
    )


def _at_equal_cost(inputs: StudyTables, model: str) -> str:
    rows = inputs.of(model).equal_cost.filter(metric="harm_added").rows(named=True)
    return _listed(
        f"at a limit of {row['limit']:g}, {row['mask']} ({amount(row['weights'], 'count')} "
        f"weights) adds {with_interval(estimate_of(row), 'nats')} nats per token to harmful answers"
        for row in rows
    )


def _outcomes(inputs: StudyTables, model: str) -> str:
    own, mask = inputs.of(model).measurements, inputs.headline.mask
    names = outcome_names(compliance=bool(inputs.judged_harm([model])))
    parts = []
    for outcome in ANSWER_OUTCOMES:
        before = find(own, UNMODIFIED, outcome, attack="prefill")
        after = find(own, mask, outcome, attack="prefill")
        if before and after:
            change = f"{amount(before.value, 'share')} → {with_interval(after, 'share')}"
            parts.append(f"{names[outcome]} {change}")
    return _listed(parts)


def _overlap(inputs: StudyTables, model: str) -> str:
    table = inputs.of(model).overlap
    rows = table.filter((pl.col("role_a") == "harm") | (pl.col("role_b") == "harm")).sort("shared")
    return _listed(
        f"of the pairs with a harm type, the masks of {row['a']} and {row['b']} share most: "
        f"{row['shared']:,} weights, {amount(row['enrichment_rows_columns'], 'ratio')} of what "
        "the strictest null model expects"
        for row in rows.tail(1).rows(named=True)
    )


def _listed(parts: Iterable[str]) -> str:
    """The parts as one sentence."""
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


_SENTENCES = {
    "claims": _claims,
    "measurements": _before_after,
    "sweep": _chosen,
    "curve": _halving,
    "equal_cost": _at_equal_cost,
    "outcomes": _outcomes,
    "overlap": _overlap,
}
