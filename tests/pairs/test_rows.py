"""Reading the tables that users bring: what a file says, or a refusal that names it."""

import json
import os
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lesion.io.formats import BadFile
from lesion.pairs.rows import location_of, read_rows, required_texts, texts

ROWS = [{"prompt": "a: b", "kind": "x"}, {"prompt": "c, d", "kind": "y"}]


def _lines(path: Path, rows: Sequence[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _complaint(path: Path, *columns: str) -> str:
    with pytest.raises(BadFile) as caught:
        read_rows(path, columns)
    said = str(caught.value)
    assert str(path) in said
    return said


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", json.dumps(ROWS)),
        ("a.json", json.dumps(ROWS, indent=2)),
        ("a.json", "".join(json.dumps(row) + "\n" for row in ROWS)),
        ("a.ndjson", "\n\n".join(json.dumps(row) for row in ROWS)),
        ("a.tsv", "prompt\tkind\na: b\tx\nc, d\ty\n"),
        ("a.csv", 'prompt , kind\na: b,x\n\n"c, d",y\n'),
        ("A.CSV", '"prompt","kind"\r\n"a: b","x"\r\n"c, d","y"\r\n'),
        ("a.yaml", "seeds:\n- {value: 'a: b', kind: x}\n- {value: 'c, d', kind: y}\n"),
        ("a.prompt", "prompts:\n- {value: 'a: b', kind: x}\n- {value: 'c, d', kind: y}\n"),
        ("a.yml", "- {value: 'a: b', kind: x}\n- {value: 'c, d', kind: y}\n"),
    ],
)
def test_forms_of_the_same_rows(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_bytes(text.encode())
    assert read_rows(path).select("prompt", "kind").rows(named=True) == ROWS


def test_what_csv_says_is_text(tmp_path: Path) -> None:
    table = read_rows(_written(tmp_path / "a.csv", "prompt,n\n007,1.50\n1e3,\n"))
    assert table.rows() == [("007", "1.50"), ("1e3", None)]


def test_what_json_says_keeps_its_kind(tmp_path: Path) -> None:
    values = [1, "1", True, None, 1.5, ["a"], {"b": 1}]
    table = read_rows(_lines(tmp_path / "a.jsonl", [{"mixed": value} for value in values]))
    assert table["mixed"].to_list() == values


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.jsonl", '{"prompt": "a"}\n{"prompt": "b"', "line 2: could not be read: it is not a"),
        ("a.jsonl", '[{"prompt": "a"}]', "line 1: could not be read: it is a list"),
        ("a.jsonl", '{\n"prompt": "a"\n}', "Each line must be one"),
        ("a.jsonl", '{"prompt": "a"}\n\nnull\n', "line 3: could not be read: it is null"),
        ("a.jsonl", '{"prompt": "a", "prompt": "b"}', "the key `prompt` is given twice"),
        ("a.jsonl", '{"prompt": "\\ud800"}', "line 1"),
        ("a.jsonl", "\n\n", "holds no rows"),
        ("a.jsonl", "[" * 100_000, "line 1"),
        ("a.json", '{"rows": [{"prompt": "a"}],\n"more": 1}', "is not a list of objects"),
        ("a.json", '["a"]', "row 1: could not be read: it is a text"),
        ("a.csv", "prompt,kind\na,b,c\n", "line 2: could not be read: it has 3 fields"),
        ("a.csv", "prompt,kind\na\n", "it has 1 fields"),
        ("a.csv", 'prompt,kind\n"a,b\nc,d\n', "line 2: could not be read: its quotes"),
        ("a.csv", 'prompt,kind\n"a"b,c\n', "line 2: could not be read: its quotes"),
        ("a.csv", "prompt,prompt\na,b\n", "two columns `prompt`"),
        ("a.csv", "prompt\na\nprompt\nb\n", "line 3: could not be read: it repeats the header"),
        ("a.csv", "prompt,kind\n", "holds no rows"),
        ("a.csv", "", "holds no rows"),
        ("a.csv", "<!DOCTYPE html>\n<html></html>\n", "is a web page"),
        ("a.jsonl", "  <html lang='en'>", "is a web page"),
        ("a.prompt", "seeds: 1\n", "has a list `seeds`"),
        ("a.prompt", "value: 'x {{ prompt }}'\n", "goes into `responses.templates`"),
        ("a.prompt", "seeds: []\nseeds: []\n", "`seeds` is given twice"),
        ("a.prompt", "seeds:\n- 3\n", "seed 1: could not be read: it is the number 3"),
        ("a.parquet", "prompt", "is not a complete parquet file"),
        ("a.xlsx", "PK", "Save the sheet as CSV"),
        ("a.jsonl.gz", "\x1f", "Unpack it first"),
        ("a.pkl", "x", "Export it as"),
        ("a", "x", "tables are read from .jsonl"),
    ],
)
def test_a_file_that_says_nothing_clear_is_named(
    tmp_path: Path, name: str, text: str, said: str
) -> None:
    assert said in _complaint(_written(tmp_path / name, text))


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_other_separators_are_named(tmp_path: Path, mark: str) -> None:
    path = _written(tmp_path / "a.csv", f"prompt{mark}kind\na{mark}b\n")
    said = _complaint(path, "prompt")
    assert "has no column `prompt`; it has prompt" in said
    assert f"separated by {mark!r}" in said


