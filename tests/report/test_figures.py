"""The figures: what is in them, and the files they make."""

import math
from pathlib import Path

import polars as pl
import pytest

from lesion.report.equal_cost import mask_names
from lesion.report.figures.all import all_figures, figures_of, write_figures
from lesion.report.figures.charts import CONFIG
from lesion.report.figures.curves import halving_texts, judged_tradeoff, tradeoff
from lesion.report.figures.dissociation import dissociation
from lesion.report.figures.masks import lines_table, transfer, where
from lesion.report.figures.overlap import compared, overlap_heatmap, overlap_means
from lesion.study.controls import BUILT_CONTROLS, GROWN_MASKS
from lesion.tables.claims.claim import Conclusion
from lesion.tables.lookup import find
from lesion.tables.read import Headline, read_study_tables
from lesion_testing.invented import LAYERS, MODULES, Shape, write_study

SHOWN = Headline("shared", "random")


def test_transfer_brackets_what_may_be_nothing(tables: Path) -> None:
    figure = transfer(read_study_tables(tables).measurements, 0.95)
    assert figure is not None
    cells = next(iter(figure.spec()["datasets"].values()))
    texts = {(cell["mask"], cell["behaviour"]): cell["text"] for cell in cells}
    assert texts["random", "physical"] == "(0.00)"
    assert not texts["physical", "physical"].startswith("(")
    assert figure.numbers.columns[1:6] == [
        "financial",
        "identity",
        "physical",
        "privacy",
        "psychological",
    ]
    assert figure.numbers.columns[6:] == ["code", "explain", "plan"]


def test_a_behaviour_may_have_any_name(tables: Path) -> None:
    named = pl.when(behaviour="code").then(pl.lit("all-benign")).otherwise("behaviour")
    found = read_study_tables(tables).measurements.with_columns(behaviour=named)
    figure = transfer(found, 0.95)
    assert figure is not None
    assert figure.numbers.columns[6:] == ["all-benign", "explain", "plan"]


def test_overlap_is_symmetric_and_leaves_the_diagonal(tables: Path) -> None:
    figure = overlap_heatmap(read_study_tables(tables).overlap)
    assert figure is not None
    cells = next(iter(figure.spec()["datasets"].values()))
    ratio = {(cell["a"], cell["b"]): cell["ratio"] for cell in cells}
    assert ratio["physical", "privacy"] == ratio["privacy", "physical"]
    assert ("physical", "physical") not in ratio
    assert ("physical", "refusal") in ratio


def test_overlap_shows_interval_and_p(tables: Path) -> None:
    table = read_study_tables(tables).overlap
    figure = overlap_heatmap(table)
    assert figure is not None
    spec = figure.spec()
    titles = [one["title"] for one in spec["layer"][0]["encoding"]["tooltip"]]
    assert titles[4:7] == ["times chance", "95% interval, over matrices", "p of as many by chance"]
    cells = {(cell["a"], cell["b"]): cell for cell in next(iter(spec["datasets"].values()))}
    row = table.filter(a="identity", b="physical").row(0, named=True)
    cell = cells["physical", "identity"]
    assert cell["ratio"] == row["enrichment_rows_columns"]
    assert cell["interval"] == f"[{row['enrichment_low']:.1f}×, {row['enrichment_high']:.0f}×]"
    assert cell["p"] == "< 0.001"
    assert {cell["p"] for cell in cells.values()} == {"< 0.001", "0.04"}
    assert cell["interval"] in figure.numbers["physical"][1]


def test_overlap_compares_harm_with_benign_in_words(tables: Path) -> None:
    table = read_study_tables(tables).overlap
    verdict = compared(table)
    figure = overlap_heatmap(table)
    assert figure is not None
    assert figure.caption.means.startswith(verdict.sentence)
    harm = table.filter(role_a="harm", role_b="harm")
    assert f"share {harm['shared'].median():,.0f} weights" in verdict.sentence
    assert "(medians of 10)" in verdict.sentence
    assert "(medians of 15)" in verdict.sentence
    # However a pair is written, it is one of the same group.
    turned = table.rename({"role_a": "role_b", "role_b": "role_a"})
    assert compared(turned) == verdict
    assert compared(table.clear()).answer is Conclusion.UNCLEAR


