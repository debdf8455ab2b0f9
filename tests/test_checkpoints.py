import json
from pathlib import Path

import make
import numpy as np
import pytest
import tiny
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from lesion.checkpoints import write_checkpoint
from lesion.formats import LesionError
from lesion.masks.store import read_mask, write_mask
from lesion.models.prepare import prepare
from lesion.models.record import candidate_shapes, read_record


def _base(folder: Path, dtype: torch.dtype = torch.float32, shard: str = "1GB") -> Path:
    source = make.llama(folder / "source", tiny.TEXTS)
    model = AutoModelForCausalLM.from_pretrained(source).to(dtype)
    (source / "model.safetensors").unlink()
    model.save_pretrained(source, max_shard_size=shard)
    prepare(source, folder / "base", dtype="auto", license_="apache-2.0")
    return folder / "base"


def _mask(base: Path, path: Path, **changes: str) -> Path:
    metadata = {
        "mask": "shared",
        "role": "harm",
        "model_digest": read_record(base)["digest"],
        "p": "0.1",
        "q": "0.01",
        **changes,
    }
    places = np.sort(np.random.default_rng(0).choice(20_480, 300, replace=False))
    write_mask(places, candidate_shapes(base), metadata, path)
    return path


def _write(base: Path, mask: Path) -> Path:
    out = base.parent / "pruned"
    write_checkpoint(base, mask, out, base="toy", license_="apache-2.0")
    return out


def _payload(path: Path) -> tuple[dict[str, list[int]], bytes]:
    """Where each tensor lies in a safetensors file, and the file's bytes."""
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    header.pop("__metadata__", None)
    places = {
        name: [8 + length + offset for offset in one["data_offsets"]]
        for name, one in header.items()
    }
    return places, whole


@pytest.mark.parametrize(
    ("dtype", "shard"),
    [(torch.float32, "1GB"), (torch.float32, "40KB"), (torch.bfloat16, "20KB")],
)
def test_only_the_masks_bytes_change(tmp_path: Path, dtype: torch.dtype, shard: str) -> None:
    base = _base(tmp_path, dtype, shard)
    mask = _mask(base, tmp_path / "mask")
    out = _write(base, mask)
    shards = sorted(path.name for path in base.glob("*.safetensors"))
    assert (len(shards) > 2) == (shard != "1GB")
    indices, width = read_mask(mask).indices, dtype.itemsize
    poked = 0
    for name in shards:
        places, before = _payload(base / name)
        wanted = np.frombuffer(before, np.uint8).copy()
        for parameter in set(places) & set(indices):
            begin, _ = places[parameter]
            for place in indices[parameter]:
                at = begin + int(place) * width
                assert wanted[at : at + width].any()
                wanted[at : at + width] = 0
                poked += 1
        assert (out / name).read_bytes() == wanted.tobytes()
    assert poked == 300
    for path in base.iterdir():
        if path.name not in (*shards, "lesion.json"):
            assert (out / path.name).read_bytes() == path.read_bytes()


def test_it_loads_as_any_checkpoint_with_the_masks_weights_zero(tmp_path: Path) -> None:
    base = _base(tmp_path, shard="40KB")
    mask = read_mask(_mask(base, tmp_path / "mask"))
    out = _write(base, tmp_path / "mask")
    before, after = (
        dict(AutoModelForCausalLM.from_pretrained(folder).named_parameters())
        for folder in (base, out)
    )
    for name, one in before.items():
        wanted = one.detach().flatten().clone()
        wanted[torch.from_numpy(mask.indices.get(name, np.empty(0, np.int64)))] = 0
        assert torch.equal(after[name].flatten(), wanted)
    assert AutoTokenizer.from_pretrained(out).chat_template == make.CHAT


def test_it_has_a_card_a_record_and_what_made_it(tmp_path: Path) -> None:
    base = _base(tmp_path)
    mask = _mask(base, tmp_path / "mask")
    out = _write(base, mask)
    card = (out / "README.md").read_text()
    assert card.startswith("---\nbase_model: toy\n")
    assert "license: apache-2.0" in card
    assert "300 of 20480 candidate weights of `toy`" in card
    assert read_record(out)["digest"] != read_record(base)["digest"]
    assert candidate_shapes(out) == candidate_shapes(base)
    assert (out / "reproduce" / "mask.safetensors").read_bytes() == mask.read_bytes()
    made = json.loads((out / "reproduce" / "lesion.json").read_text())
    assert made["base_digest"] == read_record(base)["digest"]


def test_a_pruned_checkpoint_can_be_studied(tmp_path: Path) -> None:
    base = _base(tmp_path)
    out = _write(base, _mask(base, tmp_path / "mask"))
    prepare(out, tmp_path / "again", dtype="float32", license_="apache-2.0")
    assert candidate_shapes(tmp_path / "again") == candidate_shapes(base)
    with safe_open(tmp_path / "again" / "model.safetensors", "pt") as file:
        assert int((file.get_tensor("model.layers.0.mlp.up_proj.weight") == 0).sum()) > 0


def test_a_mask_of_another_model_is_refused(tmp_path: Path) -> None:
    base = _base(tmp_path)
    mask = _mask(base, tmp_path / "mask", model_digest="0" * 64)
    with pytest.raises(LesionError, match="was made from the model with digest 000"):
        _write(base, mask)
    assert not (tmp_path / "pruned").exists()


@pytest.mark.parametrize("role", ["refusal", "benign"])
def test_masks_that_would_harm_are_refused(tmp_path: Path, role: str) -> None:
    base = _base(tmp_path)
    mask = _mask(base, tmp_path / "mask", role=role)
    with pytest.raises(LesionError, match=f"is of role {role}; only harm masks"):
        _write(base, mask)
    assert not (tmp_path / "pruned").exists()


def test_a_weight_the_checkpoint_does_not_store_is_an_error(tmp_path: Path) -> None:
    base = _base(tmp_path)
    shapes = {**candidate_shapes(base), "lm_head.weight": (2, 2)}
    digest = read_record(base)["digest"]
    header = {"role": "harm", "model_digest": digest}
    write_mask(np.array([20_480]), shapes, header, tmp_path / "mask")
    with pytest.raises(LesionError, match=r"stores no tensor named lm_head\.weight"):
        _write(base, tmp_path / "mask")
    assert not (tmp_path / "pruned").exists()