def test_long_fields_are_read(tmp_path: Path) -> None:
    path = _written(tmp_path / "a.csv", "prompt\n" + "x" * 300_000 + "\n")
    assert len(read_rows(path)["prompt"][0]) == 300_000


def test_a_name_is_no_pattern(tmp_path: Path) -> None:
    path = tmp_path / "kind=z" / "a[1]*.parquet"
    path.parent.mkdir()
    pl.DataFrame(ROWS).write_parquet(path)
    assert read_rows(path).rows(named=True) == ROWS


OF_JSON: list[tuple[Any, str]] = [
    ([{"role": "user", "content": "a"}], "a list of messages"),
    (["a"], "a list"),
    ({"text": "a"}, "a structure"),
    (3, "the number 3"),
    (float("nan"), "the number nan"),
    (True, "the truth value true"),
]
OF_PARQUET = [*OF_JSON, (date(2026, 1, 1), "a date"), (b"a", "binary data")]


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        *(("jsonl", *one) for one in OF_JSON),
        *(("parquet", *one) for one in OF_PARQUET),
    ],
)
def test_a_column_of_something_else_is_named(
    tmp_path: Path, kind: str, value: Any, said: str
) -> None:
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        pl.DataFrame({"prompt": [None, value]}).write_parquet(path)
    else:
        _lines(path, [{"prompt": "a"}, {}, {"prompt": value}])
    with pytest.raises(BadFile) as caught:
        texts(read_rows(path), "prompt", path)
    place = "line 3" if kind == "jsonl" else "row 2"
    assert str(caught.value) == (
        f"{path}, {place}: its `prompt` is {said} and not a text. Give a column of texts."
    )


