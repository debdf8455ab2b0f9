import errno
import json
from pathlib import Path

import polars as pl
import pytest

from lesion.io.formats import (
    BadFile,
    LesionError,
    atomic,
    digest,
    read_json,
    read_parquet,
    write_json,
    write_parquet,
)

TABLE = pl.DataFrame({"a": [1, 2, 3], "b": ["x", "y", None]})
COLUMNS = {"a": pl.Int64, "b": pl.String}


def _write_then(path: Path, error: BaseException) -> None:
    with atomic(path) as part:
        part.write_text("half")
        raise error


def test_a_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    with atomic(path) as part:
        part.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_an_error_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "file"
    with pytest.raises(type(error)):
        _write_then(path, error)
    assert list(tmp_path.iterdir()) == []
    path.write_text("before")
    with pytest.raises(type(error)):
        _write_then(path, error)
    assert [one.read_text() for one in tmp_path.iterdir()] == ["before"]


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "folder"

    def write(name: str, error: bool = False) -> None:
        with atomic(path) as part:
            part.mkdir()
            (part / name).write_text(name)
            if error:
                raise ValueError

    write("old")
    with pytest.raises(ValueError):  # noqa: PT011
        write("new", error=True)
    assert [one.name for one in path.iterdir()] == ["old"]
    write("new")
    assert [one.name for one in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        pl.exceptions.ComputeError("No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_reported_with_the_file(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(LesionError, match=r"file: the disk is full \(\d+ MiB free\)"):
        _write_then(tmp_path / "file", error)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    with pytest.raises(LesionError, match="file: cannot be written"):
        _write_then(tmp_path / "file", PermissionError(errno.EACCES, "Permission denied"))


def test_json_comes_back_the_same_whatever_the_order(tmp_path: Path) -> None:
    one, other = {"b": [1, 0.1], "a": {"ü": None}}, {"a": {"ü": None}, "b": [1, 0.1]}
    for name, value in (("one", one), ("other", other)):
        write_json(value, tmp_path / name)
        assert read_json(tmp_path / name) == value
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe"])
def test_json_that_is_not_whole_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(BadFile, match=r"a\.json: is not complete JSON"):
        read_json(tmp_path / "a.json")
    with pytest.raises(BadFile, match=r"b\.json: is missing"):
        read_json(tmp_path / "b.json")


def test_parquet_comes_back_and_is_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "other"):
        write_parquet(TABLE, tmp_path / name)
    assert read_parquet(tmp_path / "one", COLUMNS).equals(TABLE)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_parquet_that_is_not_whole_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_parquet(TABLE, path)
    whole = path.read_bytes()
    for content in (b"", whole[:-1], whole[: len(whole) // 2], b"PAR1"):
        path.write_bytes(content)
        with pytest.raises(BadFile, match=r"a\.parquet: is not a complete parquet file"):
            read_parquet(path)
    with pytest.raises(BadFile, match=r"b\.parquet: is missing"):
        read_parquet(tmp_path / "b.parquet")


@pytest.mark.parametrize(("column", "dtype"), [("c", pl.Int64), ("a", pl.String)])
def test_a_column_that_does_not_fit_is_named(
    tmp_path: Path, column: str, dtype: type[pl.DataType]
) -> None:
    write_parquet(TABLE, tmp_path / "a.parquet")
    with pytest.raises(BadFile, match=rf"a\.parquet: column `{column}` should be {dtype}"):
        read_parquet(tmp_path / "a.parquet", {**COLUMNS, column: dtype})


def test_the_digest_ignores_order_and_spelling() -> None:
    one = json.loads('{"a": 1e-3, "b": {"c": [1, 2], "d": "\\u00fc"}}')
    other = json.loads('{"b": {"d": "ü", "c": [1, 2]}, "a": 0.001}')
    assert digest(one) == digest(other)
    assert digest(one) != digest({**one, "a": 0.002})
    assert digest([1, 2]) != digest([2, 1])
