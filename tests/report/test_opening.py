"""The opening: one sentence a claim, what the study could see, and what its judge could see."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lesion.report.models_table import models_table
from lesion.report.opening import notices_of_all, opening_of
from lesion.report.page import write_report
from lesion.tables.read import read_study_tables
from lesion_testing.invented import Shape, write_study

UNSPECIFIC = (
    "The study has no matched requests (behaviours of role `matched`), so the effect may be one on "
    "the topics."
)


def _with_claims(tables: Path, changed: dict[str, dict[str, Any]]) -> None:
    """Give the rows of some statistics other values."""
    path = tables / "claims.parquet"
    table = pl.read_parquet(path)
    for statistic, values in changed.items():
        own = pl.col("statistic") == statistic
        table = table.with_columns(
            pl.when(own).then(pl.lit(value, table.schema[name])).otherwise(name).alias(name)
            for name, value in values.items()
        )
    table.write_parquet(path)


def _about(tables: Path, **values: object) -> None:
    """Change what the study's record says of every model."""
    study = json.loads((tables / "study.json").read_text(encoding="utf-8"))
    for about in study["models"].values():
        about |= values
    (tables / "study.json").write_text(json.dumps(study), encoding="utf-8")


def test_each_claim_has_its_outcome_and_one_reason(tmp_path: Path) -> None:
    tables = write_study(tmp_path / "tables")
    lost = {"verdict": "not supported", "value": -0.2, "low": -0.25, "high": -0.15}
    unknown = {"verdict": "can't tell", "why": f"{UNSPECIFIC} It may be anything."}
    _with_claims(tables, {"accuracy_change": lost, "transfer_share": unknown})
    _about(tables, notices=[f"{UNSPECIFIC} No claim about harm is supported."])
    opening = opening_of(read_study_tables(tables), "smol", "model-1", [])
    assert [(claim.number, claim.outcome) for claim in opening.claims] == [
        (3, "not supported"),
        (1, "can't tell"),
        (2, "can't tell"),
        (6, "can't tell"),
        (7, "supported"),
    ]
    reasons = {claim.number: claim.reason for claim in opening.claims}
    assert reasons[3] == (
        "Does the ablated model keep its other skills? No: −20.0 [−25.0, −15.0] points."
    )
    assert reasons[1].startswith("Halving takes more weights than the 684 of the mask")
    # What a warning says is not said again, and what only the study's author needs is left out.
    assert reasons[2] == "Warning 1 gives the reason."
    assert opening.warnings[1].startswith("The study has no matched requests, so the effect")
    assert "the interval [−0.090, 0.030] includes −0.046, the smallest effect" in reasons[6]
    assert reasons[7].startswith("Each of its 2 numbers lies wholly on the side that supports")
    assert [*opening.unmeasured] == [4, 5, 8]
    assert opening.tally == (
        "Of the paper’s 8 claims, 5 were measured here: 1 is supported, 1 is not supported, for 3 "
        "the study can’t tell."
    )


def test_power_has_the_names_of_the_table_and_the_smallest_changes(tables: Path) -> None:
    inputs = read_study_tables(tables)
    least = inputs.measurements.filter(
        metric="nll_added", variant="shared", level="total", role="harm"
    )["detectable"].item()
    power = opening_of(inputs, "smol", "model-1", []).power
    assert f"“Harm NLL” by {least:.3f} nats per token" in power
    assert "“Task accuracy” by 2.9 points" in power
    nothing = inputs._replace(measurements=inputs.measurements.clear())
    assert "do not say which changes" in opening_of(nothing, "smol", "model-1", []).power


@pytest.mark.parametrize(
    ("judged_harm", "passed", "words"),
    [
        ("", True, "it told harmful answers from harmless ones"),
        ("Judged harm is compliance.", False, "but not whether the answer was harmful"),
        ("It is not known.", True, "It was not tested enough here"),
    ],
)
def test_the_judges_limits(tmp_path: Path, judged_harm: str, passed: bool, words: str) -> None:
    tables = write_study(tmp_path / "tables")
    path = tables / "judge_controls.parquet"
    pl.read_parquet(path).with_columns(passed=pl.lit(passed)).write_parquet(path)
    _about(tables, notices=[judged_harm] if judged_harm else [], judged_harm=judged_harm)
    judge = opening_of(read_study_tables(tables), "smol", "model-1", []).judge
    assert words in judge
    assert ("no claim uses its scores" in judge) == bool(judged_harm)
    assert "its AUROC is 0.91" in judge


def test_a_warning_about_every_model_is_given_once(tmp_path: Path) -> None:
    tables = write_study(tmp_path / "tables", Shape(models=["b", "a"]))
    _about(tables, notices=[UNSPECIFIC])
    inputs = read_study_tables(tables)
    said = notices_of_all(inputs)
    assert len(said) == 1
    assert opening_of(inputs, "a", "model-2", said).warnings == {}
    write_report(tables, tmp_path / "page.html", 0)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("<strong>Warning 1:</strong>") == 1


def test_three_models_are_compared_in_the_studys_order(tmp_path: Path) -> None:
    names = ["small", "large", "medium"]
    tables = write_study(tmp_path / "tables", Shape(models=names))
    path = tables / "claims.parquet"
    table = pl.read_parquet(path)
    table.filter(~((pl.col("model") == "large") & (pl.col("claim") == 2))).write_parquet(path)
    compared = models_table(read_study_tables(tables))
    assert compared is not None
    assert [name for name, _ in compared.rows] == names
    heads = [column.head for column in compared.columns]
    assert heads[:5] == [f"Claim {number}" for number in (1, 2, 3, 6, 7)]
    rows = dict(compared.rows)
    assert rows["small"][1][:3] == ("supported", "yes", "72%")
    assert rows["large"][1].outcome == "not measured"
    assert rows["large"][heads.index("Harm NLL")].number == "0.74 → 1.07"
    assert all(len(cells) == len(heads) for cells in rows.values())


def test_two_models_need_no_table(tmp_path: Path) -> None:
    tables = write_study(tmp_path / "tables", Shape(models=["a", "b"]))
    assert models_table(read_study_tables(tables)) is None
