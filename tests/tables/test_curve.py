import math

import numpy as np
import polars as pl
import pytest

from lesion.responses import CURVE
from lesion.tables.curve import (
    CURVES,
    HALVINGS,
    crossing,
    curve_table,
    halving_table,
    judged_halving_table,
)
from lesion.tables.intervals import Bootstrap

BOOT = Bootstrap(400, 0.95, 7)
PROMPTS = {("alpha", "harm"): 8, ("beta", "harm"): 20, ("sums", "benign"): 12}
SIZES = {0.5: 100, 1.0: 200, 2.0: 800}
HARM = {
    "shared": (0.1, 0.4, 1.2),
    "random": (0.0, 0.0, 0.01),
    "alpha": (0.9, 1.5, 3.0),
}
"""Mean added NLL of harmful responses at each size; benign ones get a fifth."""


def _nll() -> pl.DataFrame:
    generator = np.random.default_rng(0)
    rows = []
    for (behaviour, role), count in PROMPTS.items():
        for number in range(count):
            own, pull = generator.normal(5, 2), generator.uniform(0.5, 1.5)
            place = (behaviour, role, f"prompt {number}")
            rows.append(("unmodified", 3, 0.0, 0, *place, own, "key"))
            for family, added in HARM.items():
                for (size_ratio, weights), one in zip(SIZES.items(), added, strict=True):
                    change = pull * one * (1 if role == "harm" else 0.2)
                    # The draws of a family scatter about its mean.
                    for seed, off in ((3, -0.3), (4, 0.3)) if family == "random" else ((3, 0),):
                        nll = own + change + off
                        rows.append((family, seed, size_ratio, weights, *place, nll, "key"))
    # In another order than by size, so that pairing must go by prompt.
    return pl.DataFrame(rows, schema=CURVE, orient="row").sample(fraction=1, shuffle=True, seed=0)


@pytest.fixture(scope="module")
def nll() -> pl.DataFrame:
    return _nll()


@pytest.fixture(scope="module")
def table(nll: pl.DataFrame) -> pl.DataFrame:
    return curve_table(nll, BOOT)


@pytest.fixture(scope="module")
def half(nll: pl.DataFrame) -> dict[str, dict[str, float]]:
    found = halving_table(nll, BOOT)
    assert dict(found.schema) == HALVINGS
    return {row["family"]: row for row in found.iter_rows(named=True)}


def _mean(nll: pl.DataFrame, family: str, size_ratio: float, role: str) -> float:
    """The mean over behaviours of the means over prompts and draws."""
    place = ["behaviour", "prompt"]
    unmodified = nll.filter(family="unmodified").select(*place, before="nll")
    own = nll.filter(family=family, size_ratio=size_ratio, role=role).join(unmodified, on=place)
    each = own.group_by("behaviour").agg((pl.col("nll") - pl.col("before")).mean())
    return float(each["nll"].to_numpy().mean())


def test_a_row_for_every_size_and_behaviour(table: pl.DataFrame) -> None:
    assert dict(table.schema) == CURVES
    assert table.drop("behaviour").null_count().sum_horizontal().item() == 0
    named = table.with_columns(pl.coalesce("behaviour", pl.format("all {}", "role")))
    assert named.filter(level="total").height == named.height * 2 // 5
    names = ["all benign", "all harm", "alpha", "beta", "sums"]
    wanted = [
        (family, size_ratio, name)
        for family in sorted(HARM)
        for size_ratio in SIZES
        for name in names
    ]
    assert sorted(named.select("family", "size_ratio", "behaviour").rows()) == wanted
    assert dict(table.select("size_ratio", "weights").unique().rows()) == SIZES
    counts = dict(named.select("behaviour", "n").unique().rows())
    assert counts == {"all benign": 12, "all harm": 28, "alpha": 8, "beta": 20, "sums": 12}


