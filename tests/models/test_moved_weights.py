"""Checkpoints of models whose weights transformers moves as it loads them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel
from transformers.core_model_loading import Chunk, Concatenate, MergeModulelist, Transpose

from lesion.checkpoints.write import copy_zeroed
from lesion.io.formats import LesionError
from lesion.masks.lesion import lesioned
from lesion.masks.store import read_mask, write_mask
from lesion.models import conversion
from lesion.models.candidates import UnsupportedModel, auto_class
from lesion.models.parts import Part, stored_indices, unchanged_part
from lesion.models.prepare import prepare
from lesion.models.record import candidate_shapes, unstored
from lesion.models.weights import StoredWeights
from lesion_testing import families

pytestmark = pytest.mark.slow

every = pytest.mark.parametrize("name", families.FAMILIES)


def _prepared(name: str, tmp_path: Path) -> Path:
    families.save(families.model(name), tmp_path / "source", max_shard_size="60KB")
    prepare(tmp_path / "source", tmp_path / "base", dtype="float32", license_="mit")
    return tmp_path / "base"


def _opened(folder: Path) -> PreTrainedModel:
    made: PreTrainedModel = auto_class(conversion.empty_model(folder).config).from_pretrained(
        folder, dtype=torch.float32
    )
    return made.eval()


def _mask(base: Path, path: Path) -> Path:
    """Some weights of every matrix."""
    dice, places, start = np.random.default_rng(0), [], 0
    for shape in candidate_shapes(base).values():
        size = int(np.prod(shape))
        places.append(start + dice.choice(size, 20, replace=False))
        start += size
    write_mask(np.sort(np.concatenate(places)), candidate_shapes(base), {"role": "harm"}, path)
    return path


@every
def test_the_checkpoint_is_the_lesioned_model(name: str, tmp_path: Path) -> None:
    """Every matrix loses the mask's weights, and no other weight of the model changes."""
    base = _prepared(name, tmp_path)
    mask = read_mask(_mask(base, tmp_path / "mask"))
    copy_zeroed(base, mask, tmp_path / "pruned")
    wanted, found = _opened(base), _opened(tmp_path / "pruned")
    assert set(mask.indices) == set(candidate_shapes(base))
    with lesioned(wanted, mask.indices):
        for (own, one), two in zip(
            wanted.state_dict().items(), found.state_dict().values(), strict=True
        ):
            assert torch.equal(one, two), own


@every
def test_weights_are_read_from_the_files_as_they_are_in_memory(name: str, tmp_path: Path) -> None:
    base = _prepared(name, tmp_path)
    stored = StoredWeights(base)
    held = dict(_opened(base).named_parameters())
    for own in candidate_shapes(base):
        assert np.array_equal(stored.open(own), held[own].detach().numpy().reshape(-1))


def _places(parts: tuple[Part, ...], shape: tuple[int, ...]) -> dict[int, tuple[str, int]]:
    """Where each weight of a parameter is stored, one by one."""
    return {
        place: next(
            (name, int(at[0]))
            for name, at in stored_indices(parts, shape, np.array([place])).items()
        )
        for place in range(int(np.prod(shape)))
    }


@pytest.mark.parametrize(
    ("operations", "targets"),
    [
        ([MergeModulelist(dim=0), Concatenate(dim=1)], 1),
        ([MergeModulelist(dim=0), Concatenate(dim=2)], 1),
        ([MergeModulelist(dim=1), Concatenate(dim=0), Transpose(0, 2)], 1),
        ([Concatenate(dim=1), Chunk(dim=0)], 1),
        ([Transpose(0, 1), Chunk(dim=0)], 2),
        ([Chunk(dim=1)], 3),
    ],
)
def test_operations_are_followed_as_transformers_does_them(
    operations: list[object], targets: int
) -> None:
    """Tensors whose every value is unlike any other go through transformers' own operations."""
    many = isinstance(operations[0], (MergeModulelist, Concatenate))
    sources = ["a", "b"] if many else ["a"]
    names = [f"t{number}" for number in range(targets)]
    converter = conversion.WeightConverter(sources, names, operations)
    count = 3 if isinstance(operations[0], MergeModulelist) else 1
    tensors, grids, start = {}, {}, 0
    for source in sources:
        for number in range(count):
            one = torch.arange(start, start + 24.0).reshape(4, 6)
            start += 24
            tensors[f"{source}{number}"] = one
            converter.add_tensor("t0", f"{source}{number}", source, one)  # type: ignore[arg-type]
            whole_one = conversion._Grid((4, 6), (unchanged_part(f"{source}{number}", (4, 6)),))
            grids.setdefault(source, []).append(whole_one)
    wanted = converter.convert("t0")
    found = conversion._converted(converter, "t0", grids, model=None)  # type: ignore[arg-type]
    assert set(found) == set(wanted)
    for name, grid in found.items():
        value = wanted[name][0] if isinstance(wanted[name], list) else wanted[name]
        assert grid is not None
        assert grid.shape == tuple(value.shape)
        flat = value.flatten()
        for place, (stored, at) in _places(grid.parts, grid.shape).items():
            assert tensors[stored].flatten()[at] == flat[place]


def test_what_cannot_be_followed_is_said_when_the_model_is_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An operation of transformers that does more than move weights, in place of the stacking."""

    class Own(MergeModulelist):
        """Stacks, but nobody here knows that."""

    def rules(model: PreTrainedModel) -> list[object]:
        found = known(model)
        for one in found:
            if hasattr(one, "operations"):
                one.operations = [Own(0), *one.operations[1:]]
        return found

    known = conversion.get_model_conversion_mapping
    monkeypatch.setattr(conversion, "get_model_conversion_mapping", rules)
    base = _prepared("qwen3_moe", tmp_path)
    assert "4 of 12 matrices (model.layers.0.mlp.experts." in capsys.readouterr().err
    assert len(unstored(base)) == 4
    mask = read_mask(_mask(base, tmp_path / "mask"))
    with pytest.raises(LesionError, match=r"experts.* remove it from `checkpoints`"):
        copy_zeroed(base, mask, tmp_path / "pruned")
    with pytest.raises(LesionError, match=r"Remove them from `masks\.controls`"):
        StoredWeights(base).open(unstored(base)[0])


def test_a_model_whose_weights_are_all_known_is_told_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _prepared("mixtral", tmp_path)
    assert "checkpoints" not in capsys.readouterr().err


def test_quantised_experts_are_refused(tmp_path: Path) -> None:
    families.save(families.model("mixtral"), tmp_path / "source")
    path = tmp_path / "source" / "model.safetensors"
    held = load_file(path)
    name = next(one for one in held if ".experts." in one)
    held[name] = held[name].to(torch.int8)
    save_file(held, path, {"format": "pt"})
    with pytest.raises(UnsupportedModel, match=r"experts.* is stored as I8"):
        prepare(tmp_path / "source", tmp_path / "base", dtype="float32", license_="mit")
