import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from lesion.io.formats import BadFile, LesionError, write_json
from lesion.models.candidates import UnsupportedModel
from lesion.models.files import left_out
from lesion.models.load import load
from lesion.models.prepare import prepare
from lesion.models.record import RECORD, candidate_shapes, content_digest, read_record
from lesion.study.job import Device
from lesion_testing import make, tiny


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
        load(folder, Device(dtype="float32"))


def test_a_folder_this_pipeline_wrote_can_be_a_source(tmp_path: Path) -> None:
    first = tiny.checkpoint(tmp_path)
    _prepare(first, tmp_path / "again")
    assert read_record(tmp_path / "again") == read_record(first)


def test_what_is_left_out_is_told_and_not_of_the_digest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make.llama(tmp_path / "source", tiny.TEXTS)
    plain = content_digest(source)
    for name in ("optimizer.safetensors", "adapter_model.safetensors"):
        save_file({"a": torch.ones(2)}, source / name)
    assert left_out(source) == ["adapter_model.safetensors", "optimizer.safetensors"]
    _prepare(source, tmp_path / "out")
    said = capsys.readouterr().err
    assert f"{source / 'optimizer.safetensors'}: left out, transformers does not load it" in said
    assert [path.name for path in (tmp_path / "out").glob("*.safetensors")] == ["model.safetensors"]
    assert read_record(tmp_path / "out")["digest"] == content_digest(source) == plain


def test_what_transformers_warns_of_is_told_with_the_users_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make.llama(tmp_path / "source", tiny.TEXTS)
    weights = load_file(source / "model.safetensors")
    weights["score.weight"] = torch.ones(2, 32)
    save_file(weights, source / "model.safetensors", {"format": "pt"})
    with pytest.raises(LesionError, match=r"source: the files hold `score\.weight`, which Llama"):
        _prepare(source, tmp_path / "out")
    said = capsys.readouterr().err
    assert "score.weight" in said
    assert "UNEXPECTED" in said
    assert str(source) in said
    assert ".part-" not in said


def test_a_folder_that_was_changed_later_is_not_opened_with_random_weights(tmp_path: Path) -> None:
    folder = tiny.checkpoint(tmp_path)
    path = folder / "config.json"
    settings = path.read_text(encoding="utf-8")
    assert '"num_hidden_layers": 2' in settings
    # As long as before, so that no size tells.
    path.write_text(settings.replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'))
    with pytest.raises(LesionError, match=r"model: the files lack `model\.layers\.2\.\w.* more\)"):
        load(folder, Device(dtype="float32"))


@pytest.mark.parametrize("declared", ["float16", "bfloat16"])
def test_weights_are_read_as_they_are_stored_whatever_the_config_says(
    tmp_path: Path, declared: str
) -> None:
    source = make.llama(tmp_path / "source", tiny.TEXTS)
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    write_json({**config, "dtype": declared}, source / "config.json")
    _prepare(source, tmp_path / "out")
    stored = load_file(source / "model.safetensors")
    for name, weight in load(tmp_path / "out", Device(dtype="float32")).model.named_parameters():
        assert torch.equal(weight, stored[name]), name


def test_a_config_that_asks_for_tuples_changes_nothing(tmp_path: Path) -> None:
    source = make.llama(tmp_path / "source", tiny.TEXTS)
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    write_json({**config, "return_dict": False}, source / "config.json")
    _prepare(source, tmp_path / "out")
    model = load(tmp_path / "out", Device(dtype="float32")).model
    assert model(torch.tensor([[1, 2]])).logits.shape[:2] == (1, 2)


def test_attention_that_is_not_installed_is_told_with_the_remedy(tmp_path: Path) -> None:
    source = make.llama(tmp_path / "source", tiny.TEXTS)
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    write_json({**config, "_attn_implementation": "flash_attention_2"}, source / "config.json")
    with pytest.raises(LesionError, match=r"source/config\.json: .* Remove `attn_implementation`"):
        _prepare(source, tmp_path / "out")


def test_a_folder_of_the_hubs_cache_and_capitals_are_told(tmp_path: Path) -> None:
    source = make.llama(tmp_path / "hub" / "snapshots" / "one", tiny.TEXTS)
    with pytest.raises(LesionError, match=r"hub: is a model in the hub's cache"):
        _prepare(tmp_path / "hub", tmp_path / "out")
    (source / "model.safetensors").rename(source / "model.SAFETENSORS")
    with pytest.raises(LesionError, match=r"holds model\.SAFETENSORS, which is not found"):
        _prepare(source, tmp_path / "out")


def test_a_token_for_pictures_may_lack_a_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As Gemma 3's smallest model, which has one and sees no pictures."""
    source = make.llama(tmp_path / "source", tiny.TEXTS)
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image_soft_token>"]})
    tokenizer.save_pretrained(source)
    _prepare(source, tmp_path / "out")
    assert "`<image_soft_token>`, has no row in the embedding" in capsys.readouterr().err


def test_an_adapter_in_the_folder_of_a_record_is_none_of_its_files(tmp_path: Path) -> None:
    """A folder of the pipeline's own into which somebody put an adapter."""
    folder = tiny.checkpoint(tmp_path)
    before = load(folder, Device(dtype="float32")).model.state_dict()
    write_json(
        {"peft_type": "LORA", "base_model_name_or_path": "no"}, folder / "adapter_config.json"
    )
    assert read_record(folder)["digest"] == content_digest(folder)
    with pytest.raises(LesionError, match="adapter_config"):
        load(folder, Device(dtype="float32"))
    (folder / "adapter_config.json").unlink()
    after = load(folder, Device(dtype="float32")).model.state_dict()
    assert all(torch.equal(one, after[name]) for name, one in before.items())
    assert (folder / RECORD).is_file()
