"""Masks that are grown until they cost the same on benign text."""

import math
from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lesion.io.formats import read_parquet, write_json
from lesion.masks.algebra import vote
from lesion.masks.choose import Chosen
from lesion.masks.controls import CONTROLS
from lesion.masks.equal_cost import (
    EQUAL_COST_MASKS,
    NEAR,
    equal_cost_masks,
    grow,
    growing_masks,
)
from lesion.masks.jobs import EqualCostMasksJob, Selection
from lesion.masks.rankings import Ranking, rankings, vote_ranking
from lesion.masks.select import Point, select_masks
from lesion.masks.sweep import ScoreSet
from lesion.masks.validate import Validation
from lesion.models.layout import FlatIndices
from lesion.study.job import Behaviours, Device
from lesion_testing import scored_study
from lesion_testing.scored import LAYOUT, tied, units
from lesion_testing.scored_study import Tiny

P, Q, LARGEST = 0.1, 0.05, 0.2
BEHAVIOURS = Behaviours(
    harm=["alpha", "beta", "gamma"],
    benign=["sums"],
    refusal=["denials"],
    matched={"letters": "alpha"},
)
CUT = Selection(rule="budget", scope="global", pool="max", at_least=2, benign_contrast=0.0)
JOB = EqualCostMasksJob(
    behaviours=BEHAVIOURS,
    selection=CUT,
    masks=["shared", "plain", "matched", "refusals", "denials", *CONTROLS],
    limits=[0.05],
    largest=LARGEST,
    batch_tokens=200,
    device=Device(dtype="float32"),
    seed=3,
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return scored_study.made(tmp_path_factory.mktemp("study"))


@pytest.mark.parametrize("scope", ["global", "matrix", "row"])
@pytest.mark.parametrize("rule", ["budget", "difference"])
def test_a_ranking_holds_the_mask_of_every_size(scope: str, rule: str) -> None:
    snip, importance = tied(4)
    points = [Point(0.2, q) for q in (0.06, 0.1, 0.2, 0.4)]
    masks = select_masks({"a": snip}, importance, LAYOUT, points, rule=rule, scope=scope)["a"]
    if rule == "difference":
        # Preserved weights count for the places of the others.
        every = [Point(0, 0.4)]
        (whole,) = select_masks({"a": snip}, importance, LAYOUT, every, rule=rule, scope=scope)["a"]
        ranking = rankings({"a": whole}, {"a": snip}, LAYOUT, scope)["a"].within(masks[-1])
    else:
        ranking = rankings({"a": masks[-1]}, {"a": snip}, LAYOUT, scope)["a"]
    assert sorted(ranking.indices.tolist()) == masks[-1].tolist()
    assert (np.diff(ranking.place) >= 0).all()
    for point, mask in zip(points, masks, strict=True):
        for places in units(LAYOUT, scope):
            own = np.isin(ranking.indices, places)
            # Its number of weights is rounded.
            taken = own & (ranking.place <= point.q + 0.5 / len(places))
            part = sorted(set(mask.tolist()) & set(places.tolist()))
            assert sorted(ranking.indices[taken].tolist()) == part


def test_the_first_of_a_vote_are_the_vote_of_smaller_masks() -> None:
    dice = np.random.default_rng(0)
    orders = [dice.permutation(60)[:40] for _ in range(4)]
    places = np.arange(1, 41) / 60
    ranked = [Ranking(order, places) for order in orders]
    for least in (1, 2, 4):
        together = vote_ranking(ranked, least)
        for size in (3, 11, 25, 40):
            expected = vote([np.sort(order[:size]) for order in orders], least)
            count = int((together.place <= size / 60 + 1e-12).sum())
            assert together.first(count).tolist() == expected.tolist()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.floats(1e-6, 1e-2),
    st.floats(0.4, 2.5),
    st.floats(0.01, 0.3),
    st.integers(1, 2_000_000),
    st.integers(1, 2_000_000),
)
def test_growth_finds_the_limit_if_it_can(
    scale: float, power: float, limit: float, largest: int, start: int
) -> None:
    def cost(weights: int) -> float:
        return scale * weights**power

    found = grow(cost, limit, largest, start)
    assert 1 <= found <= largest
    exact = (limit / scale) ** (1 / power)
    if exact >= largest:
        assert found == largest or abs(cost(found) - limit) <= NEAR * limit
    elif exact > 60:
        assert abs(cost(found) - limit) <= NEAR * limit


@pytest.mark.parametrize("start", [1, 2, 3])
def test_growth_leaves_a_size_of_few_weights(start: int) -> None:
    def cost(weights: int) -> float:
        return 0.04 * math.sqrt(weights / start)

    assert abs(cost(grow(cost, 0.05, 5000, start)) - 0.05) < abs(cost(start) - 0.05)


def test_growth_survives_a_cost_that_is_not_monotone_or_not_a_number() -> None:
    assert grow(lambda weights: 0.0, 0.05, 500) == 500
    assert grow(lambda weights: 1e-9 * (1 + 1e-12 * weights), 0.05, 10**9) == 10**9
    assert grow(lambda weights: 0.05 if weights < 9 else math.inf, 0.05, 500) < 9
    assert grow(lambda weights: float("inf") if weights > 40 else 0.01, 0.05, 500) <= 40
    assert 1 <= grow(lambda weights: 0.05 * (-1) ** weights, 0.05, 10**6) <= 10**6


