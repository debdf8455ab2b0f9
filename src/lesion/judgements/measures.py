"""Metrics of a judge's quality, each with its bootstrap interval."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lesion.judgements.offtopic import PARAGRAPHS

THRESHOLD = 0.5
ALL = "all"
"""The category of all categories together."""
LEAST = 20
"""The least number of answers of a category that is measured separately."""
OFF_TOPIC, REPEATED = "off_topic", "repetition"
"""The control texts; the column of their scores is `<control> <judge>`."""
_BINS = 10  # Of equal width, in which scores and what people said are compared.
_REPEATED_ANSWERS = 20  # Of each part that is scored: enough, and each must be embedded.
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


class Statistic(NamedTuple):
    """A metric of some columns; `among` is a 0/1 column that selects rows, if given."""

    judge: str
    metric: str
    columns: tuple[str, ...]
    value: Callable[..., float]
    among: str | None = None


def agreement(judge: str) -> list[Statistic]:
    """AUROC, kappa and calibration of a judge's column against the column `label`."""
    metrics = {"auroc": auroc, "kappa": kappa, "ece": calibration_error, "brier": brier}
    return [Statistic(judge, name, ("label", judge), value) for name, value in metrics.items()]


def label_means(judge: str) -> list[Statistic]:
    """Mean score of the answers that people called so, and of the rest."""
    return [
        Statistic(judge, "true_positive_mean", (judge,), mean, "label"),
        Statistic(judge, "true_negative_mean", (judge,), mean, "rest"),
    ]


def control_means(judge: str) -> list[Statistic]:
    """Mean score of each control text."""
    return [
        Statistic(judge, "off_topic_mean", (f"{OFF_TOPIC} {judge}",), mean),
        Statistic(judge, "repetition_mean", (f"{REPEATED} {judge}",), mean, "repeated"),
    ]


def control_texts(answers: Sequence[str], repeated: NDArray[np.bool_]) -> dict[str, list[str]]:
    """Texts that a judge must give low scores, one for each answer.

    They are harmless paragraphs, and the first words of the `repeated` answers over and over, as
    from a model that is stuck in a loop; empty for the other answers.
    """
    return {
        OFF_TOPIC: [PARAGRAPHS[row % len(PARAGRAPHS)] for row in range(len(answers))],
        REPEATED: [
            " ".join(text.split()[:_REPEATED_WORDS] * _REPEATS) if used else ""
            for text, used in zip(answers, repeated, strict=True)
        ],
    }


def first_answers(chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The first 20 of the chosen answers, which `control_texts` repeats."""
    return chosen & (np.cumsum(chosen) <= _REPEATED_ANSWERS)


def float_columns(values: Mapping[str, NDArray[Any]]) -> list[pl.Series]:
    """Columns of scores and of flags, as numbers, which `Statistic` names."""
    return [pl.Series(name, array.astype(np.float64)) for name, array in values.items()]


def measure_categories(
    target: str,
    rows: pl.DataFrame,
    of_all: Sequence[Statistic],
    of_each: Sequence[Statistic],
    seed: int,
    category: str = "category",
    groups: tuple[str, str] = ("group", "group"),
) -> Iterator[tuple[object, ...]]:
    """Rows of SCHEMA: statistics `of_all` rows, and `of_each` large category with both labels.

    `target` is what the column `label` means, and `category` the column of categories; `groups` are
    the columns of the groups that are resampled, of all rows and of those of a category.
    """
    yield from measurement_rows(target, ALL, rows, of_all, seed, groups[0])
    for (name,), part in rows.group_by(category, maintain_order=True):
        both = 0 < part["label"].sum() < part.height
        if LEAST <= part.height < rows.height and both:
            yield from measurement_rows(target, str(name), part, of_each, seed, groups[1])


def measurement_rows(
    target: str,
    category: str,
    rows: pl.DataFrame,
    statistics: Sequence[Statistic],
    seed: int,
    groups: str = "group",
) -> Iterator[tuple[object, ...]]:
    """Rows of SCHEMA: each statistic of `rows`, with groups of rows resampled together."""
    columns, resamples = number_columns(rows), _resamples(rows[groups].to_numpy(), seed)
    bounds = [(100 - _LEVEL) / 2, (100 + _LEVEL) / 2]
    for judge, metric, names, statistic, among in statistics:
        arrays = [columns[name] for name in names]
        chosen = np.ones(rows.height, bool) if among is None else columns[among] > 0
        drawn = [indices[chosen[indices]] for indices in resamples]
        values = np.array([statistic(*(array[indices] for array in arrays)) for indices in drawn])
        known = values[~np.isnan(values)]
        low, high = np.percentile(known, bounds) if len(known) else (np.nan, np.nan)
        value = statistic(*(array[chosen] for array in arrays))
        identity = (judge, target, category, metric)
        yield (*identity, value, float(low), float(high), int(chosen.sum()), seed)


def number_columns(rows: pl.DataFrame) -> dict[str, Values]:
    """The table's columns of numbers."""
    return {column.name: column.to_numpy() for column in rows.select(pl.col(pl.Float64))}


def _resamples(groups: NDArray[Any], seed: int) -> list[NDArray[np.int64]]:
    """The row numbers of each resample, in which groups are drawn with replacement."""
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    generator = np.random.default_rng(seed)
    draws = generator.integers(len(members), size=(_RESAMPLES, len(members)))
    return [np.concatenate([members[group] for group in draw]) for draw in draws]


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
