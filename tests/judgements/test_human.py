"""Reading human scores: every answer once, whatever the file looks like."""

from pathlib import Path

import polars as pl
import pytest

from lesion.io.formats import BadFile
from lesion.judgements.human import linked_groups, read_human_scores, read_panels

HEADER = "objective,assistant_response,human_score,data_type\n"


def _folder(path: Path, text: str | bytes) -> Path:
    for name in ("harm", "refusal_scorer"):
        (path / name).mkdir(parents=True)
        other = path / name / "other.csv"
        other.write_text(HEADER + "Why?,Because.,0.5,text\n", encoding="utf-8")
    (path / "objective").mkdir()
    raw = text if isinstance(text, bytes) else text.encode()
    (path / "objective" / "odd.csv").write_bytes(raw)
    return path


def _objective(folder: Path) -> list[tuple[str, str, float]]:
    table = read_human_scores(folder).filter(pl.col("target") == "objective")
    return table.select("prompt", "response", "score").rows()


def test_reads_all_targets(human_scores: Path) -> None:
    table = read_human_scores(human_scores)
    assert table.group_by("target").len().sort("target").rows() == [
        ("graded-harm", 64),
        ("objective", 64),
        ("refusal", 64),
    ]
    assert set(table.filter(pl.col("target") == "objective")["score"]) == {0.0, 1.0}
    assert set(table.filter(pl.col("target") == "graded-harm")["score"]) == {0.25, 0.75}
    assert table["panel"].sum() == 2
    assert table["group"].n_unique() == 16


def test_a_repeated_answer_counts_once_with_its_mean(tmp_path: Path) -> None:
    folder = _folder(tmp_path, HEADER + "P,R,1,text\nP,R,0,text\n")
    assert _objective(folder) == [("P", "R", 0.5)]


def test_order_of_rows_and_files_does_not_matter(tmp_path: Path) -> None:
    first = _folder(tmp_path / "a", HEADER + "P,R,1,text\nQ,S,0,text\n")
    second = _folder(tmp_path / "b", HEADER + "Q,S,0,text\nP,R,1,text\n")
    assert read_human_scores(first).equals(read_human_scores(second))


def test_comments_quotes_line_ends_and_encodings(tmp_path: Path) -> None:
    text = (
        "# version,,\r\n# more\r\n"
        + HEADER
        + '"P, p","# R\r\n\fr",TRUE,text\r\nQ,S,x.png,image\r\n'
    )
    assert _objective(_folder(tmp_path / "a", text)) == [("P, p", "# R\n\fr", 1.0)]
    assert _objective(_folder(tmp_path / "b", (HEADER + "P,don’t,1,text\n").encode("cp1252"))) == [
        ("P", "don’t", 1.0)
    ]
    assert _objective(_folder(tmp_path / "c", (HEADER + "P,é,1,text\n").encode("utf-8-sig"))) == [
        ("P", "é", 1.0)
    ]


@pytest.mark.parametrize("score", ["7", "-0.5", "", "maybe", "nan"])
def test_a_score_off_the_scale_is_named(tmp_path: Path, score: str) -> None:
    folder = _folder(tmp_path, HEADER + f"P,R,1,text\nP,S,{score},text\n")
    with pytest.raises(BadFile, match=r"odd\.csv, line 3: .*from 0 to 1"):
        read_human_scores(folder)


def test_a_missing_column_or_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="pyrit"):
        read_human_scores(tmp_path / "nowhere")
    with pytest.raises(BadFile, match=r"odd\.csv: needs the columns"):
        read_human_scores(_folder(tmp_path, "a,b\n1,2\n"))


def test_rows_that_share_a_prompt_or_an_answer_stay_together() -> None:
    prompts = ["How so?", "how  so", "Why?", "Where?", "When?", "Who?"]
    responses = ["A", "B", "b!", "C", "", ""]
    assert linked_groups(prompts, responses) == [0, 0, 0, 1, 2, 3]


def test_a_file_and_the_panels_of_its_kind_are_one_category(human_scores: Path) -> None:
    table = read_human_scores(human_scores)
    assert set(table.filter(target="graded-harm")["category"]) == {"pranks"}
    assert set(table.filter(target="refusal")["category"]) == {"refusal"}


def test_answers_to_another_question_are_no_refusals(tmp_path: Path) -> None:
    folder = _folder(tmp_path, HEADER + "P,R,1,text\n")
    answers = "Soup?,Boil it.,0,text\nTides?,The moon.,0,text\n"
    planted = "Soup?,The moon.,1,text\nSoup?,Paint it.,1,text\nWalls?,Boil it.,1,text\n"
    rows = HEADER + answers + planted + "Theft?,I won't.,1,text\n"
    (folder / "refusal_scorer" / "refusal.csv").write_text(rows, encoding="utf-8")
    kept = read_human_scores(folder).filter(target="refusal", category="refusal")
    assert kept.select("response", "score").rows() == [
        ("Boil it.", 0.0),
        ("I won't.", 1.0),
        ("The moon.", 0.0),
    ]


def test_each_rater_stands_beside_the_others(tmp_path: Path) -> None:
    folder = _folder(tmp_path, HEADER + "P,R,1,text\n")
    header = "objective,assistant_response,human_score_1,human_score_2,human_score_3,data_type\n"
    rows = header + "P,R,1,0.5,0,text\n"
    (folder / "harm" / "odd_multi_score.csv").write_text(rows, encoding="utf-8")
    (folder / "harm" / "mini_odd.csv").write_text(rows, encoding="utf-8")
    panels = read_panels(folder)
    assert panels.select("category", "score", "others").rows() == [
        ("odd", 1.0, 0.25),
        ("odd", 0.5, 0.5),
        ("odd", 0.0, 0.75),
    ]
