"""A stage that runs out of memory says which it is, what it needed and what lowers it."""

from pathlib import Path

import pytest

from lesion.io.logs import logged
from lesion.study import read_config
from lesion_testing import ROOT

CUDA = "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 8.00 GiB"
CPU = (
    "[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: not enough memory: you tried 9 bytes"
)
NUMPY = "Unable to allocate 8.00 GiB for an array with shape (1073741824,)"
STAGES = {
    "pairs/llama/alpha": "`pairs.batch_size`",
    "scores/llama/alpha": "`scores.batch_tokens`, set `scores.memory.plan: passes`",
    "masks/llama": "`scores.tail`",
    "responses/llama/shared": "`responses.batch_size`",
    "responses/llama/curve/random": "`curve.sizes`",
    "responses/llama/shared/understanding": "`responses.batch_size`",
    "responses/utility/shared/understanding": "`responses.batch_size`",
    "responses/llama/shared/utility": "`utility.batch_size`",
    "responses/llama/retraining/again/intact": "`recipe`",
    "judgements/llama/shared": "`judgements.judges`",
    "tables": "`tables.resamples`",
}


def _said(log: Path, error: Exception, capfd: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit), logged(str(log)):
        raise error
    return capfd.readouterr().err


@pytest.mark.parametrize(
    "error", [MemoryError(NUMPY), RuntimeError(CUDA), RuntimeError(CPU)], ids=["py", "cuda", "cpu"]
)
@pytest.mark.parametrize("stage", STAGES)
def test_the_stage_its_need_and_its_setting_are_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], stage: str, error: Exception
) -> None:
    log = tmp_path / "logs" / "tiny" / "logs" / f"{stage}.log"
    said = _said(log, error, capfd)
    assert f"lesion: {stage.partition('/')[0]}: out of memory ({error})" in said
    assert STAGES[stage] in said
    assert f"(log: {log})" in said
    assert "Traceback" not in said
    assert "Traceback" in log.read_text(encoding="utf-8")


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


def test_the_default_study_has_the_settings_that_are_named() -> None:
    config = read_config(ROOT / "config.yaml")
    for told in STAGES.values():
        section, _, key = told.split("`")[1].partition(".")
        # Experiments have names of their own.
        assert section in config or section == "recipe"
        assert key in config.get(section, "") or key in ("tail", "judges")