def _expected(study: Tiny, cut: Selection, name: str, weights: int) -> FlatIndices | None:
    """The mask of a rule by selecting smaller and smaller masks, where sizes can be had exactly."""
    contrast, names, of_benign = {
        "shared": (1.0, BEHAVIOURS.harm, None),
        "plain": (0.0, BEHAVIOURS.harm, []),
        "matched": (0.0, ["letters"], ["letters"]),
        "refusals": (0.0, ["denials"], ["denials"]),
        "denials": (1.0, ["denials"], ["denials"]),
    }[name]
    least = min(cut.at_least, len(names))

    def voted(count: int) -> FlatIndices:
        points = [Point(P, count / study.layout.size)]
        opened = ScoreSet.open(
            study.model, study.score_folders, names, BEHAVIOURS, cut, points, contrast, of_benign
        )
        masks = opened.select(points, cut)
        return vote([masks[behaviour][0] for behaviour in names], least)

    # The masks of more weights contain those of fewer.
    counts = range(1, round(LARGEST * study.layout.size) + 1)
    place = bisect_left(counts, weights, key=lambda count: voted(count).size)
    mask = voted(counts[place]) if place < len(counts) else None
    return mask if mask is not None and mask.size == weights else None


@pytest.fixture(scope="module", params=[("budget", 0.0), ("budget", 0.5), ("difference", 0.5)])
def cut(request: pytest.FixtureRequest) -> Selection:
    rule, benign = request.param
    return CUT.model_copy(update={"rule": rule, "benign_contrast": benign})


@pytest.fixture(scope="module")
def takes(study: Tiny, cut: Selection) -> dict[str, tuple[Callable[[int], FlatIndices], int]]:
    job = JOB.model_copy(update={"selection": cut})
    growing = growing_masks(study.model, study.score_folders, Chosen(P, Q, 1.0, 0.1, 0), job)
    return {name: (mask.take, mask.largest) for name, mask in growing.items()}


@pytest.mark.parametrize("name", ["shared", "plain", "matched", "refusals", "denials"])
def test_every_rule_takes_the_weights_that_it_selects(
    study: Tiny,
    cut: Selection,
    takes: dict[str, tuple[Callable[[int], FlatIndices], int]],
    name: str,
) -> None:
    take, largest = takes[name]
    sizes = [size for size in (1, 7, 20, 41, 60) if size <= largest]
    compared = 0
    for size in sizes:
        assert take(size).size == size
        expected = _expected(study, cut, name, size)
        if expected is not None:
            compared += 1
            assert take(size).tolist() == expected.tolist()
    assert compared >= 2


def test_benign_scores_change_the_masks_of_all_answers_but_plain(study: Tiny) -> None:
    def masks(benign: float, contrast: float) -> dict[str, list[int]]:
        job = JOB.model_copy(
            update={"selection": CUT.model_copy(update={"benign_contrast": benign})}
        )
        growing = growing_masks(
            study.model, study.score_folders, Chosen(P, Q, contrast, 0.1, 0), job
        )
        names = ("shared", "plain", "matched", "refusals", "denials")
        return {name: growing[name].take(20).tolist() for name in names}

    without, with_benign = masks(0.0, 1.0), masks(0.5, 1.0)
    assert {name for name in without if with_benign[name] == without[name]} == {"plain"}
    # Without a contrast, nothing is subtracted.
    assert masks(0.5, 0.0) == masks(0.0, 0.0)


def test_controls_have_as_many_weights_in_every_matrix(
    study: Tiny, takes: dict[str, tuple[Callable[[int], FlatIndices], int]]
) -> None:
    shared = [part.size for part in study.layout.split(takes["shared"][0](30))]
    for name in CONTROLS:
        assert [part.size for part in study.layout.split(takes[name][0](30))] == shared


def test_every_mask_costs_what_the_table_says(study: Tiny, tmp_path: Path) -> None:
    write_json(Chosen(P, 0.02, 1.0, 1.0, 0)._asdict(), tmp_path / "chosen.json")
    pairs = {name: study.pairs / f"{name}.parquet" for name in BEHAVIOURS.benign}
    job = JOB.model_copy(update={"masks": ["matched", "plain", "shared"], "limits": [0.002, 0.01]})
    out = tmp_path / "equal.parquet"
    equal_cost_masks(study.model, study.score_folders, pairs, tmp_path / "chosen.json", out, job)
    table = read_parquet(out, EQUAL_COST_MASKS)
    assert table.select("mask", "limit").rows() == [
        (name, limit) for name in job.masks for limit in job.limits
    ]
    validation = Validation(study.model, pairs, BEHAVIOURS, ["benign"], job.device, 200)
    before = validation.means({})["benign"]
    assert before is not None
    for row in table.iter_rows(named=True):
        mask = np.array(row["flat_indices"], np.int64)
        assert row["weights"] == mask.size
        after = validation.means(study.layout.by_name(mask))["benign"]
        assert after is not None
        assert row["cost"] == pytest.approx(after - before, abs=1e-6)
        assert row["reached"] == (abs(row["cost"] - row["limit"]) <= NEAR * row["limit"])
