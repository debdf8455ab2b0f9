"""Which prompts are shown."""

from pathlib import Path

import polars as pl

from lesion.report.examples import LENGTH, pick
from lesion.tables.read import Headline, read_study_tables

SHOWN = Headline("shared", "random")


def test_harm_types_in_turn_then_benign(tables: Path) -> None:
    found = pick(read_study_tables(tables).examples, 8, 0.5, SHOWN)
    assert [one.behaviour for one in found[:4]] == ["financial", "identity", "physical", "privacy"]
    assert [one.role for one in found] == ["harm"] * 4 + ["benign"] * 4
    assert len({one.prompt for one in found}) == 8
    assert [answer.variant for answer in found[0].answers] == ["unmodified", "shared", "random"]


def test_the_order_of_rows_does_not_matter(tables: Path) -> None:
    table = read_study_tables(tables).examples
    assert pick(table, 6, 0.5, SHOWN) == pick(table.reverse(), 6, 0.5, SHOWN)


def test_results_do_not_pick(tables: Path) -> None:
    table = read_study_tables(tables).examples
    changed = table.with_columns(harmfulness=pl.lit(0.9), completion=pl.lit("Other."))
    prompts = [one.prompt for one in pick(table, 6, 0.5, SHOWN)]
    assert [one.prompt for one in pick(changed, 6, 0.5, SHOWN)] == prompts


def test_harmful_answers_to_benign_prompts_are_hidden(tables: Path) -> None:
    table = read_study_tables(tables).examples.filter(role="benign")
    assert not any(one.hidden for one in pick(table, 3, 0.5, SHOWN))
    assert all(one.hidden for one in pick(table, 3, 0.1, SHOWN))


def test_answers_are_shortened(tables: Path) -> None:
    long = pick(read_study_tables(tables).examples, 2, 0.5, SHOWN)[0].answers[2].text
    assert long.endswith("…")
    assert len(long) <= LENGTH + 1


def test_without_a_prefill_the_direct_answers_are_shown(tables: Path) -> None:
    direct = read_study_tables(tables).examples.filter(attack="direct", role="harm")
    assert {one.attack for one in pick(direct, 4, 0.5, SHOWN)} == {"direct"}
    assert pick(direct.clear(), 4, 0.5, SHOWN) == []
    assert pick(direct, 0, 0.5, SHOWN) == []


def test_a_variant_not_asked_is_said_so(tables: Path) -> None:
    table = read_study_tables(tables).examples.filter(pl.col("variant") != "random")
    assert pick(table, 2, 0.5, SHOWN)[0].answers[2].scores == "not measured"
