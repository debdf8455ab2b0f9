"""The comparison of masks that cost the same on benign text."""

from typing import Any

import polars as pl
import pytest

from lesion.responses import EQUAL_COST
from lesion.study.job import Behaviours
from lesion.tables.claims.specific import beaten_by
from lesion.tables.equal_cost import EQUAL_COSTS, equal_cost_table
from lesion.tables.intervals import Bootstrap

BOOT = Bootstrap(300, 0.95, 1)
ADDED = {
    "shared": {"harm": 0.5, "matched": 0.1, "benign": 0.05, "refusal": 0.0},
    "plain": {"harm": 0.2, "matched": 0.15, "benign": 0.05, "refusal": 0.1},
}
BEHAVIOURS = {"fraud": "harm", "fraud-matched": "matched", "sums": "benign", "no": "refusal"}
OF_STUDY = Behaviours(
    harm=["fraud"], matched={"fraud-matched": "fraud"}, benign=["sums"], refusal=["no"]
)


def _rows(limit: float = 0.05) -> tuple[pl.DataFrame, ...]:
    before, after, matched = [], [], []
    for number in range(10):
        for behaviour, role in BEHAVIOURS.items():
            place = {"behaviour": behaviour, "role": role, "prompt": f"{behaviour} {number}"}
            before.append({**place, "nll": 0.5 + 0.01 * number})
            for mask, added in ADDED.items():
                about: dict[str, Any] = {"mask": mask, "limit": limit, "cost": 0.049}
                about |= {"reached": True, "weights": 9}
                noise = 0.001 * (number % 3)
                after.append({**about, **place, "nll": 0.5 + 0.01 * number + added[role] + noise})
        pair = {"behaviour": "fraud-matched", "prompt": f"fraud-matched {number}"}
        matched.append({**pair, "of": "fraud", "counterpart": f"fraud {number}"})
    return (
        pl.DataFrame(after, schema=EQUAL_COST).drop("key"),
        pl.DataFrame(before),
        pl.DataFrame(matched),
    )


def _values(table: pl.DataFrame, mask: str) -> dict[str, float]:
    return dict(table.filter(mask=mask).select("metric", "value").iter_rows())


def test_every_mask_has_what_it_adds_and_its_specificity() -> None:
    table = equal_cost_table(*_rows(), BOOT)
    assert table.columns == list(EQUAL_COSTS)
    for mask, added in ADDED.items():
        values = _values(table, mask)
        for role, value in added.items():
            assert values[f"{role}_added"] == pytest.approx(value, abs=2e-3)
        assert values["counterpart_added"] == pytest.approx(added["harm"], abs=2e-3)
        share = added["matched"] / added["harm"]
        assert values["specificity"] == pytest.approx(1 - share, abs=0.01)
    assert set(table["n"]) == {10}


def test_the_others_are_compared_with_shared_prompt_by_prompt() -> None:
    table = equal_cost_table(*_rows(), BOOT)
    (row,) = table.filter(metric="harm_added_less_than_shared").to_dicts()
    assert row["mask"] == "plain"
    # Both cost 0.049, and are compared as if they cost the limit of 0.05.
    assert row["value"] == pytest.approx(0.3 * 0.05 / 0.049)
    # Noise that both masks share is no noise of the difference.
    assert row["high"] - row["low"] < 1e-9


def test_a_mask_that_costs_more_does_not_seem_to_do_more() -> None:
    nll, *rest = _rows()
    # Masks of one rule: what they add to harm is ten times what they cost.
    of_plain = pl.col("mask") == "plain"
    cost = pl.when(of_plain).then(0.048).otherwise(0.052)
    added = pl.when(of_plain).then(0.48 - 0.2).otherwise(0.52 - 0.5)
    harm = pl.when(pl.col("role") == "harm").then(added).otherwise(0.0)
    table = equal_cost_table(nll.with_columns(cost=cost, nll=pl.col("nll") + harm), *rest, BOOT)
    (row,) = table.filter(metric="harm_added_less_than_shared").to_dicts()
    assert row["value"] == pytest.approx(0, abs=1e-3)
    own = table.filter(metric="harm_added").select("mask", "value").rows()
    assert dict(own)["shared"] - dict(own)["plain"] == pytest.approx(0.04)


