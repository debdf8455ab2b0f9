"""vLLM as the engine. It has an environment of its own: LESION_VLLM_PYTHON names its Python."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lesion.io.formats import LesionError
from lesion.masks.store import write_mask
from lesion.models.chat import Completion
from lesion.models.generate import complete
from lesion.models.load import open_chat
from lesion.models.prepare import prepare
from lesion.models.record import candidate_shapes, read_record
from lesion.models.text import encode_prompt
from lesion.models.vllm_engine import PYTHON, complete_by_vllm
from lesion.responses.variant import EvaluatedVariant
from lesion.study.job import Device
from lesion_testing import make

TEXTS = [f"the {one} of the {other}" for one in "abcdef" for other in "uvwxyz"]
needs_vllm = pytest.mark.skipif(PYTHON not in os.environ, reason=f"{PYTHON} is not set")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vllm")
    # Heads as wide as vLLM's kernels want them.
    source = make.llama(folder / "source", TEXTS, hidden=128)
    prepare(source, folder / "model", dtype="float32", license_="mit")
    return folder / "model"


@pytest.fixture(scope="module")
def mask(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    shapes = candidate_shapes(model)
    total = sum(int(np.prod(shape)) for shape in shapes.values())
    places = np.sort(np.random.default_rng(0).choice(total, total // 3, replace=False))
    path = tmp_path_factory.mktemp("mask") / "half.safetensors"
    about = {"role": "harm", "model_digest": read_record(model)["digest"]}
    write_mask(places, shapes, about, path)
    return path


def _prompts(model: Path) -> list[list[int]]:
    chat = open_chat(model)
    return [encode_prompt(chat, text, "sure") for text in TEXTS]


def _both(
    model: Path, mask: Path | None, folder: Path
) -> tuple[list[Completion], list[Completion]]:
    torch.set_num_threads(1)
    subject = EvaluatedVariant(model, mask, Device(dtype="float32"))
    prompts = [*_prompts(model), [5] * 5000]
    told: list[int] = []
    with subject.stored(folder / ".vllm") as checkpoint:
        served = complete_by_vllm(
            checkpoint,
            open_chat(model),
            prompts,
            12,
            "float32",
            None,
            lambda done, tokens=0: told.append(done),
        )
    assert sum(told) == len(prompts)
    assert not list(folder.iterdir())
    loaded = subject.load()
    return served, complete(loaded.model, loaded.chat, prompts, 12, 8)


@needs_vllm
@pytest.mark.parametrize("lesioned", [False, True])
def test_vllm_writes_what_transformers_writes(
    model: Path, mask: Path, tmp_path: Path, lesioned: bool
) -> None:
    served, own = _both(model, mask if lesioned else None, tmp_path)
    assert len({one.text for one in own}) > 5
    # In fp32 a close choice is rare.
    assert sum(one == other for one, other in zip(served, own, strict=True)) >= len(own) - 2
    assert served[-1] == Completion("", 0, False)  # no room in the context


def test_without_vllm_one_is_told_how_to_get_it(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PYTHON, raising=False)
    with pytest.raises(LesionError, match=rf"pip install vllm.*\n?.*{PYTHON}"):
        complete_by_vllm(model, open_chat(model), _prompts(model), 4, "float32", None)


def test_a_program_that_cannot_be_run(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PYTHON, str(tmp_path / "absent"))
    with pytest.raises(LesionError, match=r"absent: cannot be run \(No such file"):
        complete_by_vllm(model, open_chat(model), _prompts(model), 4, "float32", None)


def test_an_engine_that_fails_says_why(
    model: Path,
    mask: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # This Python runs, and has no vLLM.
    monkeypatch.setenv(PYTHON, sys.executable)
    subject = EvaluatedVariant(model, mask, Device(dtype="float32"))
    said = "No module named 'vllm'"
    with subject.stored(tmp_path / ".vllm") as checkpoint:
        assert any(checkpoint.iterdir())
        with pytest.raises(LesionError, match=rf"exited with code 1(.|\n)*{said}"):
            complete_by_vllm(checkpoint, open_chat(model), _prompts(model), 4, "float32", None)
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
