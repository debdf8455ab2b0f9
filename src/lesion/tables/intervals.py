"""Intervals: Wilson for rates, bootstrap over prompts for means, differences and ratios."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

Values = NDArray[np.float64]


class Estimate(NamedTuple):
    """A value, its interval, and the number of prompts behind it."""

    value: float
    low: float
    high: float
    n: int


def rate(groups: Sequence[Values], confidence: float) -> Estimate:
    """The mean over groups of their proportions, each group counting the same; Wilson's interval.

    The interval is that of as many draws as give the mean its variance: all of them where the
    groups are of one size, fewer where they are not.
    """
    value = float(np.mean([values.mean() for values in groups]))
    draws = len(groups) ** 2 / sum(1 / values.size for values in groups)
    z = float(norm.ppf((1 + confidence) / 2))
    middle = value + z**2 / (2 * draws)
    reach = z * math.sqrt(value * (1 - value) / draws + z**2 / (4 * draws**2))
    low, high = ((middle + side * reach) / (1 + z**2 / draws) for side in (-1, 1))
    return Estimate(value, max(0.0, low), min(1.0, high), sum(map(len, groups)))


class Bootstrap:
    """Resamples prompts within behaviours; one seed gives every table the same resamples."""

    def __init__(self, resamples: int, confidence: float, seed: int) -> None:
        """Keep the settings; nothing is drawn yet."""
        self.resamples, self.confidence, self.seed = resamples, confidence, seed

    def means(self, groups: Sequence[Values]) -> Values:
        """The mean over groups of their resampled means: float64 [resamples]."""
        generator = np.random.default_rng(self.seed)
        total = np.zeros(self.resamples)
        for values in groups:
            drawn = generator.integers(0, values.size, (self.resamples, values.size))
            total += values[drawn].mean(1)
        return total / len(groups)

    def mean(self, groups: Sequence[Values]) -> Estimate:
        """The mean over groups of their means; each group counts the same."""
        value = float(np.mean([values.mean() for values in groups]))
        return self._estimate(value, self.means(groups), sum(map(len, groups)))

    def ratio(self, above: Sequence[Values], below: Sequence[Values]) -> Estimate:
        """The ratio of two such means, whose prompts are different ones."""
        value = np.mean([v.mean() for v in above]) / np.mean([v.mean() for v in below])
        # Another seed, because the two sides are resampled independently.
        other = Bootstrap(self.resamples, self.confidence, self.seed + 1)
        drawn = self.means(above) / other.means(below)
        return self._estimate(float(value), drawn, sum(map(len, [*above, *below])))

    def _estimate(self, value: float, drawn: Values, n: int) -> Estimate:
        tail = (1 - self.confidence) / 2
        low, high = np.quantile(drawn, [tail, 1 - tail])
        return Estimate(value, float(low), float(high), n)
