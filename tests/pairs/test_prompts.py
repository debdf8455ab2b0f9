from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lesion.io.formats import BadFile, LesionError
from lesion.pairs.jobs import PromptsJob, RowSelection
from lesion.pairs.prompts import (
    STRADDLES,
    assign,
    given_responses,
    prompts_table,
    read_rows,
    select_prompts,
    write_prompts,
)
from lesion.pairs.similarity import near_pairs
from lesion.sources.jobs import SourceLocation
from lesion.study.behaviours import Where
from lesion.study.sections import Split
from lesion_testing import make

SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}
NEAR = 0.6
PATH = Path("prompts.jsonl")


def _prompts(count: int = 60) -> list[str]:
    """Prompts of which every third is the one before, slightly changed."""
    plain = [row["prompt"] for row in make.prompts("alpha", count)]
    return [
        f"{plain[place - 1]} please" if place % 3 == 2 else prompt
        for place, prompt in enumerate(plain)
    ]


def _assign(prompts: list[str], seed: int = 0) -> list[str]:
    return assign(prompts, SHARES, NEAR, seed)


def _where(**words: Any) -> Where:
    return Where(**{"column": "kind", **words})


def _behaviour(**changes: Any) -> RowSelection:
    return RowSelection(**changes)


def _job(**changes: Any) -> PromptsJob:
    settings = {
        "behaviour": "alpha",
        "source": SourceLocation(path=PATH),
        "rows": _behaviour(),
        "responses": None,
        "split": Split(**SHARES),
        "wordings": ["{prompt}"],
        "near_duplicate": NEAR,
        "need": 12,
        "seed": 0,
    }
    return PromptsJob(**{**settings, **changes})


def _rows(**columns: list[Any]) -> pl.DataFrame:
    return pl.DataFrame(columns)


def test_near_duplicates_never_straddle() -> None:
    prompts = _prompts()
    splits = _assign(prompts)
    assert set(splits) == set(SHARES)
    pairs = near_pairs(prompts, NEAR)
    near = [(a, b) for a, b in zip(pairs.rows, pairs.others, strict=True) if a < b]
    assert len(near) >= 20
    assert all(splits[a] == splits[b] for a, b in near if STRADDLES not in (splits[a], splits[b]))


def test_a_prompt_between_two_splits_is_left_out() -> None:
    plain = [row["prompt"] for row in make.prompts("alpha", 30)]
    splits = _assign(plain)
    a = plain[0]
    b = next(one for one, split in zip(plain, splits, strict=True) if split != splits[0])
    found = assign([*plain, f"{a} {b}"], SHARES, 0.5, 0)
    assert found[:-1] == splits
    assert found[-1] == STRADDLES
    rows = _rows(prompt=[*plain, f"{a} {b}"], response=[None] * 31)
    table = prompts_table(rows, _job(near_duplicate=0.5))
    assert table["prompt"].to_list() == plain


def test_appending_prompts_changes_no_earlier_split() -> None:
    prompts = _prompts()
    whole = _assign(prompts)
    for count in (1, 20, 41):
        assert _assign(prompts[:count]) == whole[:count]


def test_removing_a_prompt_touches_only_what_resembles_it() -> None:
    prompts = [row["prompt"] for row in make.prompts("beta", 40)]
    splits = _assign(prompts)
    assert _assign(prompts[:7] + prompts[8:]) == splits[:7] + splits[8:]


