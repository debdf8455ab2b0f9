"""Two studies side by side: what is compared, what the differences come to, what is refused."""

import json
import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner, Result

from lesion import cli
from lesion.io.formats import BadFile, LesionError
from lesion.report.compare import (
    compared_findings,
    curves,
    differing,
    ratio,
    rows,
    side,
    write_comparison,
)
from lesion.tables.claims.claim import Conclusion
from lesion.tables.intervals import Estimate
from lesion_testing.invented import Shape, lifted, write_study

REFUSES = "Does B refuse more direct harmful requests?"
LEFT = "Does B write less harmful text once these weights are zeroed?"


@pytest.fixture(scope="session")
def study(tables: Path) -> str:
    """The invented study's folder, as a person names it."""
    return str(tables.parent)


def _shifted(folder: Path, variant: str, metric: str, by: float) -> str:
    """An invented study in which one metric of one variant lies higher."""
    path = write_study(folder / "tables") / "measurements.parquet"
    table = pl.read_parquet(path)
    here = pl.col("variant").eq(variant) & pl.col("metric").eq(metric)
    numbers = ("value", "low", "high")
    table.with_columns(
        pl.when(here).then(pl.col(name) + by).otherwise(pl.col(name)) for name in numbers
    ).write_parquet(path)
    return str(folder)


def _answers(a: str, b: str) -> dict[str, Conclusion]:
    return {one.question: one.answer for one in compared_findings(side(a), side(b))}


def test_a_study_is_not_safer_than_itself(study: str) -> None:
    assert set(_answers(study, study).values()) == {Conclusion.UNCLEAR}


@pytest.mark.parametrize(
    ("variant", "metric", "by", "question", "answer"),
    [
        ("unmodified", "refusal_rate", 0.5, REFUSES, Conclusion.YES),
        ("unmodified", "refusal_rate", -0.5, REFUSES, Conclusion.NO),
        ("unmodified", "refusal_rate", 0.01, REFUSES, Conclusion.UNCLEAR),
        ("shared", "harmfulness", -0.3, LEFT, Conclusion.YES),
        ("shared", "harmfulness", 0.3, LEFT, Conclusion.NO),
    ],
)
def test_each_answer_goes_with_the_interval(
    study: str,
    tmp_path: Path,
    variant: str,
    metric: str,
    by: float,
    question: str,
    answer: Conclusion,
) -> None:
    found = _answers(study, _shifted(tmp_path, variant, metric, by))
    assert found.pop(question) is answer
    assert set(found.values()) == {Conclusion.UNCLEAR}


def test_the_sentence_has_the_numbers(study: str, tmp_path: Path) -> None:
    higher = _shifted(tmp_path, "unmodified", "refusal_rate", 0.5)
    found = compared_findings(side(study), side(higher))
    one = next(one for one in found if one.question == REFUSES)
    assert one.number is not None
    assert one.number.value == pytest.approx(0.5)
    # Newcombe's square-and-add of two intervals that reach 0.03 to either side.
    assert one.number.high - one.number.value == pytest.approx(math.hypot(0.03, 0.03))
    assert one.sentence == (
        "Share of direct harmful requests that the unmodified model refuses: 3.3% [0.3%, 6.3%] in "
        "A, 53% [50%, 56%] in B; B − A is 50.0 points [45.8, 54.2], n = 60."
    )


def test_a_ratio_compares_by_factors() -> None:
    found = ratio(Estimate(2.0, 1.0, 4.0, 30), Estimate(8.0, 4.0, 16.0, 20))
    reach = 2 ** math.sqrt(2)
    assert found == pytest.approx((4.0, 4 / reach, 4 * reach, 20))
    assert math.isnan(ratio(Estimate(2.0, -1.0, 4.0), Estimate(8.0, 4.0, 16.0)).low)


