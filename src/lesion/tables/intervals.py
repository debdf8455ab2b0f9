"""Intervals: Wilson for rates, Newcombe for their differences, the bootstrap for the rest."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy  # its parts, which take a second, when they are first used
from numpy.typing import NDArray

Values = NDArray[np.float64]


class Estimate(NamedTuple):
    """A value, its interval (NaN if it has none), and the number of prompts."""

    value: float
    low: float = math.nan
    high: float = math.nan
    n: int | None = None

    @property
    def above_zero(self) -> bool:
        """Whether the whole interval lies above zero; false if there is none."""
        return self.low > 0

    @property
    def below_zero(self) -> bool:
        """Whether the whole interval lies below zero; false if there is none."""
        return self.high < 0


POWER = 0.8
"""The statistical power that defines the minimum detectable effect."""


ROUNDING = 1e-6
"""The difference that rounding in single precision makes between numbers of about one."""


class Difference(NamedTuple):
    """An estimate of a difference, with its p-value and minimum detectable effect.

    `p_value` is two-sided, against no difference. `detectable` is the minimum detectable effect:
    the true difference that a study of this size detects with the power POWER. If nothing varies
    over prompts, the p-value is 1 and `detectable` is NaN.
    """

    value: float
    low: float
    high: float
    n: int
    p_value: float
    detectable: float


class Paired(NamedTuple):
    """The values of the same prompts before (unmodified) and after, in the same order."""

    before: Values
    after: Values

    @property
    def change(self) -> Values:
        """After − before, by prompt."""
        return self.after - self.before


def normal_quantile(probability: float) -> float:
    """The quantile of the standard normal distribution."""
    return float(scipy.special.ndtri(probability))


def rate(groups: Sequence[Values], confidence: float) -> Estimate:
    """The unweighted mean of the groups' proportions, with Wilson's interval.

    The interval uses the effective number of draws, which gives the mean its variance. It equals
    the total number if all groups are of one size and is smaller otherwise.
    """
    value = float(np.mean([values.mean() for values in groups]))
    draws = equal_draws([values.size for values in groups])
    z = normal_quantile((1 + confidence) / 2)
    middle = value + z**2 / (2 * draws)
    reach = z * math.sqrt(value * (1 - value) / draws + z**2 / (4 * draws**2))
    low, high = ((middle + side * reach) / (1 + z**2 / draws) for side in (-1, 1))
    # By rounding, a bound could lie just inside and count as clearly above zero.
    low, high = (0.0 if value == 0 else low), (1.0 if value == 1 else high)
    return Estimate(value, max(0.0, low), min(1.0, high), sum(map(len, groups)))


def equal_draws(sizes: Sequence[int]) -> float:
    """The effective number of draws: a single group of this size has the same variance.

    Groups have equal weight, regardless of their sizes.
    """
    return len(sizes) ** 2 / sum(1 / size for size in sizes)


def is_still(low: float, high: float, scale: float = 1.0) -> bool:
    """Whether an interval has zero width up to rounding, because nothing varied; not if it is NaN.

    `scale` is the magnitude of the numbers that it is computed from.
    """
    return high - low <= ROUNDING * scale


def rate_change(before: Sequence[Values], after: Sequence[Values], confidence: float) -> Difference:
    """The difference of two rates of the same prompts: the unweighted mean over groups.

    Each group has Newcombe's interval for paired rates (1998, method 10): the distances of both
    sides to their Wilson bounds are added in squares and reduced by the correlation of the prompts.
    The groups' distances are then added in squares too, each with its weight in the mean. Pooled
    over groups, the correlation would be that of the largest one. Unlike a bootstrap interval, it
    has a width even if no prompt changed. The p-value is McNemar's, exact, over all prompts.
    Both sides have zeros and ones of the same prompts in the same order, one array for each group.
    """
    parts = [_paired_rates(*sides, confidence) for sides in zip(before, after, strict=True)]
    value = float(np.mean([part.value for part in parts]))
    below, above = (
        math.hypot(*distances) / len(parts)
        for distances in zip(*((part.below, part.above) for part in parts), strict=True)
    )
    lost, gained = (sum(getattr(part, name) for part in parts) for name in ("lost", "gained"))
    p_value = float(scipy.stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    low, high = value - below, value + above
    error = (below + above) / (2 * normal_quantile((1 + confidence) / 2))
    detectable = minimum_detectable_effect(error, confidence)
    return Difference(value, low, high, sum(map(len, before)), p_value, detectable)


class _PairedRates(NamedTuple):
    """The change of one group's rate, the distances to its bounds, and the prompts that changed."""

    value: float
    below: float
    above: float
    lost: int
    gained: int


