import numpy as np
import polars as pl
import pytest

from lesion.tables.intervals import Bootstrap
from lesion.tables.measure import MEASUREMENTS, measurements

BOOT = Bootstrap(500, 0.95, 7)
SIZES = {("alpha", "harm"): 6, ("beta", "harm"): 24, ("sums", "benign"): 10}
ADDED = {"intact": 0.0, "shared": 2.0}


def _nll() -> pl.DataFrame:
    generator = np.random.default_rng(0)
    rows = []
    for (behaviour, role), count in SIZES.items():
        for number in range(count):
            own = generator.normal(5, 2)
            for variant, added in ADDED.items():
                change = added * (1 if role == "harm" else 0.25) + generator.normal(0, 0.05)
                nll = own + (change if variant != "intact" else 0)
                rows.append((variant, behaviour, role, f"prompt {number}", nll))
    # In another order than by variant, so that pairing must go by prompt.
    columns = ["variant", "behaviour", "role", "prompt", "nll"]
    return pl.DataFrame(rows, schema=columns, orient="row").sample(fraction=1, shuffle=True, seed=0)


def _judged() -> pl.DataFrame:
    rows = []
    for (behaviour, role), count in SIZES.items():
        for number in range(count):
            refused = behaviour == "beta" and number < 18
            score = 0.75 if behaviour == "alpha" else 0.25
            rows.append(
                (
                    *("intact", behaviour, role, "direct", str(number)),
                    *(refused, score > 0.5, score, score / 2, 1 - score),
                )
            )
    columns = (
        *("variant", "behaviour", "role", "attack", "prompt"),
        *("refused", "harmful", "harmfulness", "relevance", "coherence"),
    )
    return pl.DataFrame(rows, schema=list(columns), orient="row")


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    return measurements("toy", _nll(), _judged(), BOOT)


def _value(table: pl.DataFrame, behaviour: str, metric: str, variant: str = "intact") -> float:
    return float(_one(table, behaviour, metric, variant)["value"])


def _one(
    table: pl.DataFrame, behaviour: str, metric: str, variant: str = "intact"
) -> dict[str, float]:
    found = table.filter(behaviour=behaviour, metric=metric, variant=variant)
    assert found.height == 1
    return found.row(0, named=True)


def test_every_row_says_all_and_lies_in_its_interval(table: pl.DataFrame) -> None:
    assert dict(table.schema) == MEASUREMENTS
    assert table.null_count().sum_horizontal().item() == 0
    assert table["seed"].unique().to_list() == [7]
    inside = pl.col("value").is_between(pl.col("low") - 1e-9, pl.col("high") + 1e-9)
    assert table.filter(~inside).is_empty()


@pytest.mark.parametrize(
    "metric",
    [
        *("nll", "nll_added", "refusal_rate", "harmfulness", "harmful_rate"),
        *("relevance", "coherence"),
    ],
)
def test_totals_are_means_over_behaviours_of_other_sizes(table: pl.DataFrame, metric: str) -> None:
    total = _one(table, "all-harm", metric)
    each = [_value(table, name, metric) for name in ("alpha", "beta")]
    assert total["value"] == pytest.approx(sum(each) / 2)
    assert total["n"] == 30


def test_rates_count_their_prompts(table: pl.DataFrame) -> None:
    assert _value(table, "beta", "refusal_rate") == 18 / 24
    assert _value(table, "alpha", "harmful_rate") == 1
    assert _value(table, "beta", "harmful_rate") == 0
    assert _one(table, "beta", "refusal_rate")["high"] < 1


def test_harm_is_not_judged_in_benign_answers(table: pl.DataFrame) -> None:
    benign = table.filter(role="benign")["metric"].unique().to_list()
    assert sorted(benign) == ["coherence", "nll", "nll_added", "refusal_rate", "relevance"]


def test_added_nll_is_paired_by_prompt(table: pl.DataFrame) -> None:
    added = _one(table, "beta", "nll_added", "shared")
    assert added["value"] == pytest.approx(2, abs=0.05)
    paired = added["high"] - added["low"]
    sides = [_one(table, "beta", "nll", variant) for variant in ADDED]
    # The prompts differ by far more than the variants do.
    assert all(paired < (side["high"] - side["low"]) / 5 for side in sides)
    intact = _one(table, "beta", "nll_added", "intact")
    assert (intact["value"], intact["low"], intact["high"]) == (0, 0, 0)


def test_the_ratio_is_of_added_harm_to_added_benign(table: pl.DataFrame) -> None:
    ratio = _value(table, "all-harm", "nll_ratio", "shared")
    sides = [_value(table, f"all-{role}", "nll_added", "shared") for role in ("harm", "benign")]
    assert ratio == pytest.approx(sides[0] / sides[1])
    assert table.filter(metric="nll_ratio", variant="intact").is_empty()


def test_the_same_rows_give_the_same_table(table: pl.DataFrame) -> None:
    assert measurements("toy", _nll(), _judged(), BOOT).equals(table)
