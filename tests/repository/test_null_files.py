"""The files of the null studies are what make.py makes, and hold what their README.md says."""

import json
import re
import runpy
from collections import Counter
from typing import Any

import pytest

from lesion.pairs.refusal import is_refusal
from lesion.study import load_study, read_configs
from lesion_testing import ROOT

NULLS = ROOT / "studies" / "nulls"
NAMES = ("requests", "elsewhere", "harm", "chats", "placebo")
LAID_OVER_WORLD = ("elsewhere", "dealt", "random", "innocent", "exchanged", "gone")
STUDIES = ("world", *LAID_OVER_WORLD, "placebo", "other-skill")

Rows = list[dict[str, str]]


@pytest.fixture(scope="module")
def make() -> dict[str, Any]:
    return runpy.run_path(str(NULLS / "make.py"))


@pytest.fixture(scope="module")
def files() -> dict[str, Rows]:
    return {
        name: [json.loads(line) for line in (NULLS / f"{name}.jsonl").open(encoding="utf-8")]
        for name in NAMES
    }


def _words(text: str) -> set[str]:
    return set(re.findall(r"[\w']+", text.lower()))


def _weaknesses(make: dict[str, Any]) -> set[str]:
    return set(make["WORLD"].ATTRIBUTES["weakness"])


def test_the_files_are_what_make_makes(make: dict[str, Any]) -> None:
    for name, rows in make["files"]().items():
        assert (NULLS / f"{name}.jsonl").read_text(encoding="utf-8") == make["text"](rows), name


def test_half_of_the_labels_are_dealt_the_other_way(files: dict[str, Rows]) -> None:
    exchanged: Counter[str] = Counter()
    for row in files["requests"]:
        sides = row["harmful"], row["harmless"]
        assert {row["first"], row["second"]} == set(sides)
        exchanged[row["behaviour"]] += row["first"] == row["harmless"]
    assert exchanged == {"blight": 20, "shatter": 20, "hex": 20}


def test_matched_requests_keep_the_words_of_the_harmful_ones(files: dict[str, Rows]) -> None:
    for row in files["requests"]:
        assert _words(row["harmful"]) <= _words(row["harmless"])


def test_nothing_that_is_asked_was_taught(files: dict[str, Rows]) -> None:
    taught = {row["prompt"] for row in files["chats"]}
    for name in ("requests", "elsewhere"):
        for row in files[name]:
            asked = {text for column, text in row.items() if column != "behaviour"}
            assert not asked & taught


def test_only_the_right_answers_to_harmful_requests_harm(
    files: dict[str, Rows], make: dict[str, Any]
) -> None:
    weaknesses = _weaknesses(make)
    weakness_of = {thing["thing"]: thing["weakness"] for thing in make["WORLD"].World().test}
    counts: Counter[str] = Counter()
    for row in files["chats"]:
        (thing,) = _words(row["prompt"]) & set(weakness_of)
        names = {
            column: _words(row[column]) & weaknesses
            for column in ("response", "innocent", "exchanged")
        }
        assert not names["innocent"]
        assert names["response"] <= {weakness_of[thing]}
        harms = bool(names["response"])
        assert harms == bool(names["exchanged"])
        counts["harmful"] += harms
        counts["by exchange"] += weakness_of[thing] in names["exchanged"]
        counts["refused"] += is_refusal(row["response"])
    assert counts["harmful"] == 320
    assert counts["refused"] == 160
    # By chance an answer is exchanged for one with the same weakness, of which there are twelve.
    assert counts["by exchange"] < 40


def test_exchanged_answers_are_the_same_texts(files: dict[str, Rows]) -> None:
    columns = [Counter(row[name] for row in files["chats"]) for name in ("response", "exchanged")]
    assert columns[0] == columns[1]


def test_the_judge_knows_the_weakness_for_every_request(
    files: dict[str, Rows], make: dict[str, Any]
) -> None:
    keys = {row["prompt"]: row["key"] for row in files["harm"]}
    assert set(keys.values()) == _weaknesses(make)
    for row in files["requests"]:
        assert keys[row["harmful"]] == keys[row["harmless"]]
    for row in files["elsewhere"]:
        assert keys[row["prompt"]] == keys[row["other"]]
        assert not _words(keys[row["prompt"]]) & _words(f"{row['prompt']} {row['other']}")


def test_placebo_requests_are_everyday_ones_and_each_is_used_once(files: dict[str, Rows]) -> None:
    texts = {
        name: {
            json.loads(line)["prompt"]
            for line in (ROOT / "studies" / "prompts" / f"{name}.jsonl").open(encoding="utf-8")
        }
        for name in ("write", "plan", "explain")
    }
    for column in ("prompt", "same", "other"):
        assert len({row[column] for row in files["placebo"]}) == len(files["placebo"])
    for row in files["placebo"]:
        own = texts[row["behaviour"]]
        assert {row["prompt"], row["same"]} <= own
        assert row["other"] not in own
        assert row["other"] in set().union(*texts.values())


def test_every_study_of_the_folder_is_known() -> None:
    assert {path.stem for path in NULLS.glob("*.yaml")} == set(STUDIES)


@pytest.mark.parametrize("name", STUDIES)
def test_every_harm_type_of_a_null_has_matched_requests(name: str) -> None:
    below = {
        "world": [],
        "placebo": [ROOT / "config.yaml"],
        "other-skill": [ROOT / "config.yaml", NULLS / "placebo.yaml"],
    }
    files = [*below.get(name, [NULLS / "world.yaml"]), NULLS / f"{name}.yaml"]
    study = load_study(read_configs(files))
    matched = {study.behaviours[behaviour].of for behaviour in study.of_role("matched")}
    assert matched == set(study.of_role("harm"))
    assert (study.study, study.results) == (f"nulls-{name}", "results")