def test_the_seed_draws_other_splits_and_shares_are_kept() -> None:
    prompts = [f"{number} {row['prompt']}" for number, row in enumerate(make.prompts("sums", 400))]
    one = _assign(prompts)
    assert one != _assign(prompts, seed=1)
    for split, share in SHARES.items():
        assert one.count(split) / 400 == pytest.approx(share, abs=0.08)


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ({"equals": "prank"}, ["a"]),
        ({"contains": "prank"}, ["a", "b", "c"]),
        ({"first": "prank"}, ["a"]),
        ({"contains": "."}, []),
        ({"contains": "prank", "lacks": "a "}, ["a", "c"]),
        ({"lacks": ["a ", "pranks"]}, ["a"]),
    ],
)
def test_filters_on_text(where: dict[str, Any], kept: list[str]) -> None:
    rows = _rows(prompt=list("abcd"), kind=["prank", "a prank", "pranks", None])
    found = select_prompts(rows, PATH, _behaviour(where=_where(**where)), 0)
    assert found["prompt"].to_list() == kept


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ({"contains": "prank"}, ["a", "b"]),
        ({"first": "prank"}, ["a"]),
        ({"contains": "joke", "lacks": "prank"}, []),
        ({"contains": "prank", "lacks": ["pranks", "hoax"]}, ["a", "b"]),
        ({"lacks": "joke"}, ["c", "d"]),
        ({"first": "prank", "lacks": ["joke"]}, []),
    ],
)
def test_filters_on_lists(where: dict[str, Any], kept: list[str]) -> None:
    kinds = [["prank", "joke"], ["joke", "prank"], ["pranks"], []]
    rows = _rows(prompt=list("abcd"), kind=kinds)
    found = select_prompts(rows, PATH, _behaviour(where=_where(**where)), 0)
    assert found["prompt"].to_list() == kept


def test_equals_compares_numbers_as_text() -> None:
    rows = _rows(prompt=["a", "b"], kind=[1, 10])
    found = select_prompts(rows, PATH, _behaviour(where=_where(equals="1")), 0)
    assert found["prompt"].to_list() == ["a"]


@pytest.mark.parametrize(
    ("kinds", "wanted"),
    [
        ([True, False, None, False], ["True", "true", "TRUE", "yes", "1"]),
        (["True", "False", None, "true "], ["True", "true", "yes"]),
        (["yes", "no", None, "no"], ["true", "yes"]),
        ([3, 30, None, 4], ["3", "3.0", " 3"]),
        ([3.0, 3.5, None, 4.0], ["3", "3.0"]),
        (["3", "03", None, "3.0"], ["3"]),
        ([3, "x", None, [3]], []),
    ],
)
def test_equals_knows_truth_values_and_numbers(kinds: list[Any], wanted: list[str]) -> None:
    mixed = pl.Object if len({type(one) for one in kinds if one is not None}) > 1 else None
    rows = _rows(prompt=list("abcd")).with_columns(kind=pl.Series(kinds, dtype=mixed))
    for value in wanted:
        found = select_prompts(rows, PATH, _behaviour(where=_where(equals=value)), 0)[
            "prompt"
        ].to_list()
        assert found == (["a", "d"] if kinds[3] in ("true ",) else ["a"]), value
    if not wanted:
        with pytest.raises(BadFile, match=r"row 4: the filter .*\[3\]: it is a list; use `first`"):
            select_prompts(rows, PATH, _behaviour(where=_where(equals="3")), 0)


@pytest.mark.parametrize(
    ("said", "text"),
    [(True, "true"), (False, "false"), (3, "3"), (0.5, "0.5"), ("x", "x"), (None, None)],
)
def test_a_filter_takes_what_yaml_makes_of_its_value(said: Any, text: str | None) -> None:
    where = Where.model_validate({"column": "kind", "equals": said, "first": None if text else "y"})
    assert where.equals == text


@pytest.mark.parametrize(
    ("kinds", "where", "said"),
    [
        ([1, 2], {"contains": "1"}, "row 1: .* it is no text or list; use `equals`"),
        ([True, None], {"contains": "t"}, "row 1: .* it is no text or list; use `equals`"),
        ([["a"], ["b"]], {"equals": "a"}, "row 1: .* it is a list; use `first` or `contains`"),
        ([{"a": 1}, None], {"equals": "a"}, "row 1: .* it is a structure"),
    ],
)
def test_a_filter_that_does_not_fit_its_column(
    kinds: list[Any], where: dict[str, str], said: str
) -> None:
    with pytest.raises(BadFile, match=rf"prompts\.jsonl, {said}"):
        select_prompts(
            _rows(prompt=["a", "b"], kind=kinds), PATH, _behaviour(where=_where(**where)), 0
        )


