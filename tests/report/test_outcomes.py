"""The bars of what became of the answers."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lesion.report.figures.all import figures_of
from lesion.report.figures.figure import Figure
from lesion.report.figures.outcomes import outcomes
from lesion.tables.answer_outcomes import ANSWER_OUTCOMES
from lesion.tables.read import read_study_tables


def _drawn(tables: Path, *, compliance: bool = False) -> Figure:
    table = read_study_tables(tables).of("smol").measurements
    figure = outcomes(table, 0.95, "shared", 2.31, compliance=compliance)
    assert figure is not None
    return figure


def _parts(figure: Figure) -> list[dict[str, Any]]:
    return list(next(iter(figure.spec()["datasets"].values())))


def test_the_parts_of_every_bar_follow_each_other_from_0_to_1(tables: Path) -> None:
    bars: dict[str, list[dict[str, Any]]] = {}
    for part in _parts(_drawn(tables)):
        bars.setdefault(part["bar"], []).append(part)
    # Two attacks on harmful prompts, and everyday prompts.
    assert len(bars) == 3 * 10
    for parts in bars.values():
        assert parts[0]["start"] == pytest.approx(0)
        assert parts[-1]["end"] == pytest.approx(1)
        for part, following in pairwise(parts):
            assert part["end"] == pytest.approx(following["start"])
        for part in parts:
            assert part["end"] - part["start"] == pytest.approx(part["value"])


def test_bars_are_in_order_under_their_headings(tables: Path) -> None:
    spec = _drawn(tables).spec()
    rows = spec["layer"][0]["encoding"]["y"]["scale"]["domain"]
    names = [row.split("|")[1] for row in rows]
    first = names[: names.index("harmful, prefill:")]
    assert first[:3] == ["harmful, direct:", "unmodified", "shared"]
    assert first[-1] == "random"
    assert "everyday, prefill:" in names
    # Masks of other sizes have bars of their own nowhere.
    assert not any("@" in row for row in rows)


def test_answers_to_matched_requests_stand_beside_those_to_harmful_ones(tables: Path) -> None:
    table = read_study_tables(tables).of("smol").measurements
    matched = table.filter(role="benign").with_columns(role=pl.lit("matched"))
    figure = outcomes(pl.concat([table, matched]), 0.95, "shared", 2.31)
    assert figure is not None
    names = [
        row.split("|")[1] for row in figure.spec()["layer"][0]["encoding"]["y"]["scale"]["domain"]
    ]
    groups = [name for name in names if name.endswith(":")]
    assert groups[-2:] == ["matched, prefill:", "everyday, prefill:"]


def test_every_share_is_in_the_table_with_its_interval(tables: Path) -> None:
    numbers = _drawn(tables).numbers
    row = numbers.filter(prompts="harmful, prefill", variant="shared").row(0, named=True)
    assert row["harmful"] == "20% [10%, 30%]"
    assert row["n"] == "60"
    everyday = numbers.filter(prompts="everyday, prefill", variant="shared").row(0, named=True)
    assert everyday["harmful"] == "–"


def test_harm_is_called_compliance_where_the_judge_fails(tables: Path) -> None:
    figure = _drawn(tables, compliance=True)
    assert {"complied", "coherent otherwise"} <= {part["outcome"] for part in _parts(figure)}
    assert "harmful" not in {part["outcome"] for part in _parts(figure)}
    assert "“Complied” takes the place of “harmful”" in figure.caption.means
    assert "complied" in figure.summary
    assert "Complied" not in _drawn(tables).caption.means


def test_the_caption_names_the_limit(tables: Path) -> None:
    assert "(above 2.31 nats per token)" in _drawn(tables).caption.means
    drawn = {figure.key: figure for figure in figures_of(read_study_tables(tables), "smol")}
    assert drawn["outcomes"].caption == _drawn(tables).caption


def test_without_outcomes_there_is_no_figure(tables: Path) -> None:
    table = read_study_tables(tables).measurements
    others = table.filter(~pl.col("metric").is_in(ANSWER_OUTCOMES))
    assert outcomes(others, 0.95, "shared", None) is None
    alone = table.filter(attack="prefill", role="harm")
    named = outcomes(alone.with_columns(attack=pl.lit("please")), 0.95, "shared", None)
    assert named is not None
    assert "no limit was measured" in named.caption.means
    assert set(named.numbers["prompts"]) == {"harmful, please"}
