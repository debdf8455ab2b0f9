"""Ratios of times that a busy machine does not decide: paired, alternating, and their median.

The sides of a round run one after the other, so that other work slows them alike, and every other
round runs them in the opposite order. A ratio is taken within each round; what is said is the
median of these, with the least and the largest.
"""

import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence

Times = dict[str, list[float]]
"""Seconds by side, one for each round."""


def alternate(sides: Mapping[str, Callable[[], object]], rounds: int) -> Times:
    """Time every side once a round; a side that returns a number says its seconds itself."""
    times: Times = {side: [] for side in sides}
    for number in range(rounds):
        order = list(sides) if number % 2 == 0 else list(reversed(sides))
        for side in order:
            started = time.perf_counter()
            said = sides[side]()
            spent = time.perf_counter() - started
            times[side].append(said if isinstance(said, float) else spent)
        seconds = ", ".join(f"{side} {spent[-1]:.2f} s" for side, spent in times.items())
        print(f"round {number + 1} of {rounds}: {seconds}", file=sys.stderr, flush=True)
    return times


def spread(values: Sequence[float], digits: int = 2) -> str:
    """The median, with the least and the largest."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def ratio(over: Sequence[float], under: Sequence[float]) -> str:
    """The median of the rounds' ratios, with the least and the largest."""
    return spread([a / b for a, b in zip(over, under, strict=True)])