@pytest.mark.parametrize("more", [(), ("where",)])
def test_what_one_side_lacks_is_not_measured(
    study: str, tmp_path: Path, more: tuple[str, ...]
) -> None:
    tables = write_study(tmp_path / "tables")
    for name in ("measurements", "claims", "curve", "halving", *more):
        path = tables / f"{name}.parquet"
        pl.read_parquet(path).clear().write_parquet(path)
    without = str(tmp_path)
    assert set(_answers(study, without).values()) == {Conclusion.UNMEASURED}
    assert rows(side(study), side(without)) == []
    assert curves(side(study), side(without)) is None
    write_comparison(side(study), side(without), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Nothing was measured on both sides." in page
    assert "One of the two studies has no curve" in page


def test_the_curves_of_both_are_in_one_chart(study: str) -> None:
    figure = curves(side(study), side(study))
    assert figure is not None
    assert set(figure.numbers["mask"]) == {f"{a}, {b}" for a in "AB" for b in ("shared", "random")}


def test_rows_are_of_the_unmodified_and_the_ablated_model(study: str, tmp_path: Path) -> None:
    made = rows(side(study), side(_shifted(tmp_path, "shared", "nll", 0.5)))
    labels = [one.label for one in made]
    assert len(set(labels)) == len(labels)
    assert all(one.endswith((", unmodified", ", ablated")) for one in labels)
    changed = {one.label: one.cells[2] for one in made if one.cells[2].below != "can’t tell"}
    assert changed["Harm NLL, ablated"].value == "0.50"
    assert changed["Harm NLL, ablated"].below == "higher"
    assert all("NLL" in label for label in changed)


def test_settings_that_decide_nothing_are_not_told() -> None:
    a: dict[str, Any] = {"study": "a", "seed": 1, "pairs": {"prefill": "Sure", "limit": 3}}
    b: dict[str, Any] = {"study": "b", "seed": 1, "pairs": {"prefill": "Yes\u202e", "limit": 3}}
    assert differing(a, b).rows() == [("pairs.prefill", "Sure", "Yes⟨U+202E⟩")]
    assert differing(a, {**a, "masks": {"p": [0.1]}}).rows() == [("masks.p", "–", "[0.1]")]


@pytest.fixture(scope="session")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two models."""
    folder = tmp_path_factory.mktemp("two")
    write_study(folder / "tables", Shape(models=["one", "other"]))
    return folder


def test_a_model_is_named_where_there_are_several(two: Path) -> None:
    assert side(f"{two}:other").model == "other"
    with pytest.raises(LesionError, match=rf"has several models. Give one: {two}:one or {two}:oth"):
        side(str(two))
    with pytest.raises(LesionError, match="has no model 'third'"):
        side(f"{two}:third")
    with pytest.raises(BadFile, match="none: holds no tables"):
        side(str(two / "none"))


def test_two_levels_of_confidence_cannot_be_compared(study: str, tmp_path: Path) -> None:
    about = write_study(tmp_path / "tables") / "study.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "confidence": 0.9}))
    with pytest.raises(
        LesionError, match=r"A has 95% intervals and B has 90% intervals.*confidence"
    ):
        write_comparison(side(study), side(str(tmp_path)), tmp_path / "page.html")


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, ["compare", *map(str, arguments)], catch_exceptions=False)


def test_the_command_writes_the_same_page_twice(two: Path, tmp_path: Path) -> None:
    pages = [tmp_path / name for name in ("a.html", "b.html")]
    for page in pages:
        done = _run(f"{two}:one", f"{two}:other", "--out", page)
        assert done.exit_code == 0
        assert done.stdout == f"{page}: written\n"
    first, second = (page.read_bytes() for page in pages)
    assert first == second
    assert b"<strong>B</strong> is other in the study invented" in first
    assert b"Both were measured with the same settings." in first
    assert len(first) < 5 * 2**20


@pytest.mark.parametrize("by", [-0.04, 0.04])
def test_too_small_a_difference_is_no_answer(tmp_path: Path, by: float) -> None:
    sides = [_narrow(tmp_path / "a", 0.0), _narrow(tmp_path / "b", by)]
    assert _answers(*sides)[LEFT] is Conclusion.UNCLEAR
    assert _answers(sides[0], _narrow(tmp_path / "c", 2 * by))[LEFT] is not Conclusion.UNCLEAR


def _narrow(folder: Path, by: float, half: float = 1e-3) -> str:
    """An invented study whose ablated model's harmfulness is sure."""
    path = write_study(folder / "tables") / "measurements.parquet"
    table = pl.read_parquet(path)
    here = pl.col("variant").eq("shared") & pl.col("metric").eq("harmfulness")
    table.with_columns(
        pl.when(here).then(0.4 + by + side).otherwise(pl.col(name)).alias(name)
        for name, side in (("value", 0.0), ("low", -half), ("high", half))
    ).write_parquet(path)
    return str(folder)


def test_what_does_not_vary_is_no_answer(tmp_path: Path) -> None:
    sides = [_narrow(tmp_path / "a", 0.0), _narrow(tmp_path / "b", 0.3, half=0.0)]
    one = next(one for one in compared_findings(*map(side, sides)) if one.question == LEFT)
    assert one.answer is Conclusion.UNCLEAR
    assert one.sentence.endswith(
        "In B all prompts give the same value, so its variance is unknown."
    )
    label = "Harm score, prefill, ablated"
    row = next(row for row in rows(*map(side, sides)) if row.label == label)
    assert row.cells[-1].below == "can’t tell"


def test_a_lifted_limit_is_no_comparison_of_ablated_models(
    study: str, tables: Path, tmp_path: Path
) -> None:
    other = _shifted(tmp_path / "b", "shared", "harmfulness", -0.3)
    lifted(tables, tmp_path / "a" / "tables")
    assert _answers(study, other)[LEFT] is Conclusion.YES
    assert _answers(str(tmp_path / "a"), other)[LEFT] is Conclusion.UNCLEAR
    write_comparison(side(str(tmp_path / "a")), side(other), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    said = text.index('role="note"><strong>A:</strong> The ')
    assert said < text.index('<p class="tally">')
