import json
from pathlib import Path

import make
import pytest
import tiny

from lesion.formats import BadFile
from lesion.models.candidates import UnsupportedModel
from lesion.models.load import load
from lesion.models.prepare import prepare
from lesion.models.record import candidate_shapes, read_record


def _prepare(source: Path, out: Path) -> None:
    prepare(source, out, dtype="float32", license_="mit")


def test_pickles_are_refused_by_name(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "config.json").write_text("{}")
    (source / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(UnsupportedModel, match=r"only pytorch_model\.bin, which may run code"):
        _prepare(source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_pickles_beside_safetensors_are_left_behind(tmp_path: Path) -> None:
    source = make.llama(tmp_path / "source", tiny.TEXTS)
    (source / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    (source / "modeling.py").write_text("raise SystemExit")
    _prepare(source, tmp_path / "out")
    suffixes = {path.suffix for path in (tmp_path / "out").iterdir()}
    assert suffixes <= {".safetensors", ".json", ".jinja"}


def test_an_unknown_architecture_is_refused(tmp_path: Path) -> None:
    source = make.llama(tmp_path / "source", tiny.TEXTS)
    config = {"model_type": "martian", "architectures": ["MartianForCausalLM"]}
    (source / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedModel, match="does not know this architecture"):
        _prepare(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(UnsupportedModel, match=r"model\.onnx: is neither"):
        _prepare(tmp_path / "model.onnx", tmp_path / "out")


def test_the_record_tells_the_checkpoint(tmp_path: Path) -> None:
    folder = tiny.checkpoint(tmp_path)
    record = read_record(folder)
    assert record["architecture"] == "LlamaForCausalLM"
    assert record["license"] == "mit"
    assert record["files"]["model.safetensors"] == (folder / "model.safetensors").stat().st_size
    shapes = candidate_shapes(folder)
    assert len(shapes) == 14
    assert shapes["model.layers.1.mlp.down_proj.weight"] == (32, 64)


def test_the_digest_is_of_the_weights(tmp_path: Path) -> None:
    one, same, other = (tiny.checkpoint(tmp_path / str(n), seed=n // 2) for n in range(3))
    assert read_record(one)["digest"] == read_record(same)["digest"]
    assert read_record(one)["digest"] != read_record(other)["digest"]


def test_a_truncated_file_is_noticed(tmp_path: Path) -> None:
    folder = tiny.checkpoint(tmp_path)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(BadFile, match=r"model\.safetensors: is missing or cut short"):
        load(folder, "float32", 1)


def test_a_folder_this_pipeline_wrote_can_be_a_source(tmp_path: Path) -> None:
    first = tiny.checkpoint(tmp_path)
    _prepare(first, tmp_path / "again")
    assert read_record(tmp_path / "again") == read_record(first)