def test_a_filter_that_leaves_nothing_names_what_there_is() -> None:
    rows = _rows(prompt=list("abcde"), kind=[True, False, True, None, True])
    with pytest.raises(BadFile, match=r"`kind` has true \(3\), false \(1\), null \(1\)\."):
        select_prompts(rows, PATH, _behaviour(where=_where(equals="ja")), 1)
    rows = _rows(prompt=["a", "b"], kind=[["x", "y"], ["x"]])
    with pytest.raises(BadFile, match=r'`kind` has "x" \(2\), "y" \(1\)\.'):
        select_prompts(rows, PATH, _behaviour(where=_where(first="y")), 1)
    rows = _rows(prompt=list("abcdefgh"), kind=list("abcdefgh"))
    with pytest.raises(BadFile, match=r'`kind` has 8 different values, such as "a"'):
        select_prompts(rows, PATH, _behaviour(where=_where(equals="x")), 1)


def test_rows_that_are_left_out_are_said_with_the_first_one(tmp_path: Path) -> None:
    rows = [
        *({"prompt": one, "answer": one} for one in "abc"),
        {"answer": "x"},
        {"prompt": " \u2060", "answer": "x"},
        {"prompt": "d"},
        {"prompt": "e", "answer": "\u200b "},
        {"prompt": " a", "answer": "a"},
        {"prompt": "b", "answer": "another"},
    ]
    path = make.write_rows(tmp_path / "p.jsonl", rows)
    said: list[str] = []
    again = "that repeat an earlier prompt (1 of them with another response)"
    found = select_prompts(read_rows(path), path, _behaviour(response="answer"), 3, said.append)
    assert found.rows() == [(one, one, None) for one in "abc"]
    assert said == [
        f"rows without a `prompt` are left out: 2, the first of them {path}, line 4",
        f"rows without a `answer` are left out: 2, the first of them {path}, line 6",
        f"rows {again} are left out: 2, the first of them {path}, line 8",
    ]
    with pytest.raises(BadFile, match=r"gives 3 prompts.* rows without a `answer` are left out: 2"):
        select_prompts(read_rows(path), path, _behaviour(response="answer"), 12)


def test_the_table_of_prompts_is_written_and_the_log_says_what_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = [{"prompt": row["prompt"]} for row in make.prompts("alpha", 40)]
    path = make.write_rows(tmp_path / "p.jsonl", [*prompts, {"prompt": None}])
    job = _job(source=SourceLocation(path=path), near_duplicate=0.99)
    write_prompts(tmp_path / "out.parquet", job)
    said = capsys.readouterr().err
    assert (
        f"alpha: rows without a `prompt` are left out: 1, the first of them {path}, line 41" in said
    )
    assert "alpha: 40 prompts: train" in said
    assert pl.read_parquet(tmp_path / "out.parquet")["prompt"].len() == 40


def test_a_wording_changes_no_split_and_no_other_prompt(tmp_path: Path) -> None:
    path = make.write_rows(tmp_path / "p.jsonl", make.prompts("alpha", 60))
    wordings = ["{prompt}", "Is this possible? {prompt}", "You are a clerk. {prompt} Be brief."]
    tables = []
    for used in (["{prompt}"], wordings, [*wordings[:2], "Now: {prompt}"]):
        write_prompts(
            tmp_path / "out.parquet", _job(source=SourceLocation(path=path), wordings=used)
        )
        tables.append(pl.read_parquet(tmp_path / "out.parquet"))
    plain, worded, other = tables
    assert worded["split"].to_list() == plain["split"].to_list()
    pairs = list(zip(plain["prompt"], worded["prompt"], strict=True))
    used = [text.replace(prompt, "{prompt}") for prompt, text in pairs]
    assert set(used) == set(wordings)
    assert all(12 <= used.count(wording) <= 28 for wording in wordings)
    same = [a == b for a, b in zip(worded["prompt"], other["prompt"], strict=True)]
    assert same == [text != wordings[2] for text in used]


def test_near_duplicates_that_leave_a_split_empty_are_named() -> None:
    prompts = [f"Write a convincing letter for the game to {word}" for word in make.WORDS[:40]]
    rows = _rows(prompt=prompts, response=[None] * 40)
    with pytest.raises(LesionError) as caught:
        prompts_table(rows, _job())
    said = str(caught.value)
    assert "39 of them resemble an earlier one" in said
    assert f'"{prompts[0]}" and "{prompts[1]}" (similarity 0.' in said
    assert "raise `pairs.near_duplicate`" in said
    assert "seed" not in said


