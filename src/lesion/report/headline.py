"""The before/after table: the rows that the page and the terminal both show. Polars in and out."""

from collections.abc import Callable
from typing import NamedTuple

import polars as pl

from lesion.report.estimate import UNKNOWN, Estimate, Unit, find

VARIANTS = ("intact", "shared", "random")
"""Columns of the table: before, after, and the control that zeroes as many weights at random."""

HEADLINE = {
    "model": pl.String,
    "key": pl.String,
    "group": pl.String,
    "label": pl.String,
    "note": pl.String,
    "unit": pl.String,
    "variant": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n": pl.Int64,
}


Measure = Callable[[pl.DataFrame, pl.DataFrame, str], Estimate | None]
"""From one model's measurements and `where`, and a variant, to a number."""


class _Row(NamedTuple):
    key: str
    group: str
    label: str
    note: str
    unit: Unit
    measure: Measure


def _metric(behaviour: str, metric: str, attack: str) -> Measure:
    return lambda measured, _where, variant: find(measured, variant, behaviour, metric, attack)


def headline(measurements: pl.DataFrame, where: pl.DataFrame) -> pl.DataFrame:
    """The before/after rows of every model.

    Args:
        measurements: the study's measurements.
        where: how many weights of each mask, and how many candidates, lie in each matrix.

    Returns:
        A table of HEADLINE, one row for each model, row (`key`) and variant of VARIANTS. `value`
        is null where nothing was measured; `low` and `high` also where a number is a count; `n`
        counts prompts, or weights where the row counts weights.
    """
    rows = [
        _line(model, row, variant, row.measure(measured, masks, variant))
        for model in sorted({*measurements["model"], *where["model"]})
        for measured, masks in [(measurements.filter(model=model), where.filter(model=model))]
        for row in _ROWS
        for variant in VARIANTS
    ]
    return pl.DataFrame(rows, schema=HEADLINE, orient="row").with_columns(
        pl.when(pl.col(pl.Float64).is_finite()).then(pl.col(pl.Float64))
    )


def _line(model: str, row: _Row, variant: str, one: Estimate | None) -> tuple[object, ...]:
    value, low, high, n = one or (UNKNOWN, UNKNOWN, UNKNOWN, None)
    return (model, row.key, row.group, row.label, row.note, row.unit, variant, value, low, high, n)


def mask_size(where: pl.DataFrame, mask: str) -> tuple[int, int]:
    """Weights in one model's mask, and the candidates it was chosen from; zeros if unknown."""
    found = where.filter(mask=mask).select("weights", "candidates").sum().row(0)
    return int(found[0]), int(found[1])


def _zeroed(_measured: pl.DataFrame, where: pl.DataFrame, variant: str) -> Estimate | None:
    weights, candidates = mask_size(where, variant)
    if variant == "intact":
        return Estimate(0)
    return Estimate(weights) if candidates else None


def _circuit_left(_measured: pl.DataFrame, where: pl.DataFrame, variant: str) -> Estimate | None:
    """Share of the shared mask's weights that a variant still has.

    The random mask takes as many weights of each matrix as the shared one, so in a matrix of N it
    meets `k·k/N` of them on average; the tables do not say which.
    """
    size, _ = mask_size(where, "shared")
    if not size:
        return None
    if variant == "shared":
        return Estimate(0.0, n=size)
    if variant == "intact":
        return Estimate(1.0, n=size)
    if not mask_size(where, "random")[1]:
        return None
    place = ["layer", "module"]
    both = where.filter(mask="shared").join(where.filter(mask="random"), on=place)
    met = both.select((pl.col("weights") * pl.col("weights_right") / pl.col("candidates")).sum())
    return Estimate(1 - float(met.item()) / size, n=size)


_ROWS = (
    _Row(
        "harmful-prefill",
        "Harmful generation",
        "Harm score, prefill",
        "judged harmfulness, 0 to 1, when the answer is begun for the model",
        "score",
        _metric("all-harm", "harmfulness", "prefill"),
    ),
    _Row(
        "harmful-direct",
        "Harmful generation",
        "Harm score, direct",
        "the same when the request is put as it is",
        "score",
        _metric("all-harm", "harmfulness", "direct"),
    ),
    _Row(
        "harm-nll",
        "Harmful generation",
        "Harm NLL",
        "nats per token of held-out harmful responses; higher is harder to produce",
        "nats",
        _metric("all-harm", "nll", "none"),
    ),
    _Row(
        "benign-nll",
        "General performance",
        "Benign NLL",
        "nats per token of held-out benign responses; should stay",
        "nats",
        _metric("all-benign", "nll", "none"),
    ),
    _Row(
        "benign-coherence",
        "General performance",
        "Benign coherence",
        "on topic and not repeating itself, 0 to 1; should stay",
        "score",
        _metric("all-benign", "coherence", "prefill"),
    ),
    _Row(
        "accuracy",
        "General performance",
        "Task accuracy",
        "mean over the study’s tasks; should stay",
        "share",
        _metric("all-utility", "accuracy", "none"),
    ),
    _Row(
        "detection",
        "Understanding",
        "Detects harm",
        "AUROC of harmful requests against harmless twins; ½ is chance, should stay",
        "score",
        _metric("all-harm", "detect_auroc", "none"),
    ),
    _Row(
        "explanation",
        "Understanding",
        "Explanation NLL",
        "nats per token of the intact model’s explanations why a request is harmful; should stay",
        "nats",
        _metric("all-harm", "explain_nll", "none"),
    ),
    _Row(
        "explained",
        "Understanding",
        "Explanation coherence",
        "the model’s own explanations: about the request and not repeating themselves, 0 to 1",
        "score",
        _metric("all-explanation", "coherence", "explanation"),
    ),
    _Row(
        "refusal",
        "Safety evaluation",
        "Refusals, direct",
        "direct harmful requests refused, by matching phrases",
        "share",
        _metric("all-harm", "refusal_rate", "direct"),
    ),
    _Row(
        "over-refusal",
        "Safety evaluation",
        "Over-refusal",
        "harmless requests that look harmful, refused; lower is better",
        "share",
        _metric("all-lookalike", "refusal_rate", "direct"),
    ),
    _Row(
        "attack",
        "Vulnerability",
        "Attack success",
        "answers judged harmful when the answer is begun for the model",
        "share",
        _metric("all-harm", "harmful_rate", "prefill"),
    ),
    _Row(
        "circuit",
        "Circuit integrity",
        "Circuit left",
        "share of the shared mask's weights not zeroed; for the random control, expected",
        "share",
        _circuit_left,
    ),
    _Row(
        "zeroed",
        "Circuit integrity",
        "Weights zeroed",
        "how many weights were set to zero",
        "count",
        _zeroed,
    ),
)
