"""Metrics of a judge's quality, each with its bootstrap interval."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

THRESHOLD = 0.5
ALL = "all"
"""The category of all categories together."""
LEAST = 20
"""The least number of answers of a category that is measured separately."""
_BINS = 10  # Of equal width, in which scores and what people said are compared.
_REPEATED_WORDS, _REPEATS = 5, 6
_RESAMPLES = 300
_LEVEL = 95.0  # Percent; of the intervals.
SCHEMA = {
    "judge": pl.String,
    "target": pl.String,
    "category": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "n": pl.Int64,
    "seed": pl.Int64,
}

Values = NDArray[np.float64]
Columns = Mapping[str, Values]


class Statistic(NamedTuple):
    """A metric of some columns; `among` is a 0/1 column that selects rows, if given."""

    judge: str
    metric: str
    columns: tuple[str, ...]
    value: Callable[..., float]
    among: str | None = None


def measurement_rows(
    target: str, category: str, rows: pl.DataFrame, statistics: Sequence[Statistic], seed: int
) -> Iterator[tuple[object, ...]]:
    """Rows of SCHEMA: each statistic of `rows`, resampled by its column `group`."""
    columns, resamples = number_columns(rows), _resamples(rows["group"].to_numpy(), seed)
    for one in statistics:
        yield (
            *(one.judge, target, category, one.metric),
            *_with_interval(one, columns, resamples),
            seed,
        )


def number_columns(rows: pl.DataFrame) -> dict[str, Values]:
    """The table's columns of numbers."""
    return {column.name: column.to_numpy() for column in rows.select(pl.col(pl.Float64))}


def _resamples(groups: NDArray[np.int64], seed: int) -> list[NDArray[np.int64]]:
    """The row numbers of each resample, in which groups are drawn with replacement."""
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    generator = np.random.default_rng(seed)
    draws = generator.integers(len(members), size=(_RESAMPLES, len(members)))
    return [np.concatenate([members[group] for group in draw]) for draw in draws]


def _with_interval(
    one: Statistic, columns: Columns, resamples: Sequence[NDArray[np.int64]]
) -> tuple[float, float, float, int]:
    """Value, interval, and the number of rows."""
    arrays = [columns[name] for name in one.columns]
    among = np.ones(len(arrays[0]), bool) if one.among is None else columns[one.among] > 0
    drawn = [rows[among[rows]] for rows in resamples]
    values = np.array([one.value(*(array[rows] for array in arrays)) for rows in drawn])
    known = values[~np.isnan(values)]
    bounds = [(100 - _LEVEL) / 2, (100 + _LEVEL) / 2]
    low, high = np.percentile(known, bounds) if len(known) else (np.nan, np.nan)
    value = one.value(*(array[among] for array in arrays))
    return value, float(low), float(high), int(among.sum())


def agreement(judge: str) -> list[Statistic]:
    """AUROC, kappa and calibration of a judge's column against the column `label`."""
    both = ("label", judge)
    return [
        Statistic(judge, "auroc", both, auroc),
        Statistic(judge, "kappa", both, kappa),
        Statistic(judge, "ece", both, calibration_error),
        Statistic(judge, "brier", both, brier),
    ]


def over_and_over(text: str) -> str:
    """The first words of a text repeated, as from a model that is stuck in a loop."""
    return " ".join(text.split()[:_REPEATED_WORDS] * _REPEATS)


def mean(values: Values) -> float:
    """Mean; NaN if there are no values."""
    return float(values.mean()) if len(values) else float("nan")


# AUROC, kappa and Brier are not sklearn.metrics': over the 300 resamples those take 17 to 350 times
# as long (3 s for one AUROC with its interval, in place of 8 to 50 ms; 40 to 2,000 answers), and a
# third of their values differ in the last digit. tests/judgements/test_agreement.py compares both.


def auroc(labels: Values, scores: Values) -> float:
    """Area under the ROC curve: how often a positive answer outscores a negative; ties count ½."""
    positive, negative = np.sort(scores[labels > 0]), np.sort(scores[labels == 0])
    if not len(positive) or not len(negative):
        return float("nan")
    below = np.searchsorted(negative, positive, "left").sum()
    level = np.searchsorted(negative, positive, "right").sum()
    return float(below + level) / (2 * len(positive) * len(negative))


def kappa(labels: Values, scores: Values, threshold: float = THRESHOLD) -> float:
    """Cohen's kappa of `score >= threshold` with people: agreement beyond chance."""
    positive, labelled = scores >= threshold, labels > 0
    agreed = np.mean(positive == labelled)
    chance = positive.mean() * labelled.mean()
    chance += (1 - positive.mean()) * (1 - labelled.mean())
    return float((agreed - chance) / (1 - chance)) if chance < 1 else float("nan")


def calibration_error(labels: Values, scores: Values) -> float:
    """Mean difference between score and share of positives, over bins weighted by their rows.

    Expected calibration error (Naeini et al. 2015).
    """
    bins = np.minimum((scores * _BINS).astype(np.int64), _BINS - 1)
    gaps = np.bincount(bins, weights=scores - labels, minlength=_BINS)
    return float(np.abs(gaps).sum() / len(scores))


def brier(labels: Values, scores: Values) -> float:
    """Mean squared difference between score and label (Brier 1950)."""
    return float(np.mean((scores - labels) ** 2))
