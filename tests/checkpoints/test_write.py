import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from lesion.checkpoints import copies, write_card, write_checkpoint
from lesion.checkpoints.shards import Zeros
from lesion.io.bundle import bundle
from lesion.io.formats import BadFile, LesionError
from lesion.masks.store import read_mask, write_mask
from lesion.models.prepare import prepare
from lesion.models.record import candidate_shapes, content_digest, read_record
from lesion.study import load_study
from lesion_testing import ROOT, make, tiny


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
    assert "300 of 20,480 candidate weights of `toy`" in card
    assert "the 10% of weights with the highest preservation importance (p)" in card
    assert "1% of the candidate weights for each harm type (q)" in card
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
    with pytest.raises(LesionError, match=f"is of role {role}; only masks of role harm"):
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


TENSOR = tuple[str, list[int], list[int]]
"""Dtype, shape, and first and last byte."""


def _plain(folder: Path, tensors: dict[str, TENSOR], name: str = "model.safetensors") -> bytes:
    """Add a safetensors file to a plain checkpoint folder; return its bytes."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text('{"tie_word_embeddings": true}')
    header = {
        key: {"dtype": dtype, "shape": shape, "data_offsets": span}
        for key, (dtype, shape, span) in tensors.items()
    }
    text = json.dumps(header).encode()
    size = max(span[1] for _, _, span in tensors.values())
    noise = np.random.default_rng(1).integers(1, 256, size, np.uint8).tobytes()
    data = len(text).to_bytes(8, "little") + text + noise
    (folder / name).write_bytes(data)
    return data


def _prune(folder: Path, shapes: dict[str, tuple[int, ...]], places: Sequence[int]) -> Path:
    header = {"role": "harm", "model_digest": content_digest(folder)}
    write_mask(np.array(places), shapes, header, folder.with_name("mask"))
    out = folder.with_name("pruned")
    write_checkpoint(folder, folder.with_name("mask"), out, base="toy", license_="mit")
    return out


@pytest.mark.parametrize(
    ("dtype", "width"),
    [("F64", 8), ("F32", 4), ("F16", 2), ("BF16", 2), ("F8_E4M3", 1), ("F8_E5M2", 1)],
)
def test_weights_of_any_float_are_zeroed(tmp_path: Path, dtype: str, width: int) -> None:
    name, folder = "layers.0.up.weight", tmp_path / "base"
    before = _plain(folder, {name: (dtype, [4, 5], [0, 20 * width])})
    out = _prune(folder, {name: (4, 5)}, [0, 1, 7, 19])
    wanted = bytearray(before)
    for place in (0, 1, 7, 19):
        at = len(before) - (20 - place) * width
        wanted[at : at + width] = bytes(width)
    assert (out / "model.safetensors").read_bytes() == wanted
    assert not (out / "lesion.json").exists()


def test_what_is_not_a_plain_float_is_refused(tmp_path: Path) -> None:
    name = "layers.0.up.weight"
    _plain(tmp_path / "base", {name: ("I8", [4, 5], [0, 20])})
    with pytest.raises(LesionError, match=r"`layers\.0\.up\.weight` is I8"):
        _prune(tmp_path / "base", {name: (4, 5)}, [0])


def test_tensors_that_share_bytes_are_refused(tmp_path: Path) -> None:
    name = "layers.0.up.weight"
    tensors: dict[str, TENSOR] = {
        name: ("F32", [4, 5], [0, 80]),
        "twin": ("F32", [2, 5], [40, 80]),
    }
    _plain(tmp_path / "base", tensors)
    with pytest.raises(LesionError, match=r"`layers\.0\.up\.weight` and `twin` share bytes"):
        _prune(tmp_path / "base", {name: (4, 5)}, [0])


def test_what_may_be_tied_is_refused(tmp_path: Path) -> None:
    name = "model.embed_tokens.weight"
    _plain(tmp_path / "base", {name: ("F32", [4, 5], [0, 80])})
    with pytest.raises(
        LesionError, match=r"embed_tokens\.weight` is outside the transformer block"
    ):
        _prune(tmp_path / "base", {name: (4, 5)}, [0])


def test_stacked_experts_and_changed_shapes_are_refused(tmp_path: Path) -> None:
    stored = "model.layers.0.experts.0.up.weight"
    _plain(tmp_path / "base", {stored: ("F32", [4, 5], [0, 80])})
    with pytest.raises(LesionError, match=r"layers\.0\.experts\.up\. .*stacked experts"):
        _prune(tmp_path / "base", {"model.layers.0.experts.up": (2, 4, 5)}, [0])
    with pytest.raises(LesionError, match=r"is \[4, 5\] there and \[5, 4\] in the mask"):
        _prune(tmp_path / "base", {stored: (5, 4)}, [0])
    assert not (tmp_path / "pruned").exists()


def test_names_without_the_models_prefix_are_found(tmp_path: Path) -> None:
    before = _plain(tmp_path / "base", {"h.0.attn.weight": ("F32", [4, 5], [0, 80])})
    out = _prune(tmp_path / "base", {"transformer.h.0.attn.weight": (4, 5)}, [0])
    after = (out / "model.safetensors").read_bytes()
    assert after == before[:-80] + bytes(4) + before[-76:]


def test_a_second_copy_of_the_weights_does_not_come_along(tmp_path: Path) -> None:
    name = "layers.0.up.weight"
    _plain(tmp_path / "base", {name: ("F32", [4, 5], [0, 80])})
    _plain(tmp_path / "base", {"up": ("F32", [4, 5], [0, 80])}, "consolidated.safetensors")
    out = _prune(tmp_path / "base", {name: (4, 5)}, [0])
    assert [path.name for path in out.glob("*.safetensors")] == ["model.safetensors"]


@pytest.mark.parametrize("shared", [False, True])
def test_weights_on_the_edges_of_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    """Chunks of 16 bytes over weights of 4 that begin at an odd byte; with and without reflink."""

    def reflink(source: object, _: object) -> bool:
        if shared:
            shutil.copyfile(tmp_path / "base", tmp_path / "copy")
        return shared

    monkeypatch.setattr(copies, "_CHUNK", 16)
    monkeypatch.setattr(copies, "_reflink", reflink)
    before = bytes(range(1, 104))
    (tmp_path / "base").write_bytes(before)
    starts = np.array([3, 7, 11, 15, 31, 43, 99])
    seen: list[int] = []
    copies.copy_with_zeros(tmp_path / "base", tmp_path / "copy", [Zeros(4, starts)], seen.append)
    wanted = bytearray(before)
    for start in starts:
        wanted[start : start + 4] = bytes(4)
    assert (tmp_path / "copy").read_bytes() == wanted
    assert sum(seen) == len(before)


@pytest.mark.parametrize("where", [0, 50_000, 299_999])
def test_a_byte_that_went_wrong_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: int
) -> None:
    write = copies._write

    def faulty(file: object, at: int, data: memoryview) -> None:
        changed = bytearray(data)
        if at <= where < at + len(data):
            changed[where - at] ^= 1
        write(file, at, memoryview(changed))  # type: ignore[arg-type]

    monkeypatch.setattr(copies, "_write", faulty)
    # As where the kernel cannot copy between two files.
    monkeypatch.delattr(copies.os, "copy_file_range")
    monkeypatch.setattr(copies, "_CHUNK", 2**16)
    (tmp_path / "base").write_bytes(np.random.default_rng(0).bytes(300_000))
    with pytest.raises(BadFile, match="differs after byte"):
        copies.copy_with_zeros(tmp_path / "base", tmp_path / "copy", [], lambda _: None)


def test_a_damaged_base_is_named(tmp_path: Path) -> None:
    name = "layers.0.up.weight"
    whole = _plain(tmp_path / "base", {name: ("F32", [4, 5], [0, 80])})
    (tmp_path / "base" / "model.safetensors").write_bytes(whole[:-9])
    with pytest.raises(BadFile, match=r"model\.safetensors: is not a complete safetensors file"):
        _prune(tmp_path / "base", {name: (4, 5)}, [0])
    assert not (tmp_path / "pruned").exists()


def test_a_plain_folder_is_known_by_its_content(tmp_path: Path) -> None:
    base = _base(tmp_path)
    mask = _mask(base, tmp_path / "mask")
    assert content_digest(base) == read_record(base)["digest"]
    first = _write(base, mask)
    plain = tmp_path / "plain"
    shutil.copytree(base, plain)
    (plain / "lesion.json").unlink()
    (plain / "README.md").write_text("the base's own card")
    write_checkpoint(plain, mask, tmp_path / "again", base="toy", license_="apache-2.0")
    made = [
        json.loads((f / "reproduce/lesion.json").read_text()) for f in (first, tmp_path / "again")
    ]
    assert made[0] == made[1]
    assert (tmp_path / "again" / "README.md").read_text() == (first / "README.md").read_text()


def test_the_digest_is_of_base_and_zeros(tmp_path: Path) -> None:
    base = _base(tmp_path)
    digests = set()
    for number, changes in enumerate([{}, {"p": "0.2"}]):
        mask = _mask(base, tmp_path / f"mask{number}", **changes)
        digests.add(read_record(_write(base, mask))["digest"])
    assert len(digests) == 1
    shapes = candidate_shapes(base)
    header = {"role": "harm", "model_digest": read_record(base)["digest"]}
    write_mask(np.array([5]), shapes, header, tmp_path / "mask2")
    digests.add(read_record(_write(base, tmp_path / "mask2"))["digest"])
    assert len(digests) == 2


def test_the_card_shows_what_was_measured(tmp_path: Path) -> None:
    base = _base(tmp_path)
    out = _write(base, _mask(base, tmp_path / "mask"))
    assert "was not measured" in (out / "README.md").read_text()
    write_card(out, "| | unmodified | ablated |\n|---|---|---|\n| Harm | 1 | 0 |\n")
    card = (out / "README.md").read_text()
    assert "was not measured" not in card
    assert "| Harm | 1 | 0 |" in card
    assert card.startswith("---\nbase_model: toy\n")
    assert read_record(out)


def test_reproduce_holds_the_study(tmp_path: Path) -> None:
    base = _base(tmp_path)
    mask = _mask(base, tmp_path / "mask")
    study = load_study(yaml.safe_load((ROOT / "config.yaml").read_text()), "config.yaml")
    out = tmp_path / "pruned"
    write_checkpoint(
        base, mask, out, base="toy", license_="mit", study=study.model_dump(), card=False
    )
    text = (out / "reproduce" / "study.yaml").read_text()
    assert str(bundle()) not in text, "the same bytes, wherever lesion is"
    kept = yaml.safe_load(text)
    assert load_study(kept, "study.yaml") == study
    versions = json.loads((out / "reproduce" / "lesion.json").read_text())["versions"]
    assert {"lesion", "python", "numpy", "safetensors"} <= set(versions)
    assert not (out / "README.md").exists()


def test_torch_is_not_imported() -> None:
    code = "import lesion.checkpoints, lesion.cli, sys; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