def test_given_responses_without_a_text_are_named(tmp_path: Path) -> None:
    for row in ({"response": None}, {"other": 1}, {"response": " "}):
        path = make.write_rows(tmp_path / "r.jsonl", [{"response": "no"}, row])
        with pytest.raises(BadFile, match=r"r\.jsonl, line 2: has an empty `response`"):
            given_responses(path)
    path = make.write_rows(tmp_path / "r.jsonl", [{"response": "no"}, {"response": 3}])
    with pytest.raises(BadFile, match=r"r\.jsonl, line 2: its `response` is the number 3"):
        given_responses(path)


def test_empty_and_repeated_prompts_are_dropped_before_the_limit() -> None:
    rows = _rows(prompt=[" a ", "", None, "a", "b", "  ", "c"], answer=list("1234567"))
    found = select_prompts(rows, PATH, _behaviour(response="answer", limit=2), 0)
    assert found.rows() == [("a", "1", None), ("b", "5", None)]


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("prompt", {"prompt": "absent"}),
        ("response", {"response": "absent"}),
        ("harmful", {"harmful": "absent"}),
        ("where.column", {"where": _where(column="absent", equals="x")}),
    ],
)
def test_a_missing_column_is_named_with_its_key_and_those_there_are(
    key: str, changes: dict[str, Any]
) -> None:
    with pytest.raises(BadFile) as caught:
        select_prompts(_rows(prompt=["a"], id=["1"]), PATH, _behaviour(**changes), 0)
    assert str(caught.value) == (
        "prompts.jsonl: has no column `absent`; it has prompt, id. Set the behaviour's "
        f"`{key}` to one of them"
    )


def test_other_separators_are_named_instead_of_a_key() -> None:
    with pytest.raises(BadFile, match=r"separated by ';'\? Use commas$"):
        select_prompts(_rows(**{"prompt;id": ["a;1"]}), PATH, _behaviour(), 0)


def test_too_few_prompts_are_an_error_with_the_filter() -> None:
    rows = _rows(prompt=["a", "b"], kind=["x", "y"])
    with pytest.raises(BadFile, match=r"gives 1 prompts after the filter .*equals='x'.* least 2"):
        select_prompts(rows, PATH, _behaviour(where=_where(equals="x")), 2)


def test_a_split_with_too_few_prompts_is_named() -> None:
    rows = _rows(prompt=[row["prompt"] for row in make.prompts("alpha", 8)], response=[None] * 8)
    shares = {"train": 0.98, "validation": 0.01, "test": 0.01}
    with pytest.raises(LesionError, match=r"`alpha`: only 0 of its 8 prompts .* `validation`"):
        prompts_table(rows, _job(split=Split(**shares)))


def test_given_responses_go_round() -> None:
    rows = _rows(prompt=[row["prompt"] for row in make.prompts("alpha", 40)], response=[None] * 40)
    table = prompts_table(rows, _job(near_duplicate=1.1), ["no", "never"])
    assert table["response"].to_list() == ["no", "never"] * 20


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet", ".prompt"])
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    rows = _rows(prompt=["a: b", "c\nd"], kind=["x", "y"])
    path = tmp_path / f"prompts{suffix}"
    if suffix == ".jsonl":
        rows.write_ndjson(path)
    elif suffix == ".csv":
        rows.write_csv(path)
    elif suffix == ".parquet":
        rows.write_parquet(path)
    else:
        path.write_text('seeds:\n- {value: "a: b", kind: x}\n- {value: "c\\nd", kind: y}\n')
    assert read_rows(path).select("prompt", "kind").rows() == rows.rows()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", "{"),
        ("a.parquet", "PAR1"),
        ("a.prompt", "seeds: 1"),
        ("a.prompt", "x: [1"),
        ("a.txt", "a"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(BadFile, match=name):
        read_rows(tmp_path / name)
    with pytest.raises(BadFile, match="no such file"):
        read_rows(tmp_path / f"other-{name}")
