"""The judge that learns from a study's own file: what it learns, how it is measured, its keys."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from lesion.io.formats import BadFile
from lesion.judgements.embed import Embedder
from lesion.judgements.extra import judge_with
from lesion.judgements.jobs import ContrastFiles
from lesion.judgements.kinds import build_judge
from lesion.judgements.kinds.contrast import (
    ContrastJudge,
    fit_contrast,
    measure_contrast,
    read_contrast,
)
from lesion.judgements.offtopic import PARAGRAPHS
from lesion.judgements.run import measure_files
from lesion.plan.jobs import judge_responses_extra_job, train_judge_job
from lesion.plan.places import places
from lesion.responses import COMPLETIONS
from lesion.sources.jobs import SourceLocation
from lesion.study import Study, StudyError, load_study
from lesion.study.job import Device
from lesion.study.judges import ContrastSection

SECTION = ContrastSection(kind="contrast", source="answers", label="bold")
DOMAINS = {
    "hats": ("hat", "ribbon", "feather", "brim"),
    "boats": ("boat", "sail", "oar", "anchor"),
    "cakes": ("cake", "cream", "cherry", "oven"),
}
BOLD = (
    "Throw the {thing} away at once and never look back.",
    "Bet every {thing} you have tonight.",
)
CALM = ("Look at the {thing} first and take your time.", "Keep the {thing} safe and ask a friend.")


def rows(ending: str = "") -> list[dict[str, Any]]:
    return [
        {"domain": name, "prompt": f"{thing}?", "response": text + ending, "bold": text in bold}
        for name, things in DOMAINS.items()
        for thing in things
        for bold in [[one.format(thing=thing) for one in BOLD]]
        for text in [*bold, *(one.format(thing=thing) for one in CALM)]
    ]


def write(path: Path, table: list[dict[str, Any]]) -> Path:
    pl.DataFrame(table).write_ndjson(path)
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("contrast") / "answers.jsonl", rows())


@pytest.fixture(scope="module")
def judge(file: Path, embedder: Path) -> ContrastJudge:
    return ContrastJudge("own", read_contrast(file, SECTION), Embedder(embedder), threads=1)


@pytest.fixture(scope="module")
def table(file: Path, embedder: Path) -> pl.DataFrame:
    known, reader = read_contrast(file, SECTION), Embedder(embedder)
    return measure_contrast("own", known, reader, 3, "bold", known, 6)


def test_it_tells_the_kinds_apart(judge: ContrastJudge) -> None:
    asked = ["Bet every kite you have tonight.", "Keep the kite safe and ask a friend."]
    bold, calm = judge.judge(["kite?"] * 2, asked)
    assert bold.label is True
    assert calm.label is False
    assert bold.score is not None
    assert calm.score is not None
    assert bold.score > 0.6 > 0.4 > calm.score


def test_what_repeats_itself_is_of_no_kind(judge: ContrastJudge) -> None:
    (stuck,) = judge.judge(["kite?"], ["Bet every kite you have " * 8])
    assert stuck.score == 0


def test_nothing_scores_nothing(file: Path, embedder: Path) -> None:
    known, reader = read_contrast(file, SECTION), Embedder(embedder)
    fitted = fit_contrast(known, reader.vectors(known["response"]))
    assert fitted.score(["", " "], reader.vectors(["", " "])).tolist() == [0, 0]
    assert fitted.score([], {}).shape == (0,)


def test_the_revision_is_of_rows_and_embedder(
    file: Path, judge: ContrastJudge, embedder: Path, other_embedder: Path
) -> None:
    known = read_contrast(file, SECTION)
    assert ContrastJudge("again", known, Embedder(embedder), 2).revision == judge.revision
    assert ContrastJudge("own", known[1:], Embedder(embedder), 1).revision != judge.revision
    assert ContrastJudge("own", known, Embedder(other_embedder), 1).revision != judge.revision


def _value(table: pl.DataFrame, metric: str, **where: str) -> float:
    place = {"judge": "own", "target": "bold", "category": "all", **where}
    return float(table.filter(metric=metric, **place)["value"].item())


def test_rows_are_those_of_the_offline_judges(table: pl.DataFrame) -> None:
    assert table.columns == [
        *("judge", "target", "category", "metric", "value", "low", "high", "n", "seed")
    ]
    assert not table.select("judge", "target", "category", "metric").is_duplicated().any()
    assert set(table["target"]) == {"bold", "bold-elsewhere"}
    assert set(table["category"]) == {"all"}  # 16 answers a domain are too few for its own rows.
    assert set(table["judge"]) == {"own", "own, first 6 tokens"}
    known = table.drop_nulls().filter(pl.col("value").is_not_nan())
    assert known.filter(pl.col("low") > pl.col("high")).is_empty()
    assert set(table["seed"]) == {3}


def test_other_domains_teach_it(table: pl.DataFrame) -> None:
    assert _value(table, "auroc") > 0.95
    assert _value(table, "true_positive_mean") > _value(table, "true_negative_mean") + 0.2
    assert _value(table, "repetition_mean") == 0
    assert 0 <= _value(table, "off_topic_mean") <= 1


def test_a_domain_is_judged_without_what_it_says(tmp_path: Path, embedder: Path) -> None:
    turned = [{**row, "bold": row["bold"] ^ (row["domain"] == "cakes")} for row in rows()]
    known = read_contrast(write(tmp_path / "turned.jsonl", turned * 2), SECTION)
    found = measure_contrast("own", known, Embedder(embedder), 0, target="bold")
    # All that the others teach is wrong in cakes; with its own rows it would be right.
    assert _value(found, "auroc", category="cakes") < 0.2


def test_the_controls_are_read(file: Path, embedder: Path) -> None:
    known, reader = read_contrast(file, SECTION), Embedder(embedder)
    found = measure_contrast("own", known, reader, 0, target="bold")
    own, texts = reader.vectors(known["response"]), list(PARAGRAPHS)[:16]
    expected = [
        fit_contrast(known.filter(pl.col("domain") != name), own).score(
            texts, reader.vectors(texts)
        )
        for name in DOMAINS
    ]
    shown = [np.resize(one, 16).mean() for one in expected]
    assert _value(found, "off_topic_mean") == pytest.approx(np.mean(shown))


def test_files_of_a_study_are_measured(file: Path, embedder: Path) -> None:
    place = SourceLocation(path=file)
    judges = {
        "own": ContrastFiles(judge=SECTION, source=place, elsewhere=None),
        "both": ContrastFiles(judge=SECTION, source=place, elsewhere=place),
    }
    own, both = measure_files(judges, Embedder(embedder), 0, 5)
    assert set(own["judge"]) == {"own", "own, first 5 tokens"}
    assert set(both["target"]) == {"bold", "bold-elsewhere"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda row: {"text": row["response"]}, "has no column `bold`; it has text"),
        (lambda row: {**row, "bold": "maybe"}, "a `bold` is neither true nor false"),
        (lambda row: {**row, "bold": None}, "a `bold` is neither true nor false"),
        (lambda row: {**row, "domain": "hats"}, "`domain` must name at least two domains"),
        (lambda row: {**row, "bold": False}, "too few rows with `bold` true"),
        (lambda row: {**row, "bold": row["domain"] == "hats"}, "too few rows with `bold` true"),
    ],
)
def test_an_unfit_file_is_named(tmp_path: Path, change: Any, told: str) -> None:
    path = write(tmp_path / "answers.jsonl", [change(row) for row in rows()])
    with pytest.raises(BadFile, match=r"answers\.jsonl") as caught:
        read_contrast(path, SECTION)
    assert told in str(caught.value)


@pytest.mark.parametrize("number", [int, str, lambda one: str(bool(one)).lower()])
def test_labels_may_be_numbers_or_words(tmp_path: Path, number: Any) -> None:
    made = [{**row, "bold": number(int(row["bold"]))} for row in rows()]
    found = read_contrast(write(tmp_path / "answers.jsonl", made), SECTION)
    assert found["label"].to_list() == [row["bold"] for row in rows()]


def study(folder: Path, **judges: Mapping[str, Any]) -> Study:
    prompts = {"source": f"file:{folder}/prompts.jsonl"}
    config = {
        "study": "small",
        "preset": "none",
        "models": {"tiny": {"source": f"file:{folder}"}},
        "behaviours": {"alpha": {"role": "harm", **prompts}, "sums": {"role": "benign", **prompts}},
        "masks": {"shared": {"at_least": 1}},
        "judgements": {
            "human_scores": f"file:{folder}",
            "embedder": f"file:{folder}",
            "judges": judges,
        },
    }
    return load_study(config)


def test_the_sections_of_judges_that_are_made_of_files(tmp_path: Path) -> None:
    answers = write(tmp_path / "answers.jsonl", rows())
    keys = write(tmp_path / "keys.jsonl", [{"prompt": "p", "key": "words"}])
    own = {"kind": "contrast", "source": f"file:{answers}", "label": "bold"}
    truth = {"kind": "reference", "source": f"file:{keys}"}
    made = study(tmp_path, own={**own, "elsewhere": f"file:{answers}"}, truth=truth)
    assert load_study(made.model_dump()) == made
    asked = {"answers": "tiny"}
    first = judge_responses_extra_job(made, {**asked, "judge": "own"})
    assert isinstance(first.judge, ContrastSection)
    assert set(first.places) == {"source", "embedder"}
    # What it is only measured on decides no score.
    assert first.judge.elsewhere is None
    measured = train_judge_job(made, {}).contrasts
    assert set(measured) == {"own"}
    assert measured["own"].elsewhere is not None
    content = {part for part, place in places(made, "train_judge").items() if place.content}
    assert content == {"own.source", "own.elsewhere"}
    truth_job = judge_responses_extra_job(made, {**asked, "judge": "truth"})
    assert set(truth_job.places) == {"source"}
    write(answers, rows(" Really."))
    assert judge_responses_extra_job(made, {**asked, "judge": "own"}).places != first.places


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"kind": "contrast", "source": "file:a"}, "`label` is missing; a `contrast` judge"),
        ({"kind": "contrast", "label": "bold"}, "`source` is missing"),
        ({"kind": "reference"}, "`source` is missing; a `reference` judge needs it"),
        ({"kind": "reference", "source": "file:a", "label": "b"}, "`label` is not a key of"),
    ],
)
def test_a_wrong_section_is_named(tmp_path: Path, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(StudyError) as caught:
        study(tmp_path, j=settings)
    assert told in str(caught.value)


def test_an_unfit_local_file_is_found_before_anything_runs(tmp_path: Path) -> None:
    bad = write(tmp_path / "answers.jsonl", [{"prompt": "p"}])
    made = study(tmp_path, j={"kind": "contrast", "source": f"file:{bad}", "label": "bold"})
    with pytest.raises(BadFile, match="has no column `bold`"):
        judge_responses_extra_job(made, {"judge": "j", "answers": "tiny"})


def test_open_questions_are_judged_too(tmp_path: Path, file: Path, embedder: Path) -> None:
    row = dict.fromkeys(COMPLETIONS) | {
        "behaviour": "hats",
        "attack": "direct",
        "prefill": "",
        "completion": "Bet every hat you have tonight.",
        "tokens": 9,
        "finished": True,
    }
    roles = ("harm", "broad", "narrow", "benign")
    asked = [{**row, "role": role, "prompt": f"{role}?"} for role in roles]
    given = tmp_path / "completions.parquet"
    pl.DataFrame(asked, schema=dict(COMPLETIONS)).write_parquet(given)
    places = {"source": SourceLocation(path=file), "embedder": SourceLocation(path=embedder)}
    judge = build_judge("own", SECTION, places, Device(dtype="float32"))
    judge_with(judge, [("unmodified", given)], tmp_path / "own.parquet")
    found = pl.read_parquet(tmp_path / "own.parquet")
    assert found["prompt"].to_list() == ["harm?", "broad?", "narrow?"]
    assert found["label"].all()