def _paired_rates(before: Values, after: Values, confidence: float) -> _PairedRates:
    first, second = rate([before], confidence), rate([after], confidence)
    # Counts of prompts by their value before (rows) and after (columns).
    table, _, _ = np.histogram2d(before, after, bins=2, range=((0, 1), (0, 1)))
    # Newcombe's correlation of the two sides, with a continuity correction if it is positive.
    product = table[0, 0] * table[1, 1] - table[0, 1] * table[1, 0]
    product = max(product - table.sum() / 2, 0) if product > 0 else product
    margins = float(np.prod([*table.sum(0), *table.sum(1)]))
    agreement = float(product / math.sqrt(margins)) if margins else 0.0

    def reach(own: float, other: float) -> float:
        return math.sqrt(own**2 + other**2 - 2 * agreement * own * other)

    return _PairedRates(
        second.value - first.value,
        reach(second.value - second.low, first.high - first.value),
        reach(second.high - second.value, first.value - first.low),
        int(table[1, 0]),
        int(table[0, 1]),
    )


def minimum_detectable_effect(error: float, confidence: float) -> float:
    """The true difference that is detected with the power POWER, given its standard error."""
    return (normal_quantile((1 + confidence) / 2) + normal_quantile(POWER)) * error


def standard_error(low: float, high: float, confidence: float) -> float:
    """The standard error of a normal estimate, from its interval."""
    return (high - low) / (2 * normal_quantile((1 + confidence) / 2))


def difference_of(first: Estimate, second: Estimate) -> Estimate:
    """`first − second`, with an interval from the two intervals alone.

    The distances of both sides to their bounds are added in squares (Newcombe's square-and-add,
    1998), as if the sides were independent. If they share prompts, they are positively correlated
    and the true interval is narrower, so this one errs towards "can't tell".
    """
    value = first.value - second.value
    below = math.hypot(first.value - first.low, second.high - second.value)
    above = math.hypot(first.high - first.value, second.value - second.low)
    counts = [estimate.n for estimate in (first, second) if estimate.n is not None]
    return Estimate(value, value - below, value + above, min(counts, default=None))


