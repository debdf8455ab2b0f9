import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save, save_file

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
    for damaged in (whole[: len(whole) // 2], whole[:-1], whole[:-1] + b"\xff"):
        path.write_bytes(damaged)
        with pytest.raises(
            BadFile, match=r"m\.safetensors: is not a whole mask.*Delete it and run"
        ):
            read_mask(path)


GIVE = r"Give a mask: results/STUDY/masks/MODEL/NAME\.safetensors\."


@pytest.mark.parametrize(
    "content",
    [
        save({"a.weight": np.zeros((3, 5), np.float32)}),
        save({"a.weight": np.zeros((3, 5), np.float32)}, {"format": "pt"}),
        b'{"prompt": "one"}\n{"prompt": "two"}\n',
        b"\xff" * 500,
        b"",
    ],
    ids=["weights", "weights of PyTorch", "JSON lines", "no text", "empty"],
)
def test_a_file_of_the_users_is_no_mask_and_is_not_to_be_deleted(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(content)
    wanted = (
        rf"mine\.safetensors: is no mask that lesion wrote\. {GIVE} If it lies there, it is dam"
    )
    with pytest.raises(BadFile, match=wanted) as caught:
        read_mask(path)
    assert "Delete it" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [("none.safetensors", "is missing: there is no such file"), (".", "could not be read: Is a d")],
)
def test_a_path_without_a_file_is_named(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(BadFile, match=rf"{said}.*\. {GIVE}") as caught:
        read_mask(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}: ")
    assert "Delete it" not in str(caught.value)


def test_another_format_is_refused(tmp_path: Path) -> None:
    save_file({"a.weight.indices": PLACES}, tmp_path / "m", {"lesion_format": "0"})
    with pytest.raises(BadFile, match=r"not a mask of format 1\. Delete it and run"):
        read_mask(tmp_path / "m")


@pytest.mark.parametrize("places", [[3, 2], [1, 1], [0, 15], [-1, 2]])
def test_places_out_of_order_or_outside_are_refused(tmp_path: Path, places: list[int]) -> None:
    header = {"lesion_format": FORMAT, "shapes": '{"a.weight": [3, 5]}'}
    save_file({"a.weight.indices": np.array(places)}, tmp_path / "m", header)
    with pytest.raises(BadFile, match=r"indices of `a\.weight` .*Delete it and run"):
        read_mask(tmp_path / "m")