def test_overlap_of_nothing_in_common(tables: Path) -> None:
    table = (
        read_study_tables(tables)
        .overlap.with_columns(
            pl.lit(None, pl.Float64).alias(name)
            for name in ("enrichment_rows_columns", "enrichment_low", "enrichment_high")
        )
        .with_columns(shared=pl.lit(0, pl.Int64), expected_rows_columns=pl.lit(0.0))
    )
    figure = overlap_heatmap(table)
    assert figure is not None
    assert figure.numbers["identity"][0] == "0 (–)"


def test_overlap_means_by_hand(tables: Path) -> None:
    table = read_study_tables(tables).overlap
    means = overlap_means(table)
    harm = table.filter(role_a="harm", role_b="harm")
    row = means.row(0, named=True)
    assert row["masks of"] == "two harm types"
    assert row["pairs"] == "10"
    assert row["shared weights"] == f"{harm['shared'].mean():,.0f}"
    # However a pair is written, it is one of the same group.
    turned = table.rename({"role_a": "role_b", "role_b": "role_a"})
    assert overlap_means(turned).equals(means)


def test_where_has_every_matrix_and_mask(tables: Path) -> None:
    figure = where(read_study_tables(tables).where)
    assert figure is not None
    spec = figure.spec()
    assert spec["params"][0]["value"] == "shared"
    assert "physical" in spec["params"][0]["bind"]["options"]
    assert figure.numbers.shape == (LAYERS, 1 + len(MODULES))


def test_lines_are_those_of_the_shared_mask(tables: Path) -> None:
    mask, table = lines_table(read_study_tables(tables).lines, "shared")
    assert mask == "shared"
    assert table.row(1) == (
        *("2", "layer 1, self_attn.o_proj, 108", "55 (8.0%)"),
        *("layer 1, self_attn.o_proj, 108", "55 (8.0%)"),
    )
    lines = read_study_tables(tables).lines.filter(mask="physical", axis="row")
    mask, table = lines_table(lines, "shared")
    assert mask == "physical"
    assert table.row(0)[3:] == ("–", "–")


def test_tradeoff_has_every_size_and_the_chosen_one(tables: Path) -> None:
    figure = tradeoff(read_study_tables(tables).curve)
    assert figure is not None
    spec = figure.spec()
    points = next(rows for rows in spec["datasets"].values() if rows and "harm_interval" in rows[0])
    assert len(points) == 36
    (chosen,) = (row for row in points if row["chosen"])
    assert (chosen["family"], chosen["weights"]) == ("shared", 2387)
    assert (chosen["harm"], chosen["benign"]) == (0.286, 0.061)
    assert figure.numbers.row(4)[:4] == ("shared", "2,387", "1", "0.286 [0.25, 0.32]")


def test_tradeoff_needs_both_sides(tables: Path) -> None:
    curve = read_study_tables(tables).curve
    assert tradeoff(curve.filter(level="total", role="harm")) is None
    assert tradeoff(curve.clear()) is None


def test_halving_says_more_than_the_largest(tables: Path) -> None:
    table = halving_texts(read_study_tables(tables).halving)
    likelihood = ("shared", "9,187 [8,089, 10,545]", "0.24 [0.21, 0.27]")
    assert table.rows()[0] == (*likelihood, "17,945 [13,059, 25,473]", "0.60 [0.55, 0.65]")
    assert ("random", "more than 38,461", "–", "more than 38,461", "–") in table.rows()
    assert ("unsigned", "more than 38,461", "–", "–", "–") in table.rows()
    alone = halving_texts(read_study_tables(tables).halving.filter(measure="likelihood"))
    assert alone.row(0) == likelihood


