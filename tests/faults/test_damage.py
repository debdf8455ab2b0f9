"""Files that were cut, changed or swapped are named and refused, never read as if they were whole.

What each reader notices is in docs/reference/faults.md.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest
import torch

from lesion.checkpoints import write_checkpoint
from lesion.io.formats import (
    BadFile,
    LesionError,
    read_json,
    read_parquet,
    write_json,
    write_parquet,
)
from lesion.judgements.embed import Embedder
from lesion.judgements.learned import LearnedJudge, train_learned
from lesion.masks.curve import CURVE_MASKS
from lesion.masks.store import read_mask, write_mask
from lesion.models.layout import Layout
from lesion.models.load import load
from lesion.models.record import candidate_shapes, read_record
from lesion.models.weights import StoredWeights
from lesion.pairs.tables import kept_pairs
from lesion.scores.jobs import Coverage
from lesion.scores.shards import shard_names, write_shard
from lesion.scores.store import StoredNorms, StoredScores
from lesion.scores.tail import write_tail
from lesion.study.job import Device
from lesion_testing import make, tiny
from lesion_testing.scored import flat, write_scores

SHAPES = {"a.weight": (3, 50), "b.weight": (40, 5)}
PLACES = np.array([0, 7, 149, 150, 160, 349])
METADATA = {"behaviour": "alpha", "model_digest": "0" * 64, "definition": "W * dL/dW"}


class SavedJudgements(NamedTuple):
    """A file that was written, and how it is read."""

    path: Path
    read: Callable[[], Any]


def _pairs(folder: Path) -> SavedJudgements:
    path = folder / "alpha.parquet"
    write_parquet(tiny.pairs("alpha", 12, "train"), path)
    return SavedJudgements(path, lambda: kept_pairs(path, "train").rows())


def _curve_masks(folder: Path) -> SavedJudgements:
    path = folder / "curve.parquet"
    row = {"family": "shared", "seed": 1, "size_ratio": 0.5, "flat_indices": PLACES.tolist()}
    write_parquet(pl.DataFrame([row] * 4, schema=CURVE_MASKS), path)
    return SavedJudgements(path, lambda: read_parquet(path, CURVE_MASKS).rows())


def _mask(folder: Path) -> SavedJudgements:
    path = folder / "shared.safetensors"
    write_mask(PLACES, SHAPES, {**METADATA, "role": "harm"}, path)

    def read() -> Any:
        mask = read_mask(path)
        return mask.flat().tolist(), mask.shapes, mask.metadata["role"]

    return SavedJudgements(path, read)


def _scores(folder: Path) -> SavedJudgements:
    torch.manual_seed(0)
    tensors = {name: torch.randn(shape) for name, shape in SHAPES.items()}
    write_scores(tensors, folder, "snip", 1, METADATA)
    path = folder / shard_names("snip", 1)[0]
    return SavedJudgements(path, lambda: flat(StoredScores(folder, "snip", SHAPES)).tolist())


def _norms(folder: Path) -> SavedJudgements:
    path = folder / "norms.safetensors"
    write_shard({"a.weight": torch.arange(50.0)}, path, METADATA)
    return SavedJudgements(path, lambda: StoredNorms(path).open("a.weight").tolist())


def _index(folder: Path) -> SavedJudgements:
    _scores(folder)
    path = folder / "snip.safetensors.index.json"
    return SavedJudgements(path, lambda: flat(StoredScores(folder, "snip", SHAPES)).tolist())


def _weights(folder: Path) -> SavedJudgements:
    model = tiny.checkpoint(folder)

    def read() -> Any:
        name = next(iter(candidate_shapes(model)))
        return StoredWeights(model).open(name).tolist()

    return SavedJudgements(model / "model.safetensors", read)


def _checkpoint(folder: Path) -> SavedJudgements:
    model, out = tiny.checkpoint(folder), folder / "pruned"
    about = {"role": "harm", "model_digest": read_record(model)["digest"]}
    write_mask(np.arange(9), candidate_shapes(model), about, folder / "mask")
    write_checkpoint(model, folder / "mask", out, base="toy", license_="mit")
    return SavedJudgements(out / "model.safetensors", lambda: read_record(out)["digest"])


SMALL = {
    "pairs": _pairs,
    "curve masks": _curve_masks,
    "mask": _mask,
    "scores": _scores,
    "norms": _norms,
    "index": _index,
}
LARGE = {"model": _weights, "checkpoint": _checkpoint}
SEALED = ("pairs", "curve masks", "mask")

CUTS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "a few bytes": lambda whole: whole[:5],
    "half": lambda whole: whole[: len(whole) // 2],
    "all but a byte": lambda whole: whole[:-1],
}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("what", [*SMALL, *LARGE])
def test_a_file_that_was_cut_is_named(tmp_path: Path, what: str, cut: str) -> None:
    kept = {**SMALL, **LARGE}[what](tmp_path)
    kept.read()
    kept.path.write_bytes(CUTS[cut](kept.path.read_bytes()))
    if what == "index" and cut == "all but a byte":
        kept.read()  # its last is the newline
        return
    with pytest.raises(BadFile, match=rf"{kept.path.name}: .*(again|whole)"):
        kept.read()


@pytest.mark.parametrize("what", [*SMALL, *LARGE])
def test_a_file_that_is_gone_is_named(tmp_path: Path, what: str) -> None:
    kept = {**SMALL, **LARGE}[what](tmp_path)
    kept.path.unlink()
    with pytest.raises(BadFile, match=rf"{kept.path.name}: .*(missing|No such file)"):
        kept.read()


def _flipped(path: Path, places: range) -> Iterator[int]:
    """One bit after the other is flipped in the file, and put back."""
    whole = path.read_bytes()
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        yield place
    path.write_bytes(whole)


@pytest.mark.parametrize("what", SEALED)
def test_a_flipped_bit_is_named_wherever_it_is(tmp_path: Path, what: str) -> None:
    kept = SMALL[what](tmp_path)
    wanted = kept.read()
    seen = []
    for place in _flipped(kept.path, range(0, kept.path.stat().st_size, 3)):
        try:
            # Only the name that the checksum goes by may change unseen, and it says nothing.
            assert kept.read() == wanted, place
            seen.append(place)
        except BadFile as error:
            assert kept.path.name in str(error), place  # noqa: PT017 - the rest must be equal
    assert len(seen) <= 8
    assert kept.read() == wanted


@pytest.mark.parametrize("what", ["scores", "norms"])
def test_a_flipped_bit_in_a_header_is_named_or_changes_nothing(tmp_path: Path, what: str) -> None:
    kept = SMALL[what](tmp_path)
    wanted = kept.read()
    length = 8 + int.from_bytes(kept.path.read_bytes()[:8], "little")
    named = 0
    for place in _flipped(kept.path, range(length)):
        try:
            assert kept.read() == wanted, place
        except LesionError as error:
            named += kept.path.name in str(error)
    assert named > length / 4


@pytest.mark.parametrize("what", ["scores", "norms"])
def test_a_flipped_bit_of_a_score_is_named(tmp_path: Path, what: str) -> None:
    kept = SMALL[what](tmp_path)
    wanted = kept.read()
    length = 8 + int.from_bytes(kept.path.read_bytes()[:8], "little")
    for _ in _flipped(kept.path, range(length, kept.path.stat().st_size, 3)):
        with pytest.raises(BadFile, match=rf"{kept.path.name}: .* (a bit has|not finite)"):
            kept.read()
    assert kept.read() == wanted


@pytest.mark.parametrize("what", ["scores", "norms"])
def test_numbers_that_changed_places_are_named(tmp_path: Path, what: str) -> None:
    kept = SMALL[what](tmp_path)
    whole = kept.path.read_bytes()
    kept.path.write_bytes(whole[:-8] + whole[-4:] + whole[-8:-4])
    with pytest.raises(BadFile, match=rf"{kept.path.name}: .* a bit has"):
        kept.read()


def test_scores_of_an_earlier_version_are_still_read(tmp_path: Path) -> None:
    kept = _scores(tmp_path)
    wanted = kept.read()
    whole = kept.path.read_bytes()
    assert whole.count(b'"xxh3_64"') == 1
    # As long as the key it replaces, so that no tensor moves.
    kept.path.write_bytes(whole.replace(b'"xxh3_64"', b'"wordsum"'))
    assert kept.read() == wanted


def test_a_flipped_bit_of_a_tail_is_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scores = {name: rng.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    whole = {name: torch.from_numpy(one) for name, one in scores.items()}
    write_scores(whole, tmp_path / "whole", "snip", 1, METADATA)
    source = StoredScores(tmp_path / "whole", "snip", SHAPES)
    tail = Coverage(p=0.1, q=0.2, scope="global")
    (tmp_path / "tail").mkdir()
    write_tail(source, tmp_path / "tail", "snip", 1, Layout.of(dict(SHAPES)), tail, METADATA)
    path = tmp_path / "tail" / shard_names("snip", 1)[0]
    length = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    for _ in _flipped(path, range(length, path.stat().st_size, 5)):
        with pytest.raises(BadFile, match=f"{path.name}: .*a bit has changed"):
            flat(StoredScores(tmp_path / "tail", "snip", SHAPES))
    flat(StoredScores(tmp_path / "tail", "snip", SHAPES))


def test_scores_read_in_any_slices_are_compared_once_they_are_whole(tmp_path: Path) -> None:
    kept = _scores(tmp_path)
    damaged = bytearray(kept.path.read_bytes())
    damaged[-1] ^= 1
    kept.path.write_bytes(damaged)
    last = list(SHAPES)[-1]
    size = int(np.prod(SHAPES[last]))
    values = StoredScores(tmp_path, "snip", SHAPES).open(last)
    # From the middle, and again from the beginning: nothing is said of a part.
    for part in (slice(7, 9), slice(0, 5), slice(0, 7), slice(7, size - 1), slice(3, 4)):
        assert values[part].size == part.stop - part.start
    with pytest.raises(BadFile, match="a bit has changed"):
        values[size - 1 : size]


def test_a_flipped_bit_of_a_weight_is_named_when_the_model_is_loaded(tmp_path: Path) -> None:
    model = tiny.checkpoint(tmp_path)
    path = model / "model.safetensors"
    for _ in _flipped(path, range(0, path.stat().st_size, path.stat().st_size // 20)):
        with pytest.raises(BadFile, match=rf"{path.name}: .*a bit has changed"):
            load(model, Device(dtype="float32"))
    load(model, Device(dtype="float32"))


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Embedder]:
    """A saved judge, and the embedder it was trained with."""
    folder = tmp_path_factory.mktemp("judge")
    embedder = Embedder(make.embedder(folder / "embedder", seed=0))
    train_learned(make.human_scores(folder / "scores"), embedder, seed=0).save(
        folder / "j.safetensors"
    )
    return folder / "j.safetensors", embedder


def test_a_damaged_judge_is_named(judge: tuple[Path, Embedder]) -> None:
    path, embedder = judge
    for _ in _flipped(path, range(0, path.stat().st_size, path.stat().st_size // 40)):
        with pytest.raises(BadFile, match=path.name):
            LearnedJudge.load(path, embedder)
    LearnedJudge.load(path, embedder)


@pytest.mark.parametrize(
    "other",
    [{"behaviour": "beta"}, {"model_digest": "1" * 64}, {"definition": "mean |W * dL/dW|"}],
)
def test_a_shard_of_another_is_named(tmp_path: Path, other: dict[str, str]) -> None:
    kept = _scores(tmp_path)
    tensors = {name: torch.ones(shape) for name, shape in SHAPES.items()}
    write_scores(tensors, tmp_path / "other", "snip", 1, {**METADATA, **other})
    # As long as its own: another name would be noticed by the size.
    if (tmp_path / "other" / kept.path.name).stat().st_size != kept.path.stat().st_size:
        index = read_json(tmp_path / "snip.safetensors.index.json")
        size = (tmp_path / "other" / kept.path.name).stat().st_size
        index["metadata"]["files"][kept.path.name] = size
        write_json(index, tmp_path / "snip.safetensors.index.json")
    shutil.copyfile(tmp_path / "other" / kept.path.name, kept.path)
    with pytest.raises(BadFile, match=rf"{kept.path.name}: its `{next(iter(other))}` is .*another"):
        kept.read()


def test_shards_that_changed_places_are_named(tmp_path: Path) -> None:
    shapes = {"a.weight": (4, 5), "b.weight": (4, 5)}
    tensors = {name: torch.ones(shape) for name, shape in shapes.items()}
    write_scores(tensors, tmp_path, "snip", 2, METADATA)
    one, other = (tmp_path / name for name in shard_names("snip", 2))
    one.rename(tmp_path / "x")
    other.rename(one)
    (tmp_path / "x").rename(other)
    with pytest.raises(BadFile, match=rf"{one.name}: `a\.weight` is missing"):
        flat(StoredScores(tmp_path, "snip", shapes))


def test_a_table_of_an_earlier_version_is_still_read(tmp_path: Path) -> None:
    table = tiny.pairs("alpha", 3)
    table.write_parquet(tmp_path / "old.parquet")
    assert read_parquet(tmp_path / "old.parquet").equals(table)