def test_masks_are_only_compared_at_the_same_limit() -> None:
    first, other = _rows(0.05), _rows(0.1)
    nll = pl.concat([first[0], other[0].filter(mask="plain")])
    table = equal_cost_table(nll, first[1], first[2], BOOT)
    compared = table.filter(metric="harm_added_less_than_shared")
    assert compared["limit"].to_list() == [0.05]
    assert table["limit"].is_sorted()


def test_without_masks_there_is_no_row() -> None:
    nll, before, matched = _rows()
    assert equal_cost_table(nll.clear(), before, matched, BOOT).is_empty()


def test_without_matched_requests_there_is_no_specificity() -> None:
    nll, before, matched = _rows()
    table = equal_cost_table(nll, before, matched.clear(), BOOT)
    assert "specificity" not in set(table["metric"])
    assert "harm_added" in set(table["metric"])


def _renamed(name: str, less: float) -> pl.DataFrame:
    """A comparison in which a mask of this name adds so much less to harm than `shared`."""
    nll, *rest = _rows()
    noise = 0.01 * (pl.int_range(pl.len()) % 3)
    more = pl.when(mask="plain", role="harm").then(0.3 - less + noise).otherwise(0)
    nll = nll.with_columns(nll=pl.col("nll") + more)
    return equal_cost_table(nll.with_columns(pl.col("mask").replace("plain", name)), *rest, BOOT)


def test_few_prompts_of_one_harm_type_beat_nothing() -> None:
    table = _renamed("matched", 0.1)
    assert " matched " in beaten_by(table.with_columns(fewest=pl.lit(3)), OF_STUDY, "shared")
    assert not beaten_by(table.with_columns(fewest=pl.lit(4)), OF_STUDY, "shared")


@pytest.mark.parametrize("name", ["matched", "refusals", "no", "sums", "benign-signed"])
def test_masks_of_other_answers_must_be_beaten(name: str) -> None:
    assert not beaten_by(_renamed(name, 0.1), OF_STUDY, "shared")
    assert f" {name} " in beaten_by(_renamed(name, 0.0), OF_STUDY, "shared")
    assert f" {name} " in beaten_by(_renamed(name, -0.1), OF_STUDY, "shared")


@pytest.mark.parametrize("name", ["plain", "second-q", "fraud"])
def test_masks_of_harm_and_of_other_rules_show_nothing(name: str) -> None:
    assert "with no mask of other answers" in beaten_by(_renamed(name, 0.1), OF_STUDY, "shared")
    nothing = _renamed(name, 0.1).clear()
    assert not beaten_by(nothing, OF_STUDY, "shared")


def test_a_mask_that_cannot_cost_as_much_is_beaten_only_with_more_weights() -> None:
    table = _renamed("matched", 0.1)
    short = pl.when(mask="matched").then(False).otherwise("reached").alias("reached")
    assert not beaten_by(table.with_columns(short), OF_STUDY, "shared")
    fewer = pl.when(mask="matched").then(8).otherwise("weights").alias("weights")
    assert " matched " in beaten_by(table.with_columns(short, fewer), OF_STUDY, "shared")
    assert not beaten_by(table.with_columns(fewer), OF_STUDY, "shared")
    unreached = table.with_columns(reached=pl.lit(value=False))
    assert "`shared` can't be compared" in beaten_by(unreached, OF_STUDY, "shared")


@pytest.mark.parametrize(
    ("bounds", "n"), [((None, None), 10), ((float("nan"),) * 2, 10), ((0.05, 0.2), 3)]
)
def test_a_comparison_that_says_nothing_beats_nothing(
    bounds: tuple[float | None, float | None], n: int
) -> None:
    own = pl.col("metric") == "harm_added_less_than_shared"
    table = _renamed("matched", 0.1).with_columns(
        pl.when(own).then(pl.lit(value, pl.Float64)).otherwise(name).alias(name)
        for name, value in zip(("low", "high"), bounds, strict=True)
    )
    table = table.with_columns(n=pl.when(own).then(n).otherwise("n"))
    assert " matched " in beaten_by(table, OF_STUDY, "shared")


def test_the_comparison_is_with_the_mask_that_the_claims_are_about() -> None:
    table = _renamed("matched", 0.1)
    assert "not with `fraud`" in beaten_by(table, OF_STUDY, "fraud")
