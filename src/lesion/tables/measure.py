"""From rows per prompt to rows per measurement. Polars in, polars out; no I/O."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import polars as pl

from lesion.tables.intervals import Bootstrap, Estimate, Values, rate

MEASUREMENTS = {
    "model": pl.String,
    "variant": pl.String,
    "behaviour": pl.String,
    "role": pl.String,
    "attack": pl.String,
    "judge": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "n": pl.Int64,
    "low": pl.Float64,
    "high": pl.Float64,
    "seed": pl.Int64,
}
ROLES = ("harm", "benign")


class _Metric(NamedTuple):
    """One number made from a column of per-prompt values."""

    judge: str
    name: str
    column: str
    is_rate: bool


_JUDGED = (
    _Metric("matching", "refusal_rate", "refused", True),
    _Metric("learned", "harmfulness", "harmfulness", False),
    _Metric("learned", "harmful_rate", "harmful", True),
    _Metric("learned", "relevance", "relevance", False),
    _Metric("coherence", "coherence", "coherence", False),
)
_HARM_ONLY = {"harmfulness", "harmful_rate"}

Row = tuple[str, str, str, str, str, float, int, float, float]


def measurements(
    model: str, nll: pl.DataFrame, judged: pl.DataFrame, boot: Bootstrap
) -> pl.DataFrame:
    """Every measurement of one model.

    Args:
        model: its name.
        nll: variant, behaviour, role, prompt, nll.
        judged: variant, behaviour, role, attack, prompt, refused, harmful (Boolean), harmfulness,
            relevance, coherence.
        boot: the bootstrap.

    Returns:
        A table of MEASUREMENTS; `all-harm` and `all-benign` are means over behaviours.
    """
    rows = [*_nll_rows(nll, boot), *_judged_rows(judged, boot)]
    full = [(model, *row, boot.seed) for row in rows]
    return pl.DataFrame(full, schema=MEASUREMENTS, orient="row")


def _groups(table: pl.DataFrame, column: str, role: str) -> dict[str, Values]:
    found = table.filter(pl.col("role") == role).group_by("behaviour", maintain_order=True)
    return {str(name): group[column].cast(pl.Float64).to_numpy() for (name,), group in found}


def _with_total(
    groups: Mapping[str, Values], role: str, estimate: Callable[[Sequence[Values]], Estimate]
) -> Iterator[tuple[str, Estimate]]:
    for name, values in groups.items():
        yield name, estimate([values])
    if groups:
        yield f"all-{role}", estimate(list(groups.values()))


def _nll_rows(nll: pl.DataFrame, boot: Bootstrap) -> Iterator[Row]:
    intact = nll.filter(pl.col("variant") == "intact").select("behaviour", "prompt", intact="nll")
    # Paired by prompt: prompts differ far more from each other than variants do.
    paired = nll.join(intact, on=["behaviour", "prompt"], maintain_order="left").with_columns(
        added=pl.col("nll") - pl.col("intact")
    )
    for (variant,), table in paired.group_by("variant", maintain_order=True):
        for role in ROLES:
            for metric, column in (("nll", "nll"), ("nll_added", "added")):
                for name, one in _with_total(_groups(table, column, role), role, boot.mean):
                    yield _row(str(variant), name, role, "none", "none", metric, one)
        if variant != "intact":
            sides = [list(_groups(table, "added", role).values()) for role in ROLES]
            yield _row(
                str(variant), "all-harm", "harm", "none", "none", "nll_ratio", boot.ratio(*sides)
            )


def _judged_rows(judged: pl.DataFrame, boot: Bootstrap) -> Iterator[Row]:
    proportion = partial(rate, confidence=boot.confidence)
    for (variant, attack), table in judged.group_by("variant", "attack", maintain_order=True):
        for role in ROLES:
            for metric in _JUDGED:
                if role == "benign" and metric.name in _HARM_ONLY:
                    continue
                groups = _groups(table, metric.column, role)
                estimate = proportion if metric.is_rate else boot.mean
                for name, one in _with_total(groups, role, estimate):
                    yield _row(
                        str(variant), name, role, str(attack), metric.judge, metric.name, one
                    )


def _row(
    variant: str, behaviour: str, role: str, attack: str, judge: str, metric: str, one: Estimate
) -> Row:
    return (variant, behaviour, role, attack, judge, metric, one.value, one.n, one.low, one.high)  # type: ignore[return-value]