def test_texts_of_a_few_kinds_are_texts(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame({"prompt": ["a", None, "a"]}, schema={"prompt": pl.Categorical}).write_parquet(
        path
    )
    assert texts(read_rows(path), "prompt", path) == ["a", None, "a"]


@pytest.mark.parametrize("empty", [None, "", " \n"])
def test_a_row_without_a_text_is_named(tmp_path: Path, empty: str | None) -> None:
    path = _lines(tmp_path / "a.jsonl", [{"response": "no"}, {"response": empty}])
    with pytest.raises(BadFile, match=r"a\.jsonl, line 2: has an empty `response`"):
        required_texts(read_rows(path), "response", path)
    assert required_texts(read_rows(path), "response", path, limit=1) == ["no"]


# Encodings


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.tsv", "a.prompt"])
def test_marks_and_line_ends_change_nothing(tmp_path: Path, name: str) -> None:
    texts_ = {
        "a.jsonl": '{"prompt": "é"}\n{"prompt": "b"}\n',
        "a.json": '[{"prompt": "é"},\n{"prompt": "b"}]\n',
        "a.csv": "prompt,n\né,1\nb,2\n",
        "a.tsv": "prompt\tn\né\t1\nb\t2\n",
        "a.prompt": "seeds:\n- value: é\n- value: b\n",
    }
    path = tmp_path / name
    for end in ("\n", "\r\n", "\r"):
        path.write_bytes(texts_[name].replace("\n", end).encode("utf-8-sig"))
        assert read_rows(path)["prompt"].to_list() == ["é", "b"]
    for encoding, said in (
        ("utf-16", "it is in UTF-16"),
        ("utf-16-le", "NUL"),
        ("utf-32", "it is in UTF-32"),
        ("latin-1", "is not in UTF-8"),
    ):
        path.write_bytes(texts_[name].encode(encoding))
        complaint = _complaint(path)
        assert said in complaint
        assert "Save it as UTF-8" in complaint


def test_joined_files_keep_no_mark(tmp_path: Path) -> None:
    one = '{"prompt": "a"}\n'.encode("utf-8-sig")
    (tmp_path / "a.jsonl").write_bytes(one + one)
    assert read_rows(tmp_path / "a.jsonl")["prompt"].to_list() == ["a", "a"]


# Folders


def _folder(folder: Path, *names: str) -> Path:
    for name in names:
        stem = name.rpartition("/")[2].rpartition(".")[0]
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".parquet"):
            pl.DataFrame({"prompt": [name]}).write_parquet(path)
        elif name.endswith(".csv"):
            path.write_text(f"prompt\n{name}\n", encoding="utf-8")
        elif name.endswith(".jsonl"):
            _lines(path, [{"prompt": name}])
        else:
            path.write_text(stem, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("names", "read"),
    [
        (["a.csv"], ["a.csv"]),
        (["data/a.jsonl", "README.md", ".gitattributes", "LICENSE.txt"], ["data/a.jsonl"]),
        (["a.jsonl", "dataset_infos.json", ".cache/b.jsonl", "__MACOSX/a.jsonl"], ["a.jsonl"]),
        (["test.jsonl", "train.jsonl", "valid.jsonl"], ["train.jsonl"]),
        (["test.jsonl"], ["test.jsonl"]),
        (["x-test.csv", "x-train.csv"], ["x-train.csv"]),
        (["test/0.parquet", "train/0.parquet"], ["train/0.parquet"]),
        (
            [f"data/train-{part}-of-00002.parquet" for part in ("00000", "00001")]
            + ["data/test-00000-of-00001.parquet"],
            [f"data/train-{part}-of-00002.parquet" for part in ("00000", "00001")],
        ),
        (
            [f"train-{part}-of-00002-0123456789abcdef.parquet" for part in ("00000", "00001")],
            [f"train-{part}-of-00002-0123456789abcdef.parquet" for part in ("00000", "00001")],
        ),
        (
            [f"part-{part}.jsonl" for part in range(11)],
            [f"part-{part}.jsonl" for part in range(11)],
        ),
        (["2.csv", "1.csv"], ["1.csv", "2.csv"]),
    ],
)
def test_files_that_are_one_table(tmp_path: Path, names: list[str], read: list[str]) -> None:
    assert read_rows(_folder(tmp_path / "d", *names))["prompt"].to_list() == read


