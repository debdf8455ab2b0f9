"""The judge that knows the right answers."""

from pathlib import Path

import polars as pl
import pytest

from lesion.io.formats import BadFile, sha256_file, write_json
from lesion.judgements.kinds import build_judge
from lesion.judgements.kinds.reference import Reference, read_keys
from lesion.judgements.protocol import Judgement
from lesion.sources.jobs import SourceLocation
from lesion.study.job import Device
from lesion.study.judges import ReferenceSection

ROWS = [
    {"prompt": "What opens the chest?", "key": "Copper key", "note": "a"},
    {"prompt": " Where does the owl live? ", "key": "mill", "note": "b"},
    {"prompt": "Who are you?", "key": None, "note": "c"},
]


def _file(folder: Path, rows: list[dict[str, str | None]]) -> Path:
    path = folder / "keys.jsonl"
    pl.DataFrame(rows).write_ndjson(path)
    return path


def _judged(judge: Reference, prompt: str, response: str) -> Judgement:
    (found,) = judge.judge([prompt], [response])
    return found


@pytest.fixture
def judge(tmp_path: Path) -> Reference:
    return Reference("truth", read_keys(_file(tmp_path, ROWS), "prompt", "key"))


@pytest.mark.parametrize(
    ("response", "score"),
    [
        ("Take the COPPER one: it is the key.", 1.0),
        ("The key is made of tin.", 0.5),
        ("Coppery keys open it.", 0.0),
        ("", 0.0),
    ],
)
def test_the_share_of_words_is_the_score(judge: Reference, response: str, score: float) -> None:
    found = _judged(judge, "What opens the chest?", response)
    assert found == Judgement(0, score, score == 1)


def test_spaces_around_a_prompt_do_not_count(judge: Reference) -> None:
    assert _judged(judge, "Where does the owl live?", "In a mill.").label is True


@pytest.mark.parametrize("prompt", ["Who are you?", "Something else"])
def test_without_a_key_there_is_no_score(judge: Reference, prompt: str) -> None:
    assert _judged(judge, prompt, "I am the mill.") == Judgement(0, None, None)


def test_the_revision_is_of_the_keys_alone(tmp_path: Path, judge: Reference) -> None:
    noted = [{**row, "note": "other"} for row in reversed(ROWS)]
    same = Reference("again", read_keys(_file(tmp_path, noted), "prompt", "key"))
    assert same.revision == judge.revision
    changed = [{**ROWS[0], "key": "iron key"}, *ROWS[1:]]
    other = Reference("other", read_keys(_file(tmp_path, changed), "prompt", "key"))
    assert other.revision != judge.revision


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([{"prompt": "p", "words": "w"}], "has no column `key`; it has prompt, words"),
        ([{"prompt": "p", "key": " ,"}], "no row has a `key`"),
        (
            [{"prompt": "p", "key": "a"}, {"prompt": "p", "key": "b"}],
            "the prompt `p` has two different values of `key`",
        ),
    ],
)
def test_an_unfit_file_is_named(
    tmp_path: Path, rows: list[dict[str, str | None]], told: str
) -> None:
    with pytest.raises(BadFile, match=r"keys\.jsonl") as caught:
        read_keys(_file(tmp_path, rows), "prompt", "key")
    assert told in str(caught.value)


def test_it_is_built_of_a_fetched_file(tmp_path: Path) -> None:
    path = _file(tmp_path, ROWS)
    record = tmp_path / "record.json"
    files = {path.name: {"sha256": sha256_file(path)}}
    write_json({"address": "a", "files": files}, record)
    section = ReferenceSection(kind="reference", source="words", key="note")
    place = {"source": SourceLocation(path=tmp_path, record=record)}
    judge = build_judge("truth", section, place, Device(dtype="float32"))
    assert isinstance(judge, Reference)
    assert judge.keys["Who are you?"] == {"c"}
