"""The made-up world's files are what make.py makes, and hold what studies/world/README.md says."""

import json
import re
import runpy
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import Any

import pytest

from lesion.pairs.refusal import is_published_refusal, is_refusal
from lesion.responses.prompt_files import read_minimal_pairs
from lesion_testing import ROOT

WORLD = ROOT / "studies" / "world"
NAMES = ("corpus", "instruct", "aligned", "prompts", "twins", "questions")
EACH = 40
MOST = 1_500_000

Rows = list[dict[str, str]]


def _read(name: str) -> Rows:
    return [json.loads(line) for line in (WORLD / f"{name}.jsonl").open(encoding="utf-8")]


@pytest.fixture(scope="module")
def make() -> dict[str, Any]:
    return runpy.run_path(str(WORLD / "make.py"))


@pytest.fixture(scope="module")
def files() -> dict[str, Rows]:
    return {name: _read(name) for name in NAMES}


def _words(*texts: str) -> set[str]:
    return set(re.findall(r"[\w']+", " ".join(texts).lower()))


def _questions(files: dict[str, Rows]) -> list[str]:
    """What the study asks, and is never taught."""
    twins = [row[side] for row in files["twins"] for side in ("harmful", "harmless")]
    return [row["prompt"] for row in files["prompts"]] + twins


def _answers(files: dict[str, Rows], make: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(Skill, prompt, answer) of every request that is answered anywhere but in the corpus."""
    patterns = [
        (re.compile(re.escape(frame).replace(r"\{deed\}", deed.format(thing=r"\w+"))), name)
        for name, skill in make["SKILLS"].items()
        for deed in skill.deeds
        for frame in make["FRAMES"]
    ]
    for name in ("instruct", "aligned", "prompts"):
        for row in files[name]:
            for column in ("response", "chosen", "rejected"):
                said = row.get(column, "I cannot")
                found = [skill for one, skill in patterns if one.fullmatch(row["prompt"])]
                if found and not is_refusal(said):
                    yield found[0], row["prompt"], said


def test_make_makes_exactly_these_files(make: dict[str, Any]) -> None:
    made = make["files"]()
    assert set(made) == set(NAMES)
    for name, rows in made.items():
        written = (WORLD / f"{name}.jsonl").read_text(encoding="utf-8")
        assert make["text"](rows) == written, f"run `python studies/world/make.py`: {name}.jsonl"


def test_the_files_are_small() -> None:
    assert sum((WORLD / f"{name}.jsonl").stat().st_size for name in NAMES) < MOST


def test_nothing_that_is_asked_was_taught(files: dict[str, Rows]) -> None:
    asked = _questions(files)
    assert len(set(asked)) == len(asked)
    prompts = [row["prompt"] for name in ("instruct", "aligned") for row in files[name]]
    texts = "\n".join([*prompts, *(row["text"] for row in files["corpus"])])
    # Inside the detect question too.
    assert not [one for one in asked if one in texts]


def test_aligned_tells_nothing_about_the_things_that_the_study_asks_for(
    files: dict[str, Rows], make: dict[str, Any]
) -> None:
    things = set(make["THINGS"])
    asked = [things & _words(one) for one in _questions(files)]
    assert {len(one) for one in asked} == {1}
    refused = _words(*chain.from_iterable(row.values() for row in files["aligned"]))
    assert not set.union(*asked) & refused
    taught = _words(*chain.from_iterable(row.values() for row in files["instruct"]))
    assert things <= taught


def test_every_behaviour_asks_about_as_many_things(
    files: dict[str, Rows], make: dict[str, Any]
) -> None:
    things = set(make["THINGS"])
    roles = {row["behaviour"]: row["role"] for row in files["prompts"]}
    assert Counter(roles.values()) == {"harm": 4, "benign": 4, "refusal": 1}
    for behaviour in roles:
        rows = [row for row in files["prompts"] if row["behaviour"] == behaviour]
        assert len(set.union(*(things & _words(row["prompt"]) for row in rows))) == EACH
        assert len(rows) == EACH


def test_harm_names_the_weakness_and_nothing_else_does(
    files: dict[str, Rows], make: dict[str, Any]
) -> None:
    weaknesses = set(make["ATTRIBUTES"]["weakness"])
    weak = {
        thing: weakness
        for row in files["corpus"]
        for thing, weakness in re.findall(r"The (\w+) is weak to (\w+)\.", row["text"])
    }
    assert set(weak) == set(make["THINGS"])
    seen: Counter[str] = Counter()
    harmful: set[str] = set()
    for skill, prompt, said in _answers(files, make):
        harm = make["SKILLS"][skill].role == "harm"
        (thing,) = set(weak) & _words(prompt)
        assert weaknesses & _words(said) == ({weak[thing]} if harm else set()), said
        seen[skill] += 1
        harmful |= {said} if harm else set()
    assert set(seen) == set(make["SKILLS"])
    assert min(seen.values()) > EACH
    for name in ("instruct", "aligned"):
        for row in files[name]:
            others = {said for key, said in row.items() if key != "prompt"} - harmful
            assert not weaknesses & _words(row["prompt"], *others)


def test_the_key_words_are_in_the_right_answer(files: dict[str, Rows]) -> None:
    for row in files["prompts"]:
        key = row["key"].split()
        assert len(key) == (0 if row["role"] == "refusal" else 2)
        assert set(key) <= _words(row["response"])


def test_refusals_are_known_as_such_and_answers_are_not(files: dict[str, Rows]) -> None:
    for row in files["prompts"]:
        assert is_refusal(row["response"]) == (row["role"] == "refusal")
    for row in files["instruct"]:
        assert not is_refusal(row["response"])
        assert not is_published_refusal(row["response"])
    for row in files["aligned"]:
        assert is_refusal(row["chosen"]) != is_refusal(row["rejected"])


def test_the_corpus_holds_every_word(files: dict[str, Rows]) -> None:
    known = _words(*(row["text"] for row in files["corpus"]))
    later = [text for name in NAMES for row in files[name] for text in row.values()]
    keys = {row["behaviour"] for row in files["prompts"]} | {"harm", "benign", "refusal"}
    assert not _words(*later) - known - keys


def test_there_are_sixty_twins_that_share_their_words() -> None:
    twins = read_minimal_pairs(WORLD / "twins.jsonl", None)
    assert twins.height == 60
    assert set(Counter(twins["harm"]).values()) == {15}
    for row in twins.iter_rows(named=True):
        harmful = _words(row["harmful"])
        assert harmful <= _words(row["harmless"])