class Bootstrap(NamedTuple):
    """Resamples prompts within behaviours; the seed fixes the resamples of every table."""

    resamples: int
    confidence: float
    seed: int

    def independent(self) -> "Bootstrap":
        """A bootstrap with another seed, for a second side that is resampled independently."""
        return self._replace(seed=self.seed + 1)

    def drawn(self, groups: Sequence[Values]) -> Values:
        """The mean over groups of their means, then of their resampled means: [1 + resamples]."""
        generator = np.random.default_rng(self.seed)
        total = np.zeros(self.resamples)
        for values in groups:
            drawn = generator.integers(0, values.size, (self.resamples, values.size))
            total += values[drawn].mean(1)
        return np.append(np.mean([values.mean() for values in groups]), total / len(groups))

    def mean(self, groups: Sequence[Values]) -> Estimate:
        """The unweighted mean of the groups' means."""
        return self.estimate(self.drawn(groups), sum(map(len, groups)))

    def change(self, groups: Sequence[Values]) -> Difference:
        """The unweighted mean of the groups' mean differences; each value is after − before."""
        return self._difference(self.drawn(groups), sum(map(len, groups)))

    def mean_or_rate(self, groups: Sequence[Values]) -> Estimate:
        """The unweighted mean of the groups' means; a rate if all values are zeros and ones."""
        return rate(groups, self.confidence) if _binary(groups) else self.mean(groups)

    def paired_change(self, groups: Sequence[Paired]) -> Difference:
        """The unweighted mean of the groups' mean differences; of rates if both sides are binary.

        Both sides are checked, since one may be binary by chance: a score that is always 0 is a
        score.
        """
        before, after = [paired.before for paired in groups], [paired.after for paired in groups]
        if _binary([*before, *after]):
            return rate_change(before, after, self.confidence)
        return self.change([paired.change for paired in groups])

    def auroc(self, above: Values, below: Values) -> Estimate:
        """The share of comparisons in which the first side scores higher; ties count half.

        Pairs are resampled: both sides are float64 [pairs]. If the share is 0 or 1, all resamples
        are equal, and the interval is Wilson's for a rate.
        """
        return self.mean_auroc([(above, below)])

    def mean_auroc(self, groups: Sequence[tuple[Values, Values]]) -> Estimate:
        """The unweighted mean of the groups' AUROCs, each of pairs as in `auroc`."""
        generator = np.random.default_rng(self.seed)
        drawn = np.mean([self._aurocs(*sides, generator) for sides in groups], axis=0)
        sizes = [len(above) for above, _ in groups]
        if drawn[0] in (0.0, 1.0):
            return rate([np.full(size, drawn[0]) for size in sizes], self.confidence)
        return self.estimate(drawn, sum(sizes))

    def auroc_change(
        self, before: tuple[Values, Values], after: tuple[Values, Values]
    ) -> Difference:
        """The difference of two AUROCs over the same pairs."""
        first, second = self._aurocs(*before), self._aurocs(*after)
        if {first[0], second[0]} <= {0.0, 1.0}:
            shares = [[np.full(len(before[0]), drawn[0])] for drawn in (first, second)]
            return rate_change(shares[0], shares[1], self.confidence)
        return self._difference(second - first, len(before[0]))

    def _aurocs(
        self, above: Values, below: Values, generator: np.random.Generator | None = None
    ) -> Values:
        wins = (above[:, None] > below) + 0.5 * (above[:, None] == below)
        # NaN compares as False, but nothing is known about such a pair.
        wins[np.isnan(above)[:, None] | np.isnan(below)] = np.nan
        pairs = len(above)
        generator = generator or np.random.default_rng(self.seed)
        counts = generator.multinomial(pairs, [1 / pairs] * pairs, self.resamples).astype(float)
        drawn = np.einsum("ri,ij,rj->r", counts, wins, counts, optimize=True)
        return np.append(wins.mean(), drawn / pairs**2)

    def share(self, part: Sequence[Values], total: Sequence[Values]) -> Estimate:
        """The ratio of two means over the same prompts, in the same order."""
        return self.estimate(self.drawn(part) / self.drawn(total), sum(map(len, part)))

    def ratio(self, above: Sequence[Values], below: Sequence[Values]) -> Estimate:
        """The ratio of two means over different prompts."""
        drawn = self.drawn(above) / self.independent().drawn(below)
        return self.estimate(drawn, sum(map(len, [*above, *below])))

    def estimate(self, drawn: Values, n: int) -> Estimate:
        """The estimate whose value comes first in `drawn`, before those of the resamples."""
        tail = (1 - self.confidence) / 2
        low, high = np.quantile(drawn[1:], [tail, 1 - tail])
        return Estimate(float(drawn[0]), float(low), float(high), n)

    def _difference(self, drawn: Values, n: int) -> Difference:
        value, low, high, _ = self.estimate(drawn, n)
        drawn = drawn[1:]
        if not np.isfinite(drawn).all() or is_still(drawn.min(), drawn.max()):
            return Difference(value, low, high, n, 1.0, math.nan)
        # Two-sided: the share of resamples on the other side of zero, which is never zero itself.
        least = 1 + min(int(np.sum(drawn <= 0)), int(np.sum(drawn >= 0)))
        p_value = min(1.0, 2 * least / (self.resamples + 1))
        effect = minimum_detectable_effect(float(drawn.std()), self.confidence)
        return Difference(value, low, high, n, p_value, effect)


def _binary(groups: Sequence[Values]) -> bool:
    return all(bool(np.isin(values, (0, 1)).all()) for values in groups)
