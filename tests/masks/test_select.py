from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lesion.io.formats import LesionError
from lesion.masks.select import Point, Preserved, n_selected, select_masks
from lesion.models.layout import Flat, Layout
from lesion_testing import scored
from lesion_testing.scored import LAYOUT, Held

few = settings(max_examples=80, deadline=None)
fractions = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5]), st.sampled_from([0.05, 0.15, 0.3])),
    min_size=1,
    max_size=5,
)
scopes = st.sampled_from(["global", "matrix", "row"])
rules = st.sampled_from(["budget", "difference"])


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of seven scores, so that small arrays are read in many."""
    for module in ("lesion.masks.select", "lesion.scores.lowest"):
        monkeypatch.setattr(f"{module}.BLOCK", 7)


@few
@given(st.integers(0, 10_000), fractions, rules, scopes, st.sampled_from([1, 1, 1, 2, 4]))
def test_every_mask_is_what_sorting_gives(
    seed: int, pairs: list[tuple[float, float]], rule: str, scope: str, processes: int
) -> None:
    scores, importance = scored.tied(seed)
    other, _ = scored.tied(seed + 1)
    points = [Point(*pair) for pair in pairs]
    both = {"one": scores, "two": other}
    wanted = {
        name: [scored.brute(held, importance, *point, rule, scope) for point in points]
        for name, held in both.items()
    }
    enough = scope != "global" or rule == "difference"
    short = any(
        len(mask) < round(point.q * LAYOUT.size)
        for masks in wanted.values()
        for mask, point in zip(masks, points, strict=True)
    )
    nothing = any(not round(point.q * LAYOUT.unit(scope)) for point in points)
    if (short and not enough) or nothing:
        with pytest.raises(LesionError, match="masks:"):
            select_masks(both, importance, LAYOUT, points, rule=rule, scope=scope)
        return
    found = select_masks(
        both, importance, LAYOUT, points, rule=rule, scope=scope, processes=processes
    )
    assert {name: [mask.tolist() for mask in masks] for name, masks in found.items()} == wanted


def _large(seed: int, size: int = 200_000) -> tuple[Layout, Held, Held]:
    layout = Layout.of(dict.fromkeys("abcd", (size // 400, 100)))
    dice = np.random.default_rng(seed)
    scores = Held(dice.normal(size=size).round(3), layout)
    return layout, scores, Held(np.abs(dice.normal(size=size)).round(3), layout)


@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize("p", [0.0, 0.001, 0.2, 0.9])
@pytest.mark.parametrize("rule", ["budget", "difference"])
def test_guessed_thresholds_give_the_exact_mask(
    p: float, rule: str, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lesion.masks.select._SAMPLE_SIZE", 2_000)
    monkeypatch.setattr("lesion.masks.select.BLOCK", 5_000)
    layout, scores, importance = _large(0)
    point = Point(p, 0.002)
    found = select_masks(
        {"one": scores}, importance, layout, [point], rule=rule, processes=processes
    )
    assert found["one"][0].tolist() == scored.brute(scores, importance, p, 0.002, rule, "global")


@pytest.mark.parametrize("processes", [1, 4])
@pytest.mark.parametrize("seed", range(3))
def test_a_sample_that_misleads_is_noticed(
    seed: int, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lesion.masks.select._SAMPLE_SIZE", 2_000)
    monkeypatch.setattr("lesion.masks.select.BLOCK", 5_000)
    layout, scores, importance = _large(seed)
    importance.values[: layout.size // 2] *= 100
    every = layout.size // 2_000 * 256
    for first in range(0, layout.size, every):  # only these are sampled
        importance.values[first : first + 256] = seed - 1
    points = [Point(0.2, 0.002)]
    found = select_masks({"one": scores}, importance, layout, points, processes=processes)
    wanted = scored.brute(scores, importance, 0.2, 0.002, "budget", "global")
    assert found["one"][0].tolist() == wanted


def test_a_budget_reaches_past_many_preserved_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lesion.masks.select.BLOCK", 5_000)
    layout = Layout.of({"w": (400, 100)})
    scores = Held(-np.arange(40_000, 0, -1), layout)
    importance = Held(-scores.values, layout)  # the most negative are just the preserved ones
    (mask,) = select_masks({"one": scores}, importance, layout, [Point(0.9, 5 / 40_000)])["one"]
    assert mask.tolist() == list(range(36_000, 36_005))


class _Counted(Held):
    """Counts how often a score is read."""

    reads = 0

    def open(self, name: str) -> Any:
        self.found = super().open(name)
        return self

    def __getitem__(self, part: slice) -> Flat:
        self.reads += self.found[part].size
        return self.found[part]


def test_many_points_cost_one_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lesion.masks.select.BLOCK", 5_000)
    layout, scores, importance = _large(3)
    counted, held = _Counted(scores.values, layout), _Counted(importance.values, layout)
    points = [Point(p, q) for p in (0.0, 0.05, 0.1, 0.2) for q in (1e-4, 1e-3, 2e-3, 5e-3, 1e-2)]
    select_masks({"one": counted}, held, layout, points)
    assert counted.reads == layout.size
    assert held.reads <= 2 * layout.size  # the sample is the whole of so small a layout


def test_too_few_promoting_weights_is_an_error_with_their_number() -> None:
    layout = Layout.of({"w": (1, 6)})
    scores, importance = (
        Held(np.array([-1, -2, -3, 0, 4, 5]), layout),
        Held(np.array([0, 0, 9, 0, 0, 0]), layout),
    )
    with pytest.raises(LesionError, match=r"fraud: only 2 weights .* asks for 3\. Lower"):
        select_masks({"fraud": scores}, importance, layout, [Point(1 / 6, 0.5)])
    (mask,) = select_masks({"x": scores}, importance, layout, [Point(1 / 6, 1)], rule="difference")[
        "x"
    ]
    assert mask.tolist() == [0, 1]
    half = [Point(1 / 6, 0.5)]
    assert select_masks({"x": scores}, importance, layout, half, at_most=True)["x"][0].tolist() == [
        0,
        1,
    ]


def test_a_q_that_selects_nothing_is_an_error() -> None:
    assert n_selected(0.25, 10) == 2
    with pytest.raises(LesionError, match=r"q=0\.0001 of 200 .* is 0\.005\. Raise"):
        n_selected(0.0001, 200)
    scores, importance = scored.tied(0)
    with pytest.raises(LesionError, match=r"no weight of any row; .* Raise `masks\.q`"):
        select_masks({"one": scores}, importance, LAYOUT, [Point(0.1, 0.001)], scope="row")


@few
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.1, 0.5]), scopes)
def test_preserved_is_exactly_the_top_fraction(seed: int, p: float, scope: str) -> None:
    _, importance = scored.tied(seed)
    preserved = Preserved(importance, LAYOUT, p, scope)
    found = np.concatenate([preserved.of(number) for number in range(len(LAYOUT.names))])
    wanted = [
        place
        for places in scored.units(LAYOUT, scope)
        for place in scored.by_value(importance.values, places, round(p * places.size), -1)
    ]
    assert np.flatnonzero(found).tolist() == sorted(wanted)


def test_masks_are_sorted_int64() -> None:
    scores, importance = scored.tied(1)
    for scope in ("global", "matrix", "row"):
        (mask,) = select_masks({"one": scores}, importance, LAYOUT, [Point(0.1, 0.2)], scope=scope)[
            "one"
        ]
        assert mask.dtype == np.int64
        assert (np.diff(mask) > 0).all()