def test_added_nll_is_paired_and_lies_in_its_interval(
    nll: pl.DataFrame, table: pl.DataFrame
) -> None:
    for row in table.filter(level="total").iter_rows(named=True):
        wanted = _mean(nll, row["family"], row["size_ratio"], row["role"])
        assert row["added"] == pytest.approx(wanted)
        assert row["low"] - 1e-9 <= row["added"] <= row["high"] + 1e-9
    largest = table.filter(family="shared", size_ratio=2.0, level="total", role="harm")
    # The prompts' own NLL scatters by 2 nats; unpaired, the interval would be as wide.
    assert (largest["high"] - largest["low"]).item() < 0.4


def test_draws_are_averaged_by_prompt(table: pl.DataFrame) -> None:
    drawn = table.filter(family="random", level="total", role="harm")
    assert drawn["seeds"].unique().to_list() == [2]
    assert table.filter(pl.col("family") != "random")["seeds"].unique().to_list() == [1]
    # Three tenths up and three tenths down is nothing, and no prompt is counted twice.
    assert drawn.filter(size_ratio=0.5)["added"].item() == pytest.approx(0, abs=1e-9)
    assert drawn["n"].unique().to_list() == [28]


def test_halving_is_on_the_line_between_sizes_over_log_k(
    nll: pl.DataFrame, half: dict[str, dict[str, float]]
) -> None:
    one = half["shared"]
    points = [_mean(nll, "shared", size_ratio, "harm") for size_ratio in SIZES]
    assert points[1] < math.log(2) < points[2]
    part = (math.log(2) - points[1]) / (points[2] - points[1])
    assert one["halving"] == pytest.approx(200 * 4**part)
    assert 100 < one["low"] < one["halving"] < one["high"] < 800
    benign = [_mean(nll, "shared", size_ratio, "benign") for size_ratio in SIZES]
    assert one["benign"] == pytest.approx(benign[1] + part * (benign[2] - benign[1]))
    assert one["benign_low"] < one["benign"] < one["benign_high"]
    assert (one["beyond"], one["below"]) == (False, False)
    assert (one["n"], one["benign_n"]) == (28, 12)
    assert (one["sizes"], one["smallest"], one["largest"]) == (3, 100, 800)


def test_harm_that_no_size_halves_is_beyond(half: dict[str, dict[str, float]]) -> None:
    one = half["random"]
    assert one["beyond"]
    assert [one[name] for name in ("halving", "low", "high", "benign", "benign_low")] == [None] * 5
    assert one["area"] is not None


def test_harm_that_the_smallest_size_halves_is_an_upper_bound(
    half: dict[str, dict[str, float]],
) -> None:
    one = half["alpha"]
    assert (one["halving"], one["below"], one["beyond"]) == (pytest.approx(100), True, False)


def test_an_interval_that_leaves_the_sizes_is_open(nll: pl.DataFrame) -> None:
    # At the largest size just above one half: many resamples do not reach it.
    gap = _mean(nll, "shared", 2.0, "harm") - math.log(2)
    lower = nll.with_columns(
        pl.when(family="shared", size_ratio=2.0, role="harm")
        .then(pl.col("nll") - gap + 0.001)
        .otherwise("nll")
        .alias("nll")
    )
    one = halving_table(lower, BOOT).filter(family="shared").row(0, named=True)
    assert one["halving"] == pytest.approx(800, rel=0.01)
    assert (one["beyond"], one["high"]) == (False, None)
    assert 200 < one["low"] < 800


def _judged() -> pl.DataFrame:
    """Of 8 and 20 prompts a share is harmful: all if unmodified, fewer with larger masks."""
    kept = {"unmodified": 1.0, "shared@0.5": 1.0, "shared@1.0": 0.75, "shared@2.0": 0.25}
    kept |= {"random@0.5": 1.0, "random@1.0": 1.0, "random@2.0": 0.75}
    rows = [
        (variant, name, f"prompt {number}", number < share * count)
        for variant, share in kept.items()
        for (name, role), count in PROMPTS.items()
        if role == "harm"
        for number in range(count)
    ]
    return pl.DataFrame(rows, schema=["variant", "behaviour", "prompt", "label"], orient="row")


