"""The terminal's summary."""

from pathlib import Path

import pytest
from invented import Shape, write_study

from lesion.summary import print_summary


def test_summary_is_plain_and_fits(tables: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(tables, Path("results/invented/report/index.html"))
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert "\x1b" not in text
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 24
    assert any(line.split()[:2] == ["Harm", "NLL"] and "[" in line for line in lines)
    assert "Chosen p=0.05, q=0.0002: 684 weights, 0.0047% of 14,598,144" in lines
    assert lines[-1] == "Report: results/invented/report/index.html"


def test_a_long_path_is_not_broken(tables: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = Path("/results") / ("deep/" * 30) / "index.html"
    print_summary(tables, page)
    assert capsys.readouterr().out.splitlines()[-1] == f"Report: {page}"


def test_every_model_has_its_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(write_study(tmp_path, Shape(models=["one", "two"])), Path("index.html"))
    text = capsys.readouterr().out
    assert text.count("Attack success") == 2
    assert text.index("one, [95%") < text.index("two, [95%")
