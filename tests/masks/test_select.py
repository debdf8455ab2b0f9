from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lesion.formats import LesionError
from lesion.masks.select import (
    Preserved,
    budget,
    difference,
    lowest,
    random_like,
    size_of,
    vote,
)

# Few values and many places: most of them are ties.
tied = st.lists(st.integers(-3, 2), min_size=1, max_size=60)
few = settings(max_examples=60, deadline=None)


def _array(values: list[int]) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def _by_value(values: NDArray[np.float32], count: int, sign: int = 1) -> list[int]:
    """The first `count` places by value, then place."""
    return sorted(range(values.size), key=lambda place: (sign * values[place], place))[:count]


@few
@given(tied, st.integers(0, 80))
def test_lowest_breaks_ties_by_place(values: list[int], count: int) -> None:
    scores = _array(values)
    assert lowest(scores, count).tolist() == _by_value(scores, count)


@pytest.mark.parametrize("count", [1, 50, 4_000, 19_999, 20_000, 30_000])
def test_lowest_of_many(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # A sample of every 40th score, so that the guess of the threshold is really used.
    monkeypatch.setattr("lesion.masks.select._SAMPLE", 500)
    scores = np.random.default_rng(0).normal(size=20_000).round(1).astype(np.float32)
    np.testing.assert_array_equal(lowest(scores, count), np.argsort(scores, kind="stable")[:count])


def test_lowest_survives_a_sample_that_misleads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lesion.masks.select._SAMPLE", 100)
    scores = np.ones(10_000, np.float32)
    scores[::100] = -5  # only these are sampled
    assert lowest(scores, 150).tolist() == _by_value(scores, 150)


@few
@given(tied, st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9]), min_size=1, max_size=3))
def test_preserved_holds_exactly_the_top_fraction(
    values: list[int], fractions: list[float]
) -> None:
    importance = _array(values)
    preserved = Preserved(importance, fractions)
    everywhere = np.arange(importance.size)
    for p in fractions:
        wanted = sorted(_by_value(importance, round(p * importance.size), sign=-1))
        assert everywhere[preserved.holds(everywhere, p)].tolist() == wanted
        assert preserved.holds(everywhere[::-1], p).sum() == len(wanted)


def _case(seed: int, size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    generator = np.random.default_rng(seed)
    scores, importance = generator.integers(-6, 3, (2, size)).astype(np.float32)
    return scores, importance


@few
@given(st.integers(0, 10_000), st.integers(20, 400), st.sampled_from([0.0, 0.1, 0.5]))
def test_budget_and_difference_by_brute_force(seed: int, size: int, p: float) -> None:
    scores, importance = _case(seed, size)
    preserved = Preserved(importance, [p])
    held = set(_by_value(importance, round(p * size), sign=-1))
    count = max(1, size // 12)
    order = [place for place in _by_value(scores, size) if scores[place] < 0]
    free = [place for place in order if place not in held]
    wanted = sorted(place for place in order[:count] if place not in held)
    assert difference(scores, preserved, p, count).tolist() == wanted
    if len(free) < count:
        with pytest.raises(LesionError, match=rf"only {len(free)} weights"):
            budget(scores, preserved, p, count)
    else:
        assert budget(scores, preserved, p, count).tolist() == sorted(free[:count])


def test_budget_reaches_past_many_preserved_weights() -> None:
    scores = -np.arange(40_000, 0, -1, dtype=np.float32)
    preserved = Preserved(-scores, [0.9])  # the most negative are just the preserved ones
    assert budget(scores, preserved, 0.9, 5).tolist() == list(range(36_000, 36_005))
    assert difference(scores, preserved, 0.9, 5).size == 0


def test_too_few_promoting_weights_is_an_error_with_their_number() -> None:
    scores = _array([-1, -2, -3, 0, 4, 5])
    preserved = Preserved(_array([0, 0, 9, 0, 0, 0]), [1 / 6])
    with pytest.raises(LesionError, match=r"only 2 weights .* q asks for 3\. Lower"):
        budget(scores, preserved, 1 / 6, 3)
    assert difference(scores, preserved, 1 / 6, 6).tolist() == [0, 1]


def test_a_q_that_selects_nothing_is_an_error_with_the_least_one() -> None:
    assert size_of(0.25, 10) == 2
    with pytest.raises(LesionError, match=r"q=0\.0001 of 200 .* is 0\.005\. Raise"):
        size_of(0.0001, 200)


def test_vote_counts_masks() -> None:
    masks = [np.array(one, np.int64) for one in ([1, 2, 3], [2, 3, 9], [3, 9], [])]
    assert vote(masks, 1).tolist() == [1, 2, 3, 9]
    assert vote(masks, 2).tolist() == [2, 3, 9]
    assert vote(masks[:3], 3).tolist() == [3]
    assert vote(masks, 4).tolist() == []


def test_random_like_matches_every_matrix() -> None:
    offsets = np.array([0, 100, 110, 400], np.int64)
    mask = np.array([0, 5, 99, *range(100, 110), 399], np.int64)
    made = random_like(mask, offsets, 0)
    assert np.histogram(made, offsets)[0].tolist() == [3, 10, 1]
    assert made.tolist() == sorted(set(made.tolist()))
    assert made.tolist() == random_like(mask, offsets, 0).tolist()
    assert made.tolist() != random_like(mask, offsets, 1).tolist()


@pytest.mark.parametrize("rule", [budget, difference])
def test_masks_are_sorted_int64(rule: Callable[..., Any]) -> None:
    scores, importance = _case(1, 300)
    mask = rule(scores, Preserved(importance, [0.1]), 0.1, 20)
    assert mask.dtype == np.int64
    assert (np.diff(mask) > 0).all()
