"""The tables of the judges."""

from pathlib import Path

from lesion.report.judges import judged, trust
from lesion.tables.read import read_study_tables


def test_people_come_last_of_each_target(tables: Path) -> None:
    table = judged(read_study_tables(tables).judges)["agreement"]
    assert table["against"].to_list() == ["objective"] * 4 + ["graded-harm"] * 4
    assert table["judge"].to_list()[3::4] == ["people", "people"]
    assert table.row(0) == (
        *("learned", "objective", "0.91 [0.87, 0.94]", "0.63 [0.59, 0.66]"),
        *("0.09 [0.05, 0.12]", "0.14 [0.10, 0.17]", "395"),
    )


def test_people_have_no_controls(tables: Path) -> None:
    found = judged(read_study_tables(tables).judges)
    assert "people" not in set(found["controls"]["judge"])
    assert found["controls"]["harmless prose"][0] == "0.05 [0.01, 0.08]"


def test_categories_are_apart(tables: Path) -> None:
    found = judged(read_study_tables(tables).judges)
    assert set(found["categories"]["against"]) >= {
        "objective, violence",
        "graded-harm, hate-speech",
    }
    assert found["categories"].height == 4 * 2 * 2


def test_nothing_measured_gives_empty_tables(tables: Path) -> None:
    assert all(one.is_empty() for one in judged(read_study_tables(tables).judges.clear()).values())


def test_trust_is_in_the_main_judge_on_answers_of_the_study_s_length(tables: Path) -> None:
    judges = read_study_tables(tables).judges
    short = trust(judges, "learned", 32)
    assert "cut to 32 tokens like this study’s), its AUROC is 0.91 [0.87, 0.94] (ag" in short
    whole = trust(judges, "learned", 64)
    assert (
        "trained on (of any length), its AUROC is 0.91 [0.87, 0.94] (against people’s opinion "
        "whether the answer does what was asked) and 0.91" in whole
    )
    assert (
        "`harmbench` gives the harm scores; its agreement with people was not measured here"
        in trust(judges, "harmbench", 32)
    )
