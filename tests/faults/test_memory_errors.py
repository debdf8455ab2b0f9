"""A stage that runs out of memory says which it is, what it needed and what lowers it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from lesion.io.logs import logged
from lesion.study import Study
from lesion_testing.rules import logs

CUDA = "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 8.00 GiB"
CPU = (
    "[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: not enough memory: you tried 9 bytes"
)
NUMPY = "Unable to allocate 8.00 GiB for an array with shape (1073741824,)"
SETTING = re.compile(r"`([\w.]+)`")


def _keys(schema: type[BaseModel]) -> Iterator[str]:
    """Every key of a config, of all its sections."""
    for name, field in schema.model_fields.items():
        yield name
        for part in _sections(field.annotation):
            yield from _keys(part)


def _sections(kind: Any) -> Iterator[type[BaseModel]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    for part in get_args(kind):
        yield from _sections(part)


def _said(log: Path, error: Exception, capfd: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit), logged(str(log)):
        raise error
    return capfd.readouterr().err


@pytest.mark.parametrize(
    "error", [MemoryError(NUMPY), RuntimeError(CUDA), RuntimeError(CPU)], ids=["py", "cuda", "cpu"]
)
def test_the_stage_and_its_need_are_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], error: Exception
) -> None:
    log = tmp_path / "logs" / "tiny" / "logs" / "pairs" / "llama" / "alpha.log"
    said = _said(log, error, capfd)
    assert f"lesion: pairs: out of memory ({error})" in said
    assert f"(log: {log})" in said
    assert "Traceback" not in said
    assert "Traceback" in log.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(logs()))
def test_every_rule_has_advice_of_its_own(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    log = tmp_path / "logs" / name if name.endswith(".log") else tmp_path / "logs" / name / "x.log"
    said = _said(log, MemoryError(NUMPY), capfd)
    assert f"lesion: {name.removesuffix('.log')}: out of memory" in said
    advice = said.partition(f"({NUMPY})")[2]
    assert ", or run fewer jobs at once (--cores)" in advice
    # Whatever it says to set can be set.
    named = {key for setting in SETTING.findall(advice) for key in setting.split(".")}
    assert named - {"snakemake"} <= set(_keys(Study))


@pytest.mark.parametrize(
    ("log", "setting"),
    [
        ("responses/llama/shared", "`responses.batch_size`"),
        ("responses/llama/curve/random", "`curve.sizes`"),
        ("responses/llama/shared/utility", "`utility.batch_size`"),
        ("responses/utility/shared/understanding", "`responses.batch_size`"),
        ("responses/llama/retraining/again/unmodified", "`accumulate`"),
        ("models/llama", "`accumulate`"),  # which may be trained
    ],
)
def test_what_is_asked_decides_the_advice(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], log: str, setting: str
) -> None:
    said = _said(tmp_path / "logs" / f"{log}.log", MemoryError(NUMPY), capfd)
    assert f"lesion: {log.split('/')[0]}: out of memory" in said
    assert setting in said


def test_torchs_own_error_is_known(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import torch

    error = torch.OutOfMemoryError(CUDA)
    assert "pairs: out of memory" in _said(tmp_path / "logs" / "pairs" / "x.log", error, capfd)
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.float32)
    said = _said(tmp_path / "logs" / "scores" / "x.log", caught.value, capfd)
    assert "scores: out of memory" in said


def test_another_runtime_error_is_told_as_it_is(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said = _said(tmp_path / "logs" / "pairs" / "x.log", RuntimeError("shapes differ"), capfd)
    assert "lesion: RuntimeError: shapes differ" in said