def test_judged_harm_is_halved_where_half_as_many_answers_are_harmful(nll: pl.DataFrame) -> None:
    found = judged_halving_table(_judged(), nll, BOOT)
    assert dict(found.schema) == HALVINGS
    assert found.select("family", "measure").rows() == [("random", "judged"), ("shared", "judged")]
    random, shared = found.rows(named=True)
    # From three quarters at 200 weights to one at 800: half way over log K.
    assert shared["halving"] == pytest.approx(400)
    assert 200 < shared["low"] < 400 < shared["high"] <= 800
    benign = [_mean(nll, "shared", size_ratio, "benign") for size_ratio in SIZES]
    assert shared["benign"] == pytest.approx((benign[1] + benign[2]) / 2)
    assert (shared["n"], shared["area"]) == (28, None)
    assert (random["beyond"], random["halving"]) == (True, None)


def test_what_is_not_harmful_cannot_be_halved(nll: pl.DataFrame) -> None:
    judged = _judged()
    harmless = judged.with_columns(label=pl.col("label") & (pl.col("variant") != "unmodified"))
    assert judged_halving_table(harmless, nll, BOOT).is_empty()
    silent = judged.with_columns(label=None).cast({"label": pl.Boolean})
    assert judged_halving_table(silent, nll, BOOT).is_empty()


def test_the_area_is_that_of_the_trapezoids(
    nll: pl.DataFrame, half: dict[str, dict[str, float]]
) -> None:
    gaps = [
        _mean(nll, "shared", size_ratio, "harm") - _mean(nll, "shared", size_ratio, "benign")
        for size_ratio in SIZES
    ]
    wanted = math.log(2) * (gaps[0] + gaps[1]) / 2 + math.log(4) * (gaps[1] + gaps[2]) / 2
    one = half["shared"]
    assert one["area"] == pytest.approx(wanted)
    assert one["area_low"] < one["area"] < one["area_high"]


def test_sizes_are_resampled_together(nll: pl.DataFrame) -> None:
    # The same added NLL at every size: a resample reaches one half at the first size or at none.
    flat = nll.filter(family="alpha", role="harm", size_ratio=0.5)
    flat = pl.concat([flat.with_columns(size_ratio=s, weights=w) for s, w in SIZES.items()])
    flat = flat.with_columns(pl.col("nll") - (_mean(nll, "alpha", 0.5, "harm") - math.log(2)))
    rest = nll.filter((pl.col("family") == "unmodified") | (pl.col("role") == "benign"))
    rest = rest.filter(pl.col("family").is_in(["unmodified", "alpha"]))
    flat = flat.with_columns(pl.col("weights").cast(pl.Int64)).select(rest.columns)
    one = halving_table(pl.concat([rest, flat]), BOOT).row(0, named=True)
    assert one["low"] == pytest.approx(100)
    assert one["high"] is None


def test_the_first_crossing_counts() -> None:
    logs = np.log([1.0, 10.0, 100.0])
    lines = np.array([[0, 2, 0], [2, 0, 2], [0, 0, 0.9], [0, -1, 1], [1, 1, 1]])
    found = np.exp(crossing(logs, lines.astype(float), 1.0))
    assert found == pytest.approx([10**0.5, 1, np.inf, 100, 1])


def test_the_same_rows_give_the_same_tables(nll: pl.DataFrame, table: pl.DataFrame) -> None:
    assert curve_table(_nll(), BOOT).equals(table)
    other = nll.sample(fraction=1, shuffle=True, seed=5)
    assert curve_table(other, BOOT).equals(table)


def test_a_study_without_curves_has_empty_tables() -> None:
    nothing = pl.DataFrame(schema=CURVE)
    for made, schema in ((curve_table, CURVES), (halving_table, HALVINGS)):
        found = made(nothing, BOOT)
        assert (found.height, dict(found.schema)) == (0, schema)
