"""Which figures a study has: what is declared is what is drawn."""

from pathlib import Path

import polars as pl
import pytest

from lesion.report.figures.all import all_figures
from lesion.report.figures.names import Measured, model_figures, study_figures
from lesion.tables.read import read_study_tables
from lesion_testing.invented import Shape, write_study

FULL = Measured(["shared", "random"], ["shared"], judged=True, equal_cost=True)


def test_what_is_declared_is_drawn(tmp_path: Path) -> None:
    tables = read_study_tables(write_study(tmp_path, Shape(models=["one", "two"], trained=True)))
    drawn = {f"{of}-{figure.key}" if of else figure.key for of, figure in all_figures(tables)}
    experiments = {"recovery": (["one", "two"], False), "advice": (["one", "two"], True)}
    named = study_figures(["one", "two"], FULL, experiments, ["alignment"], ["base"])
    # Harm is not measured in the invented study of advice.
    assert {one.name for one in named} - drawn == {
        "one-retraining-advice",
        "two-retraining-advice",
    }
    assert drawn <= {one.name for one in named}


@pytest.mark.parametrize(
    ("variants", "drawn"),
    [([], False), (["unmodified"], False), (["refusal"], True), (["random"], True), (["x"], True)],
)
def test_dissociation_needs_an_ablated_model(variants: list[str], drawn: bool) -> None:
    declared = model_figures(Measured(variants, [], judged=False))
    assert ("dissociation" in declared) is drawn
    assert "curve" not in declared


def test_a_study_of_the_refusal_mask_alone_draws_what_is_declared(tmp_path: Path) -> None:
    tables = read_study_tables(write_study(tmp_path))
    alone = pl.col("variant").is_in(["unmodified", "refusal"])
    found = tables._replace(
        measurements=tables.measurements.filter(alone), variants=tables.variants.filter(alone)
    )
    drawn = [figure.key for _, figure in all_figures(found)]
    declared = Measured(["refusal"], ["shared"], judged=False, equal_cost=True)
    assert drawn == model_figures(declared)
