"""The terminal's summary."""

import shutil
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from lesion.report.gate import EXIT_CODES
from lesion.report.summary import print_summary
from lesion_testing.invented import NOTICE, Shape, lifted, write_study


def test_summary_is_plain_and_fits(tables: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(tables, Path("results/invented/report/index.html"))
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert text.isascii()
    assert "\x1b" not in text
    assert max(map(len, lines)) <= 80
    # A line is left for the prompt.
    assert len(lines) < 24
    assert any(line.split()[:2] == ["Harm", "NLL"] and "[" in line for line in lines)
    assert lines[0] == "smol: 684 weights (0.0047%) zeroed, p=0.05, q=0.0002"
    assert lines[-1] == "Report: results/invented/report/index.html"


def test_every_claim_has_its_verdict(tables: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(tables, Path("index.html"))
    lines = capsys.readouterr().out.splitlines()
    claims = pl.read_parquet(tables / "claims.parquet")
    counted = Counter(word for line in lines for word in EXIT_CODES if line.startswith(word))
    assert counted == Counter(claims["verdict"])
    assert any(line.startswith("supported    by accuracy change") for line in lines)


def test_what_could_be_seen_is_the_measurement_s(
    tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tables, tmp_path / "tables")
    path = tmp_path / "tables" / "measurements.parquet"
    pl.read_parquet(path).with_columns(
        detectable=pl.when(metric="refusal_rate_change").then(0.123).otherwise(None)
    ).write_parquet(path)
    print_summary(tmp_path / "tables", Path("index.html"))
    lines = capsys.readouterr().out.splitlines()
    refuses = next(line for line in lines if "still refuses" in line)
    assert refuses.split()[-1] == "12.3"
    assert next(line for line in lines if "still explains" in line).split()[-1] == "-"


def test_rows_that_nothing_was_measured_for_are_left_out(
    tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tables, tmp_path / "tables")
    for name in ("measurements", "claims"):
        path = tmp_path / "tables" / f"{name}.parquet"
        pl.read_parquet(path).clear().write_parquet(path)
    print_summary(tmp_path / "tables", Path("index.html"))
    assert capsys.readouterr().out.splitlines()[-1] == "Report: index.html"


def test_a_long_path_is_not_broken(tables: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = Path("/results") / ("deep/" * 30) / "index.html"
    print_summary(tables, page)
    assert capsys.readouterr().out.splitlines()[-1] == f"Report: {page}"


def test_every_model_has_its_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(write_study(tmp_path, Shape(models=["one", "two"])), Path("index.html"))
    text = capsys.readouterr().out
    assert text.count("Task accuracy") == 2
    assert text.index("one: ") < text.index("two: ")


def test_the_stages_of_a_family_come_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_summary(write_study(tmp_path, Shape(trained=True)), Path("index.html"))
    lines = capsys.readouterr().out.splitlines()
    place = lines.index("alignment: base > light > strong")
    assert lines[place + 2].split()[:3] == ["supported", "alignment", "compresses"]
    assert max(map(len, lines)) <= 80
    again = next(place for place, line in enumerate(lines) if "a mechanism, not" in line)
    assert lines[again + 1].startswith("supported    shared-frozen ")


def test_what_has_to_be_said_comes_first(
    tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = lifted(tables, tmp_path / "tables")
    print_summary(folder, Path("index.html"))
    text = capsys.readouterr().out
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 80
    assert text.startswith(f"smol: {NOTICE[:40]}")
    assert " ".join(text.split()).startswith(f"smol: {NOTICE}")
