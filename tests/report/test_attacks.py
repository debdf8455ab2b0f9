"""The table of attacks, and what is said where the judges of refusals disagree."""

from pathlib import Path

import polars as pl

from lesion.report.attacks import attacks_table, refusal_note
from lesion.tables.read import Headline, read_study_tables

SHOWN = Headline("shared", "random")


def _suppressed(tables: Path, matching: float, learned: float) -> pl.DataFrame:
    """The invented measurements with an attack that names phrases of refusal."""
    table = read_study_tables(tables).measurements
    refused = table.filter(level="total", role="harm", metric="refusal_rate", attack="prefill")
    rates = {"matching": matching, "refusal": learned}
    suppressed = [
        refused.with_columns(judge=pl.lit(judge), value=rate, attack=pl.lit("suppressed"))
        for judge, rate in rates.items()
    ]
    return pl.concat([table, *suppressed])


def test_every_attack_has_a_line_for_each_model(tables: Path) -> None:
    table = attacks_table(_suppressed(tables, 0.9, 0.04), SHOWN)
    assert table.select("attack", "model").rows() == [
        (attack, model)
        for attack in ("direct", "prefill", "suppressed")
        for model in ("unmodified", "shared", "random")
    ]
    assert table.row(3)[:4] == ("prefill", "unmodified", "0.62 [0.57, 0.67]", "71% [63%, 79%]")
    named = table.rows(named=True)[6]
    assert named["refused (matching)"].startswith("90% [")
    assert named["refused (learned)"].startswith("4.0% [")
    assert named["harm score"] == "–"


def test_judges_of_refusals_that_disagree_are_pointed_out(tables: Path) -> None:
    note = refusal_note(_suppressed(tables, 0.9, 0.04))
    assert note is not None
    assert "refusal rates of 90% and 4.0% under `suppressed`" in note
    assert refusal_note(_suppressed(tables, 0.9, 0.85)) is None
    assert refusal_note(read_study_tables(tables).measurements) is None


def test_nothing_completed_has_no_table(tables: Path) -> None:
    nothing = read_study_tables(tables).measurements.filter(attack="none")
    assert attacks_table(nothing, SHOWN).is_empty()
