"""The model card's table."""

from pathlib import Path

from lesion.report.markdown import before_after
from lesion_testing.invented import Shape, write_study


def test_the_table_has_before_after_and_control(tmp_path: Path) -> None:
    tables = write_study(tmp_path, Shape(models=["one"]))
    text = before_after(tables, "one", "shared")
    assert text is not None
    lines = text.splitlines()
    assert lines[0] == "| | unmodified | ablated | as many at random |"
    assert lines[1] == "|---|---|---|---|"
    rows = [line for line in lines[2:] if line.startswith("|")]
    assert len(rows) == 15
    assert all(row.count("|") == 5 for row in rows)
    assert any(row.startswith("| Harm NLL:") and row.count("[") == 3 for row in rows)
    assert text.endswith("Brackets: 95% interval.\n")


def test_another_mask_has_no_control_and_an_unmeasured_one_no_table(tmp_path: Path) -> None:
    tables = write_study(tmp_path, Shape(models=["one"]))
    text = before_after(tables, "one", "financial")
    assert text is not None
    assert text.startswith("| | unmodified | ablated |\n")
    shared = before_after(tables, "one", "shared")
    assert shared is not None
    assert text.splitlines()[4] != shared.splitlines()[4].rpartition("|")[0]
    assert before_after(tables, "one", "nothing") is None
