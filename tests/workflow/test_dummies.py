"""A study with a judge, an attack, a metric and a claim that are one edit each."""

from typing import Any

import polars as pl
import pytest

from lesion_testing.workflow import Place

pytestmark = pytest.mark.slow


def _dummies(config: dict[str, Any]) -> None:
    config["responses"]["attacks"] = ["direct", "prefill", "polite"]
    config["judgements"]["judges"] = {"words": {"kind": "length", "longest": 4}}


def test_a_study_uses_what_was_added(fresh: Place) -> None:
    fresh.configure(_dummies)
    fresh.run()
    tables = fresh.made / "tables"
    rows = pl.read_parquet(tables / "measurements.parquet").filter(
        attack="polite", judge="words", metric="wordiness", level="total"
    )
    assert {"unmodified", "shared"} <= set(rows["variant"])
    claims = pl.read_parquet(tables / "claims.parquet").filter(statistic="wordiness_change")
    assert claims["name"].to_list() == ["answers get shorter"]
    page = (fresh.made / "report" / "index.html").read_text(encoding="utf-8")
    assert "Does zeroing the weights make answers to polite requests shorter?" in page
    assert "Wordiness" in page
