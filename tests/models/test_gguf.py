"""A GGUF file, written as llama.cpp's converter writes it, becomes the same checkpoint."""

from pathlib import Path

import pytest
import torch

from lesion.models.candidates import UnsupportedModel
from lesion.models.load import Loaded, load
from lesion.models.prepare import prepare
from lesion.models.record import read_record
from lesion.study.job import Device
from lesion_testing import tiny
from lesion_testing.gguf_file import write_gguf


def _write(path: Path, subject: Loaded) -> None:
    tokenizer = subject.tokenizer
    words = tokenizer.convert_ids_to_tokens(range(subject.model.config.vocab_size))
    words[-3:] = ["a", "b", "ab"]  # for the merge
    special = [word for word in words if word.startswith("<|")]
    end = tokenizer.eos_token_id
    write_gguf(path, subject.model, words, end, special=special, merges=["a b"])


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return tiny.loaded(tiny.checkpoint(tmp_path_factory.mktemp("gguf")))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_same_weights_come_out(subject: Loaded, tmp_path: Path, dtype: str) -> None:
    source = tmp_path / "tiny.gguf"
    _write(source, subject)
    prepare(source, tmp_path / "model", dtype=dtype, license_="mit")
    assert read_record(tmp_path / "model")["architecture"] == "LlamaForCausalLM"
    again = load(tmp_path / "model", Device(dtype="float32")).model
    kept = {
        name: one.to(getattr(torch, dtype)).float()
        for name, one in subject.model.state_dict().items()
    }
    for name, one in again.state_dict().items():
        assert torch.equal(one, kept[name]), name
    if dtype == "float32":
        tokens = torch.tensor([[5, 9, 3, 11]])
        torch.testing.assert_close(again(tokens).logits, subject.model(tokens).logits)
    assert str(tmp_path) not in (tmp_path / "model" / "config.json").read_text()


def test_a_truncated_gguf_file_leaves_nothing(subject: Loaded, tmp_path: Path) -> None:
    source = tmp_path / "tiny.gguf"
    _write(source, subject)
    source.write_bytes(source.read_bytes()[:20_000])
    with pytest.raises(UnsupportedModel, match=r"tiny\.gguf: is incomplete"):
        prepare(source, tmp_path / "model", dtype="float32", license_="mit")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.gguf"]