def test_judged_harm_is_drawn_where_masks_of_every_size_answered(tables: Path) -> None:
    found = read_study_tables(tables)
    figure = judged_tradeoff(found.curve, found.measurements, found.variants)
    assert figure is not None
    points = max(figure.spec()["datasets"].values(), key=len)
    assert {row["family"] for row in points} == {"shared", "random"}
    assert len(points) == 18
    (chosen,) = (row for row in points if row["chosen"])
    assert (chosen["weights"], chosen["judged"]) == (2387, "42% [32%, 52%]")
    unanswered = found.measurements.filter(~pl.col("variant").str.contains("@"))
    assert judged_tradeoff(found.curve, unanswered, found.variants) is None


def test_dissociation_puts_everything_between_0_and_1(tables: Path) -> None:
    table = read_study_tables(tables).measurements
    figure = dissociation(table, 0.95, SHOWN)
    assert figure is not None
    points = next(rows for rows in figure.spec()["datasets"].values() if "written" in rows[0])
    assert len(points) == 6 * 4
    assert all(0 <= row["value"] <= 1 for row in points)
    cells = {(row["ability"], row["variant"]): row for row in points}
    likely = cells["refuses, likelihood", "refusal-ablated"]
    nll = find(table, "refusal", "nll", "refusal")
    assert nll is not None
    assert likely["value"] == pytest.approx(math.exp(-nll.value))
    assert likely["low"] == pytest.approx(math.exp(-nll.high))
    assert "not measured" not in figure.caption.means


def test_dissociation_says_what_is_missing(tables: Path) -> None:
    table = read_study_tables(tables).measurements
    asked = pl.col("metric").is_in(["detect_auroc", "explain_nll"])
    some = dissociation(table.filter(~asked | (pl.col("variant") != "refusal")), 0.95, SHOWN)
    assert some is not None
    assert "not measured for refusal-ablated: `understanding.variants`" in some.caption.means
    none = dissociation(table.filter(~asked), 0.95, SHOWN)
    assert none is not None
    assert "set `understanding.minimal_pairs` to measure them" in none.caption.means
    assert dissociation(table.filter(variant="unmodified"), 0.95, SHOWN) is None


def test_names_do_not_depend_on_what_was_drawn_before(tables: Path) -> None:
    found = read_study_tables(tables)
    first = [figure.spec() for figure in figures_of(found, "smol")]
    assert [figure.spec() for figure in figures_of(found, "smol")] == first


def test_files_are_the_same_each_time(tables: Path, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write_figures(tables, tmp_path / folder)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == [
        f"smol-{key}.{suffix}"
        for key in (
            "curve",
            "dissociation",
            "equal-cost",
            "judged-curve",
            "outcomes",
            "overlap",
            "sweep",
            "transfer",
            "where",
        )
        for suffix in ("png", "svg")
    ]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert "aria-label" in (tmp_path / "one" / "smol-transfer.svg").read_text()


def test_every_figure_is_valid_vega_lite(tmp_path: Path) -> None:
    tables = write_study(tmp_path / "tables", Shape(trained=True))
    figures = [figure for _, figure in all_figures(read_study_tables(tables))]
    assert {figure.key for figure in figures} >= {"curve", "training", "stages"}
    for figure in figures:
        # Altair compares the chart with the schema, which the page and the files leave out.
        valid = figure.chart.properties(width="container", description=figure.summary)
        assert valid.configure(**CONFIG).to_dict() == figure.spec()


def test_what_cannot_be_drawn_is_left_out(tmp_path: Path) -> None:
    tables = write_study(tmp_path / "tables", Shape(overlaps=False))
    write_figures(tables, tmp_path / "figures")
    assert not (tmp_path / "figures" / "smol-overlap.svg").exists()


def test_every_mask_of_equal_cost_has_a_name_that_fits_beside_its_chart() -> None:
    names = mask_names(["shared", *GROWN_MASKS, *BUILT_CONTROLS])
    assert len(set(names.values())) == len(names)
    # A longer line is cut off, and several controls would look the same.
    assert max(len(line) for name in names.values() for line in name.split(", ")) <= 21
