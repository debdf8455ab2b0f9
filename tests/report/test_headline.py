"""The rows that the page and the terminal share."""

from pathlib import Path

import polars as pl
import pytest

from lesion.report.headline import HEADLINE, headline
from lesion.tables.lookup import find, mask_size
from lesion.tables.read import Headline, headline_of, read_study_tables
from lesion.tables.rows import MEASUREMENTS, is_main


def _value(table: pl.DataFrame, key: str, variant: str) -> dict[str, object]:
    return table.row(
        by_predicate=(pl.col("key") == key) & (pl.col("variant") == variant), named=True
    )


def test_every_row_has_every_variant(tables: Path) -> None:
    found = read_study_tables(tables)
    table = headline(found.measurements, found.where, found.headline)
    assert table.schema == HEADLINE
    assert table.group_by("key").len()["len"].unique().to_list() == [3]
    assert table["value"].null_count() == 0


def test_values_are_those_of_the_tables(tables: Path) -> None:
    found = read_study_tables(tables)
    table = headline(found.measurements, found.where, found.headline)
    row = _value(table, "attack", "shared")
    source = found.measurements.filter(
        metric="harmful_rate", level="total", role="harm", attack="prefill", variant="shared"
    )
    assert [row[name] for name in ("value", "low", "high", "n")] == list(
        source.select("value", "low", "high", "n").row(0)
    )


def test_weights_left_and_sizes_are_counted(tables: Path) -> None:
    found = read_study_tables(tables)
    table = headline(found.measurements, found.where, found.headline)
    size, candidates = mask_size(found.where, "shared")
    assert 0 < size < candidates
    assert _value(table, "left", "unmodified")["value"] == 1
    assert _value(table, "left", "shared")["value"] == 0
    # 684 of 14.6 million weights: a random mask of that size meets next to none of them.
    assert 0.999 < float(str(_value(table, "left", "random")["value"])) < 1
    assert _value(table, "zeroed", "random")["value"] == size


def test_weights_left_of_a_random_mask_by_hand() -> None:
    where = pl.DataFrame(
        {
            "model": ["m"] * 4,
            "mask": ["shared", "shared", "random", "random"],
            "layer": [0, 1, 0, 1],
            "module": ["mlp.up_proj"] * 4,
            "weights": [10, 30, 10, 30],
            "candidates": [100, 100, 100, 100],
        }
    )
    nothing = pl.DataFrame(schema=MEASUREMENTS)
    left = _value(headline(nothing, where, Headline("shared", "random")), "left", "random")["value"]
    assert left == pytest.approx(1 - (10 * 10 / 100 + 30 * 30 / 100) / 40)


def test_what_was_not_measured_is_null(tables: Path) -> None:
    found = read_study_tables(tables)
    table = headline(
        found.measurements.filter(pl.col("variant") != "random"),
        found.where.clear(),
        found.headline,
    )
    assert _value(table, "harm-nll", "random")["value"] is None
    assert "left" not in table["key"]
    assert _value(table, "harm-nll", "unmodified")["value"] is not None


def test_the_main_judge_is_taken(tables: Path) -> None:
    table = read_study_tables(tables).measurements
    other = table.with_columns(judge=pl.lit("another"), value=pl.lit(9.0))
    both = pl.concat([other, table])
    for main, harm in (("learned", None), ("another", 9.0)):
        judged = both.with_columns(is_main(main))
        for metric in ("harmfulness", "harmfulness_change", "refusal_rate", "refusal_rate_change"):
            one = find(judged, "shared", metric, attack="prefill")
            known = find(table, "shared", metric, attack="prefill")
            assert one is not None
            assert known is not None
            expected = harm if harm and metric.startswith("harm") else known.value
            assert one.value == expected


@pytest.mark.parametrize(
    ("variants", "mask", "control"),
    [
        (["unmodified", "physical", "shared", "random"], "shared", "random"),
        (["unmodified", "savings", "random"], "savings", "random"),
        (["unmodified", "savings", "other"], "savings", None),
        (["unmodified", "random"], "shared", "random"),
        (["unmodified"], "shared", None),
    ],
)
def test_the_columns_come_from_the_study(
    variants: list[str], mask: str, control: str | None
) -> None:
    assert headline_of(variants) == Headline(mask, control)


def test_any_mask_may_be_the_one_of_the_table(tables: Path) -> None:
    found = read_study_tables(tables)
    table = headline(found.measurements, found.where, Headline("physical", None))
    assert table["column"].unique(maintain_order=True).to_list() == ["unmodified", "ablated"]
    row = _value(table, "harm-nll", "physical")
    source = found.measurements.filter(metric="nll", level="total", role="harm", variant="physical")
    assert row["value"] == source["value"].item()
    assert _value(table, "left", "physical")["value"] == 0
