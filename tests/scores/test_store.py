import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lesion.io.formats import BadFile, LesionError
from lesion.scores.shards import NORMS, index_name, shard_groups, shard_names, write_shard
from lesion.scores.store import Pooled, StoredNorms, StoredScores
from lesion_testing.scored import flat, write_scores

SHAPES = {f"layers.{n}.weight": (4, 3 + n) for n in range(5)}
METADATA = {"behaviour": "alpha", "examples": "7", **{f"note{n}": str(n) for n in range(9)}}


def _scores(seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return {name: torch.randn(shape) for name, shape in SHAPES.items()}


def _write(folder: Path, shards: int = 3) -> dict[str, torch.Tensor]:
    scores = _scores()
    write_scores(scores, folder, "snip", shards, METADATA)
    return scores


@pytest.mark.parametrize("shards", [1, 3, 8])
def test_what_is_written_is_read(tmp_path: Path, shards: int) -> None:
    scores = _write(tmp_path, shards)
    stored = StoredScores(tmp_path, "snip", SHAPES)
    for name, one in scores.items():
        values = stored.open(name)
        np.testing.assert_array_equal(values[0 : one.numel()], one.flatten().numpy())
        np.testing.assert_array_equal(values[3:7], one.flatten()[3:7].numpy())
    wanted = torch.cat([one.flatten() for one in scores.values()]).numpy()
    np.testing.assert_array_equal(flat(stored), wanted)


def test_the_order_is_the_askers(tmp_path: Path) -> None:
    scores = _write(tmp_path)
    backwards = dict(reversed(SHAPES.items()))
    wanted = torch.cat([scores[name].flatten() for name in backwards]).numpy()
    np.testing.assert_array_equal(flat(StoredScores(tmp_path, "snip", backwards)), wanted)


def test_the_index_says_what_made_it_and_where_all_is(tmp_path: Path) -> None:
    _write(tmp_path)
    index = json.loads((tmp_path / index_name("snip")).read_text())
    assert index["metadata"].items() >= METADATA.items()
    assert index["metadata"]["total_size"] == sum(4 * a * b for a, b in SHAPES.values())
    sizes = {name: (tmp_path / name).stat().st_size for name in shard_names("snip", 3)}
    assert index["metadata"]["files"] == sizes
    assert set(index["weight_map"]) == set(SHAPES)
    assert set(index["weight_map"].values()) == set(sizes)


def test_a_truncated_shard_is_named(tmp_path: Path) -> None:
    _write(tmp_path)
    shard = tmp_path / shard_names("snip", 3)[1]
    shard.write_bytes(shard.read_bytes()[:-4])
    with pytest.raises(BadFile, match=rf"{shard.name}: is missing or cut short"):
        StoredScores(tmp_path, "snip", SHAPES)


def test_a_shard_damaged_in_place_is_named(tmp_path: Path) -> None:
    _write(tmp_path)
    shard = tmp_path / shard_names("snip", 3)[0]
    shard.write_bytes(b"\xff" * shard.stat().st_size)
    with pytest.raises(BadFile, match=shard.name):
        flat(StoredScores(tmp_path, "snip", SHAPES))


@pytest.mark.parametrize(
    ("part", "instead"),
    [
        (b"[0,48]", b"[0,44]"),
        (b"[4,3]", b"[3,4]"),
        (b'"F32"', b'"I32"'),
        (b'weight":{', b'height":{'),
    ],
)
def test_a_shard_whose_header_lies_is_named(tmp_path: Path, part: bytes, instead: bytes) -> None:
    _write(tmp_path)
    shard = tmp_path / shard_names("snip", 3)[0]
    whole = shard.read_bytes()
    assert part in whole
    shard.write_bytes(whole.replace(part, instead, 1))
    with pytest.raises(BadFile, match=rf"{shard.name}: `layers\.0\.weight` is "):
        flat(StoredScores(tmp_path, "snip", SHAPES))


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_scores_that_are_not_finite_are_refused_by_name(tmp_path: Path, value: str) -> None:
    scores = _scores()
    scores["layers.2.weight"][1, 0] = float(value)
    write_scores(scores, tmp_path, "snip", 2, METADATA)
    stored = StoredScores(tmp_path, "snip", SHAPES)
    with pytest.raises(BadFile, match=r"layers\.2\.weight.*not finite"):
        flat(stored)
    assert stored.open("layers.2.weight")[0:4].size == 4  # what is not read is not judged


def test_an_index_of_another_version_is_refused(tmp_path: Path) -> None:
    _write(tmp_path)
    index = tmp_path / index_name("snip")
    found = json.loads(index.read_text())
    del found["metadata"]["tail"]
    index.write_text(json.dumps(found))
    with pytest.raises(BadFile, match=r"is of another version \(no 'tail'\)\. Delete it"):
        StoredScores(tmp_path, "snip", SHAPES)


def test_another_models_scores_are_refused(tmp_path: Path) -> None:
    _write(tmp_path)
    with pytest.raises(BadFile, match="another model"):
        StoredScores(tmp_path, "snip", {**SHAPES, "head.weight": (2, 2)})
    turned = {name: shape[::-1] for name, shape in SHAPES.items()}
    with pytest.raises(BadFile, match=r"layers\.0\.weight"):
        flat(StoredScores(tmp_path, "snip", turned))


def test_the_same_scores_are_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        _write(tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(files) == 4
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def _preserved(folder: Path, seed: int, examples: int) -> StoredScores:
    scores = {name: one.abs() for name, one in _scores(seed).items()}
    write_scores(scores, folder, "preservation", 2, {"examples": str(examples)})
    return StoredScores(folder, "preservation", SHAPES)


def test_a_mean_weighs_behaviours_by_their_examples(tmp_path: Path) -> None:
    parts = [_preserved(tmp_path / str(n), n, count) for n, count in enumerate((3, 1, 4))]
    pooled = Pooled(parts, "mean")
    for name, shape in SHAPES.items():
        each = [part.open(name)[0 : np.prod(shape)] for part in parts]
        wanted = np.average(each, axis=0, weights=[3, 1, 4])
        np.testing.assert_allclose(pooled.open(name)[0 : np.prod(shape)], wanted, rtol=1e-6)
        np.testing.assert_allclose(pooled.open(name)[2:5], wanted[2:5], rtol=1e-6)


def test_a_maximum_takes_the_largest_and_spoils_no_part(tmp_path: Path) -> None:
    parts = [_preserved(tmp_path / str(n), n, 1) for n in range(3)]
    before = [flat(part).copy() for part in parts]
    pooled = Pooled(parts, "max")
    found = np.concatenate([pooled.open(name)[0 : np.prod(one)] for name, one in SHAPES.items()])
    np.testing.assert_array_equal(found, np.max(before, axis=0))
    np.testing.assert_array_equal([flat(part) for part in parts], before)


def test_one_behaviour_is_pooled_to_itself(tmp_path: Path) -> None:
    part = _preserved(tmp_path, 0, 7)
    for how in ("mean", "max"):
        found = Pooled([part], how).open("layers.1.weight")[0:16]
        np.testing.assert_array_equal(found, part.open("layers.1.weight")[0:16])


def test_norms_are_read_by_name_and_missing_ones_explained(tmp_path: Path) -> None:
    norms = {"a.weight": torch.rand(5), "b.weight": torch.rand(3)}
    write_shard(norms, tmp_path / NORMS, METADATA)
    stored = StoredNorms(tmp_path / NORMS)
    for name, one in norms.items():
        np.testing.assert_array_equal(stored.open(name), one.numpy())
    with pytest.raises(LesionError, match=r"no inputs' norm of `experts\.0`.*Remove `wanda` from"):
        stored.open("experts.0")


@pytest.mark.parametrize("shards", [1, 2, 5, 9])
def test_groups_are_runs_of_about_the_same_size(shards: int) -> None:
    sizes = {str(n): 10 + n % 3 for n in range(40)}
    groups = shard_groups(sizes, shards)
    assert [name for group in groups for name in group] == list(sizes)
    totals = [sum(sizes[name] for name in group) for group in groups]
    assert len(totals) == shards
    assert max(totals) - min(totals) <= 2 * 12
