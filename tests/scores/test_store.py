import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lesion.formats import BadFile
from lesion.scores.store import StoredScores, index_name, shard_names, write_scores

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
    read = dict(stored)
    assert list(read) == list(SHAPES)
    for name, one in scores.items():
        np.testing.assert_array_equal(read[name], one.flatten().numpy())
    wanted = torch.cat([one.flatten() for one in scores.values()]).numpy()
    np.testing.assert_array_equal(stored.flat(), wanted)


def test_the_order_is_the_askers(tmp_path: Path) -> None:
    scores = _write(tmp_path)
    backwards = dict(reversed(SHAPES.items()))
    wanted = torch.cat([scores[name].flatten() for name in backwards]).numpy()
    np.testing.assert_array_equal(StoredScores(tmp_path, "snip", backwards).flat(), wanted)


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
        StoredScores(tmp_path, "snip", SHAPES).flat()


def test_scores_that_are_not_finite_are_refused_by_name(tmp_path: Path) -> None:
    scores = _scores()
    scores["layers.2.weight"][0, 0] = float("nan")
    write_scores(scores, tmp_path, "snip", 2, METADATA)
    with pytest.raises(BadFile, match=r"layers\.2\.weight.*not finite"):
        StoredScores(tmp_path, "snip", SHAPES).flat()


def test_another_models_scores_are_refused(tmp_path: Path) -> None:
    _write(tmp_path)
    with pytest.raises(BadFile, match="another model"):
        StoredScores(tmp_path, "snip", {**SHAPES, "head.weight": (2, 2)})
    turned = {name: shape[::-1] for name, shape in SHAPES.items()}
    with pytest.raises(BadFile, match=r"layers\.0\.weight"):
        StoredScores(tmp_path, "snip", turned).flat()


def test_the_same_scores_are_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        _write(tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(files) == 4
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
