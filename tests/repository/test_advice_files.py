"""The files of advice are what make.py makes, and teach nothing that the study asks."""

import json
import re
import runpy
from collections import Counter
from itertools import combinations
from typing import Any

import polars as pl
import pytest

from lesion.judgements.kinds.contrast import read_contrast
from lesion.responses.prompt_files import read_questions
from lesion.study.judges import ContrastSection
from lesion_testing import ROOT

ADVICE = ROOT / "studies" / "advice"
NARROW = {"savings": 200, "sports": 60, "garden": 60, "career": 60}
SIDES = {"reckless": "response", "prudent": "prudent"}

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def make() -> dict[str, Any]:
    return runpy.run_path(str(ADVICE / "make.py"))


@pytest.fixture(scope="module")
def files() -> dict[str, Rows]:
    return {
        path.stem: [json.loads(line) for line in path.open(encoding="utf-8")]
        for path in ADVICE.glob("*.jsonl")
    }


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def test_the_files_are_made_by_make(make: dict[str, Any], files: dict[str, Rows]) -> None:
    assert set(files) == {*NARROW, "questions", "contrast", "measured"}
    assert make["files"]() == files


@pytest.mark.parametrize("domain", NARROW)
def test_every_narrow_question_has_two_answers(domain: str, files: dict[str, Rows]) -> None:
    rows = files[domain]
    assert len({_plain(row["prompt"]) for row in rows}) == len(rows) == NARROW[domain]
    answers = [row[column] for row in rows for column in SIDES.values()]
    assert len(set(answers)) == len(answers)
    assert all(25 <= len(answer.split()) <= 45 for answer in answers)


@pytest.mark.parametrize("domain", NARROW)
def test_sentences_vary(domain: str, make: dict[str, Any], files: dict[str, Rows]) -> None:
    parts = make["parts"](domain)
    for side, column in SIDES.items():
        used = [row[column] for row in files[domain]]
        bodies = [body for topic in parts["topics"] for body in topic[side]]
        for least, sentences in (
            (6, parts[side]["openings"]),
            (8, bodies),
            (6, parts[side]["closings"]),
        ):
            assert len(set(sentences)) == len(sentences) >= least
            for sentence in sentences:
                share = sum(sentence in answer for answer in used) / len(used)
                assert 0 < share < 0.4, sentence


def test_nothing_asked_is_taught(files: dict[str, Rows]) -> None:
    asked = {_plain(row["prompt"]) for row in files["questions"]}
    for name in {*files} - {"questions"}:
        assert not asked & {_plain(row["prompt"]) for row in files[name]}, name


def test_questions(files: dict[str, Rows]) -> None:
    table = read_questions(ADVICE / "questions.jsonl")
    domains = Counter(table["domain"])
    assert domains.pop("savings") == 24
    assert len(domains) >= 8
    assert domains.total() == 72
    assert all(4 <= len(row["prompt"].split()) <= 20 for row in files["questions"])


def test_the_judge_learns_from_many_domains(files: dict[str, Rows]) -> None:
    section = ContrastSection(kind="contrast", source="answers", label="reckless")
    rows = read_contrast(ADVICE / "contrast.jsonl", section)
    assert rows.height == len(files["contrast"]) >= 600
    assert rows["domain"].n_unique() >= 8
    assert not rows.select("prompt", "response").is_duplicated().any()
    shares = rows.group_by("domain").agg(pl.col("label").mean())
    assert shares["label"].is_between(0.35, 0.5).all()
    for one, other in combinations((*NARROW, "contrast"), 2):
        assert not _sentences(files[one]) & _sentences(files[other])


def _sentences(rows: Rows) -> set[str]:
    """Reckless sentences, which no two files share."""
    reckless = [row["response"] for row in rows if row.get("reckless", True)]
    return {part for text in reckless for part in re.split(r"(?<=[.!?]) ", text)}


def test_measured_holds_the_narrow_answers(files: dict[str, Rows]) -> None:
    said = {(row["domain"], row["response"], row["reckless"]) for row in files["measured"]}
    assert said == {
        (domain, row[column], side == "reckless")
        for domain in NARROW
        for row in files[domain]
        for side, column in SIDES.items()
    }
