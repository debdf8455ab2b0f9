import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from lesion.io.formats import BadFile
from lesion.masks.store import FORMAT, read_mask, write_mask

SHAPES = {"b.weight": (4, 6), "a.weight": (3, 5), "c.weight": (2, 2)}
PLACES = np.array([0, 7, 23, 24, 38], np.int64)


def test_a_mask_comes_back(tmp_path: Path) -> None:
    write_mask(PLACES, SHAPES, {"mask": "alpha", "role": "harm"}, tmp_path / "m.safetensors")
    mask = read_mask(tmp_path / "m.safetensors")
    assert {name: one.tolist() for name, one in mask.indices.items()} == {
        "b.weight": [0, 7, 23],
        "a.weight": [0, 14],
    }
    assert list(mask.shapes.items()) == list(SHAPES.items())
    assert mask.size == 5
    np.testing.assert_array_equal(mask.flat(), PLACES)
    wanted = {"mask": "alpha", "role": "harm", "weights": "5", "candidates": "43"}
    assert mask.metadata.items() >= wanted.items()


def test_an_empty_mask_comes_back(tmp_path: Path) -> None:
    write_mask(PLACES[:0], SHAPES, {}, tmp_path / "m.safetensors")
    assert read_mask(tmp_path / "m.safetensors").flat().tolist() == []


WRITE = """
import sys
from pathlib import Path
import numpy as np
from lesion.masks.store import write_mask

names = {f"layers.{n}.weight" for n in range(40)}
shapes = {name: (4, 4) for name in sorted(names)}
metadata = {name: name for name in names}
write_mask(np.arange(0, 640, 3), shapes, metadata, Path(sys.argv[1]))
"""


def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    for seed in ("1", "2"):
        subprocess.run(
            [sys.executable, "-c", WRITE, str(tmp_path / seed)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
        )
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_what_is_no_whole_mask_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    write_mask(PLACES, SHAPES, {}, path)
    whole = path.read_bytes()
    for damaged in (b"", whole[:5], whole[:-1], b"\xff" * len(whole)):
        path.write_bytes(damaged)
        with pytest.raises(BadFile, match=r"m\.safetensors: is missing or not a whole mask"):
            read_mask(path)
    path.unlink()
    with pytest.raises(BadFile, match="is missing"):
        read_mask(path)


def test_another_format_is_refused(tmp_path: Path) -> None:
    save_file({"a.weight.indices": PLACES}, tmp_path / "m", {"lesion_format": "0"})
    with pytest.raises(BadFile, match="not a mask of format"):
        read_mask(tmp_path / "m")


@pytest.mark.parametrize("places", [[3, 2], [1, 1], [0, 15], [-1, 2]])
def test_places_out_of_order_or_outside_are_refused(tmp_path: Path, places: list[int]) -> None:
    header = {"lesion_format": FORMAT, "shapes": '{"a.weight": [3, 5]}'}
    save_file({"a.weight.indices": np.array(places)}, tmp_path / "m", header)
    with pytest.raises(BadFile, match=r"indices of `a\.weight`"):
        read_mask(tmp_path / "m")