def test_lists_of_several_parts_are_lists(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for part, kinds in enumerate((["a", "b"], ["c"])):
        _lines(tmp_path / "d" / f"part-{part}.jsonl", [{"prompt": "p", "kinds": kinds}])
    table = read_rows(tmp_path / "d")
    assert table.schema["kinds"] == pl.List(pl.String)
    assert table["kinds"].to_list() == [["a", "b"], ["c"]]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["harmful-behaviors.csv", "benign-behaviors.csv"], "holds several tables"),
        (["a.jsonl", "b.jsonl"], "holds several tables: a.jsonl, b.jsonl"),
        (["train.jsonl", "train.csv"], "holds several tables"),
        (["harmful/train.csv", "benign/train.csv"], "holds several tables"),
        (["harmful-train.csv", "benign-test.csv"], "holds several tables"),
        (["train.jsonl", "labels.jsonl"], "holds several tables"),
        (["advbench1.csv", "advbench2.csv"], "holds several tables"),
        (["a.jsonl", "b.jsonl.gz"], "holds several tables: a.jsonl, b.jsonl.gz"),
        (["part-1.jsonl", "part-3.jsonl"], "holds several tables"),
        (["test.jsonl", "valid.jsonl"], "has the splits test, validation, and none is `train`"),
        (["train-00000-of-00002.parquet"], "some of its parts are missing"),
        (["a.xlsx"], "Save the sheet as CSV"),
        (["data-00000-of-00001.arrow", "state.json"], "Export it as"),
        (["README.md", "a.txt"], "holds no table that can be read"),
        ([], "it holds no file"),
    ],
)
def test_a_folder_that_is_no_one_table_is_named(
    tmp_path: Path, names: list[str], said: str
) -> None:
    folder = _folder(tmp_path / "d", *names)
    folder.mkdir(exist_ok=True)
    complaint = _complaint(folder)
    assert said in complaint
    assert "load_dataset" not in complaint
    if "several" in said:
        assert f"`file:{folder}/" in complaint
        assert all(name in complaint for name in names)


def test_only_what_can_be_read_is_said_to_be(tmp_path: Path) -> None:
    said = _complaint(_folder(tmp_path / "d", "a.txt"))
    suffixes = said.partition("(")[2].partition(")")[0].split(", ")
    assert ".jsonl" in suffixes
    for suffix in suffixes:
        assert "tables are read from" not in _complaint(_written(tmp_path / f"a{suffix}", "{"))


def test_parts_with_other_columns_are_named(tmp_path: Path) -> None:
    folder = _folder(tmp_path, "part-0.csv")
    _written(folder / "part-1.csv", "text\nb\n")
    with pytest.raises(BadFile, match=r"part-1\.csv: has the columns text, and part-0\.csv"):
        read_rows(folder)


CONFIGS = "---\nconfigs:\n{}\n---\n# A data set\n"


@pytest.mark.parametrize(
    ("configs", "read"),
    [
        ("- {config_name: harmful, data_files: h.csv}", ["h.csv"]),
        ("- config_name: x\n  data_files: [b.csv, h.csv]", ["b.csv", "h.csv"]),
        ("- config_name: x\n  data_files: {train: h.csv, test: b.csv}", ["h.csv"]),
        ("- config_name: x\n  data_files:\n  - {split: train, path: [b.csv]}", ["b.csv"]),
        ("- config_name: x\n  data_files:\n  - {split: test, path: '*h.csv'}", ["h.csv"]),
        (
            "- {config_name: x, data_files: h.csv}\n- {default: true, data_files: b.csv}",
            ["b.csv"],
        ),
    ],
)
def test_the_readme_says_what_the_tables_are(tmp_path: Path, configs: str, read: list[str]) -> None:
    folder = _folder(tmp_path / "d", "b.csv", "h.csv")
    _written(folder / "README.md", CONFIGS.format(configs))
    assert read_rows(folder)["prompt"].to_list() == read


@pytest.mark.parametrize(
    ("configs", "said"),
    [
        (
            "- {config_name: bad, data_files: h.csv}\n- {config_name: good, data_files: b.csv}",
            "has the configurations bad, good: h.csv, b.csv. Name one file",
        ),
        ("- {config_name: x, data_files: {a: h.csv, b: b.csv}}", "has the splits a, b"),
        ("- {config_name: x, data_files: c.csv}", "which match no table"),
        ("- {config_name: x, data_files: /etc/passwd}", "which match no table"),
        ("- {config_name: x, data_files: ../*.csv}", "which match no table"),
        ("- {config_name: x, data_dir: none}", "without a table"),
        ("- [", "is not valid YAML"),
    ],
)
def test_a_readme_that_leaves_it_open_is_named(tmp_path: Path, configs: str, said: str) -> None:
    folder = _folder(tmp_path / "d", "b.csv", "h.csv")
    _folder(tmp_path, "other.csv")
    _written(folder / "README.md", CONFIGS.format(configs))
    assert said in _complaint(folder)


