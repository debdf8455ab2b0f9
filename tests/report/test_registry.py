"""A claim or a metric is one entry: whatever shows claims and metrics shows a new one, too."""

import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from lesion import cli
from lesion.report.compare import compared_findings, side
from lesion.report.gate import gate
from lesion.report.page import write_report
from lesion.report.summary import print_summary
from lesion.tables.claims.claim import Claim
from lesion.tables.claims.registry import PAPER, REGISTRY, numbers, with_claims_list
from lesion.tables.effects import NATS
from lesion.tables.intervals import Bootstrap
from lesion.tables.measure import answer_rows
from lesion.tables.metrics import METRICS, Comparison, Metric, ShownRow
from lesion.tables.rows import is_main
from lesion.tables.wording import figure
from lesion_testing.invented import write_study

ROOT = Path(__file__).parents[2]
CLAIM = Claim(
    9,
    "an invented claim",
    "invented_change",
    "shared",
    "nats",
    NATS,
    "Invented",
    "Does it do what was invented?",
    lambda one, _tables, _variant: f"It does {figure(one, 'nats')}.",
    numbers=lambda claim, facts: [(claim.variant, facts.find("shared", "nll_added"))],
)
METRIC = Metric(
    "politeness",
    "score",
    column="score",
    judges=("politeness",),
    shown=(ShownRow("polite", "Safety evaluation", "Politeness", "from 0 to 1", summary=True),),
)


@pytest.fixture
def claim() -> Iterator[Claim]:
    REGISTRY.append(CLAIM)
    PAPER[CLAIM.number] = "what was invented happens"
    yield CLAIM
    REGISTRY.remove(CLAIM)
    del PAPER[CLAIM.number]


@pytest.fixture
def metric() -> Iterator[Metric]:
    METRICS.append(METRIC)
    yield METRIC
    METRICS.remove(METRIC)


def _shown(tables: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """The page and the terminal's summary of a study."""
    write_report(tables, folder / "index.html", 0)
    print_summary(tables, Path("index.html"))
    return (folder / "index.html").read_text(encoding="utf-8"), capsys.readouterr().out


def test_a_new_claim_is_one_entry(
    claim: Claim, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = write_study(tmp_path / "tables")
    row = pl.read_parquet(tables / "claims.parquet").filter(claim=9).row(0, named=True)
    assert (row["name"], row["verdict"]) == (claim.name, "supported")
    last = gate(tables, [9]).model_dump()["models"][0]["claims"][-1]
    assert (last["claim"], last["verdict"]) == (9, "supported")
    assert last["statistics"][0]["statistic"] == "invented_change"
    page, summary = _shown(tables, tmp_path, capsys)
    assert claim.question in page
    assert "It does 0.33 [" in page
    assert "supported  an invented claim" in summary


def test_without_its_entry_it_is_no_claim(tables: Path) -> None:
    assert 9 not in set(pl.read_parquet(tables / "claims.parquet")["claim"])
    assert 9 not in numbers()


def test_a_new_metric_is_one_entry(
    metric: Metric, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    about = {"behaviour": "alpha", "role": "harm", "attack": "none", "judge": "politeness"}
    judged = pl.DataFrame(
        [
            {**about, "variant": variant, "prompt": str(number), "score": number / 10 + more}
            for variant, more in (("unmodified", 0.1), ("shared", 0.2))
            for number in range(8)
        ]
    ).with_columns(label=pl.lit(None, pl.Boolean))
    rows = list(answer_rows(judged, Bootstrap(50, 0.95, 1)))
    measured = {
        (row["variant"], row["metric"]): row["value"] for row in rows if row["level"] == "total"
    }
    assert measured == {
        ("unmodified", "politeness"): pytest.approx(0.45),
        ("shared", "politeness"): pytest.approx(0.55),
        ("shared", "politeness_change"): pytest.approx(0.1),
    }
    tables = write_study(tmp_path / "tables")
    path = tables / "measurements.parquet"
    table = pl.read_parquet(path)
    own = table.filter(metric="nll", level="total", role="harm").with_columns(
        metric=pl.lit(metric.name), judge=pl.lit("politeness")
    )
    pl.concat([table, own]).with_columns(is_main("learned")).write_parquet(path)
    page, summary = _shown(tables, tmp_path, capsys)
    assert "<span>Politeness</span>" in page
    assert any(line.startswith("Politeness") for line in summary.splitlines())


@pytest.mark.parametrize("name", ["docs/explanation/claims.md", "docs/how-to/gate.md"])
def test_the_documents_list_the_claims(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert "| 8 | training on harmful pairs" in text
    assert text == with_claims_list(text), "run `make reference`"


def test_every_claim_of_the_paper_has_its_sentence() -> None:
    assert list(PAPER) == numbers() == list(range(1, 9))


def test_the_gate_knows_what_numbers_there_are(
    claim: Claim, tables: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = type("Study", (), {"folder": tables.parent})
    monkeypatch.setattr("lesion.cli.report.read_study", lambda *_, **__: study)
    done = CliRunner().invoke(cli.app, ["verdicts", "--require", "9", "--format", "json"])
    # It was not measured when these tables were made, so that nobody can tell.
    assert (done.exit_code, json.loads(done.stdout)["required"]) == (3, [claim.number])


def test_no_two_claims_are_the_same() -> None:
    keys = [(one.number, one.statistic, one.variant) for one in REGISTRY]
    assert len(set(keys)) == len(keys)
    units = {(one.statistic, one.unit) for one in REGISTRY}
    assert len(units) == len({one.statistic for one in REGISTRY})


def test_a_new_comparison_is_one_entry(tmp_path: Path) -> None:
    tables = write_study(tmp_path / "tables")
    asked = Comparison("Is B as invented?", "What was invented", higher=True, needs="Nothing.")
    added = CLAIM._replace(number=1, statistic="nll_added", compared=asked)
    REGISTRY.append(added)
    try:
        found = compared_findings(*[side(str(tmp_path))] * 2)
    finally:
        REGISTRY.remove(added)
    (one,) = (one for one in found if one.question == asked.question)
    row = pl.read_parquet(tables / "claims.parquet").filter(claim=1, statistic="nll_added")
    assert one.sentence.startswith(f"What was invented: {row['value'].item():.2f} [")
    assert one.sentence.count("in A, ") == 1