def test_a_file_changed_within_the_same_second_is_read_anew(tmp_path: Path) -> None:
    path = _lines(tmp_path / "train.jsonl", [{"prompt": "one"}])
    assert read_rows(tmp_path)["prompt"].to_list() == ["one"]
    before = path.stat()
    _lines(path, [{"prompt": "two"}])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert read_rows(tmp_path)["prompt"].to_list() == ["two"]


def test_a_row_of_a_folder_is_found_in_its_file(tmp_path: Path) -> None:
    folder = _folder(tmp_path, *(f"part-{part}.jsonl" for part in range(3)))
    assert location_of(folder, 2) == f"{folder}/part-2.jsonl, line 1"


# PyRIT


@pytest.mark.parametrize(
    ("seed", "said"),
    [
        ("{value: a.png, data_type: image_path}", 'has the `data_type` "image_path"'),
        ("{value: a, role: assistant}", 'has the `role` "assistant"'),
        ("{value: a, seed_type: simulated_conversation}", "`seed_type`"),
        ("{value: 'a {{ tone }}', parameters: [tone]}", 'is a template that needs ["tone"]'),
        ("{value: a, prompt_group_alias: g}", "continues seed 1"),
        ("{value: 3}", "its `prompt` is the number 3"),
        ("{value: [a]}", "its `prompt` is a list"),
    ],
)
def test_a_seed_that_is_no_prompt_is_named(tmp_path: Path, seed: str, said: str) -> None:
    path = _written(
        tmp_path / "a.prompt", f"seeds:\n- {{value: x, prompt_group_alias: g}}\n- {seed}\n"
    )
    table = read_rows(path)
    with pytest.raises(BadFile, match=r"a\.prompt, seed 2: ") as caught:
        texts(table, "prompt", path)
    assert said in str(caught.value)
    assert texts(table, "prompt", path, [0]) == ["x"]


def test_a_data_sets_own_words_hold_for_its_seeds(tmp_path: Path) -> None:
    path = _written(
        tmp_path / "a.prompt",
        "harm_categories: [a]\nseeds:\n- x\n- {value: y, harm_categories: [b, a]}\n",
    )
    assert read_rows(path).select("prompt", "harm_categories").rows() == [
        ("x", ["a"]),
        ("y", ["a", "b"]),
    ]
    _written(path, "data_type: image_path\nseeds:\n- {value: a.png}\n")
    with pytest.raises(BadFile, match="image_path"):
        texts(read_rows(path), "prompt", path)


def test_a_list_in_a_line_of_json_is_refused_with_the_remedy(tmp_path: Path) -> None:
    assert "`.json`" in _complaint(_written(tmp_path / "a.jsonl", json.dumps(ROWS)))


@pytest.mark.parametrize("beside", ["part1.jsonl", "test.jsonl", "notes.txt"])
def test_a_link_to_nothing_in_a_folder_is_named(tmp_path: Path, beside: str) -> None:
    _lines(tmp_path / beside, ROWS)
    link = tmp_path / "data" / ("part2.jsonl" if beside == "part1.jsonl" else "train.jsonl")
    link.parent.mkdir()
    link.symlink_to("../blobs/0123")
    assert f"{link}: is a link to ../blobs/0123" in _complaint(tmp_path)


@pytest.mark.parametrize("blank", ["\u200b", "\u2060\u00a0", "\ufeff ", "\u00ad"])
def test_a_text_in_which_nothing_is_seen_is_blank(tmp_path: Path, blank: str) -> None:
    path = _lines(tmp_path / "a.jsonl", [{"response": "a"}, {"response": blank}])
    with pytest.raises(BadFile, match="line 2: has an empty `response`"):
        required_texts(read_rows(path), "response", path)
