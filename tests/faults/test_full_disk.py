"""Every writer on a disk that is too small: one clear error, nothing half-written, the old kept."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from lesion.checkpoints import write_checkpoint
from lesion.io.addresses import parse
from lesion.io.formats import LesionError, write_json, write_parquet
from lesion.io.reuse import write_rows
from lesion.masks.curve import CURVE_MASKS
from lesion.masks.store import write_mask
from lesion.models.prepare import prepare
from lesion.models.record import candidate_shapes, read_record
from lesion.scores.resume import Resumable, Sums
from lesion.sources.fetch import fetch
from lesion_testing import tiny
from lesion_testing.scored import write_scores

SIZE = 128 * 1024


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, of 128 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"a small disk needs root and mount: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def mask(model: Path) -> Path:
    path = model.with_name("mask.safetensors")
    about = {"role": "harm", "model_digest": read_record(model)["digest"]}
    write_mask(np.arange(9), candidate_shapes(model), about, path)
    return path


def _noise(rows: int) -> pl.DataFrame:
    """Rows of 16 bytes that no compression makes smaller."""
    bytes_ = np.random.default_rng(0).integers(0, 2**62, (rows, 2))
    return pl.DataFrame(bytes_, schema=["key", "other"]).with_columns(pl.col("key").cast(pl.String))


def _json(path: Path, rows: int) -> None:
    write_json(list(range(rows)), path)


def _table(path: Path, rows: int) -> None:
    write_parquet(_noise(rows), path)


def _rows(path: Path, rows: int) -> None:
    write_rows(_noise(rows), path)


def _curve_masks(path: Path, rows: int) -> None:
    places = np.random.default_rng(0).integers(0, 2**60, rows)
    row = {"family": "shared", "seed": 1, "size_ratio": 0.5, "flat_indices": places.tolist()}
    write_parquet(pl.DataFrame([row], schema=CURVE_MASKS), path)


def _mask(path: Path, rows: int) -> None:
    write_mask(np.arange(rows), {"a.weight": (10, 10_000)}, {}, path)


def _scores(path: Path, rows: int) -> None:
    scores = {"a.weight": torch.ones(rows), "b.weight": torch.ones(rows)}
    write_scores(scores, path.parent, "snip", 2, {})


def _sums(path: Path, rows: int) -> None:
    sums = Sums({"w": torch.ones(rows)}, {"w": torch.ones(rows)}, {})
    Resumable(path.parent, "key", 0).save(sums, 1, 0.5, 1)


def _source(path: Path, rows: int) -> None:
    source = path.parents[1] / "source.bin"
    source.write_bytes(bytes(16 * rows))
    fetch([parse(f"file:{source}")], path, path.with_suffix(".json"))


WRITERS: dict[str, Callable[[Path, int], None]] = {
    "json": _json,
    "table": _table,
    "table with rows to reuse": _rows,
    "curve masks": _curve_masks,
    "mask": _mask,
    "scores": _scores,
    "unfinished sums": _sums,
    "source": _source,
}


def _content(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.mark.parametrize("what", WRITERS)
def test_a_full_disk_leaves_what_was_there(disk: Path, what: str) -> None:
    write = WRITERS[what]
    write(disk / "made", 9)
    before = _content(disk)
    assert before
    with pytest.raises(LesionError, match=r"the disk is full|No space left"):
        write(disk / "made", SIZE)
    after = _content(disk)
    assert after.keys() == before.keys()
    # Of the shards of one kind, those written before the disk was full are new, and whole.
    assert what == "scores" or after == before
    write(disk / "made", 9)  # once there is room again
    assert _content(disk) == before


def test_a_checkpoint_without_room_leaves_nothing(disk: Path, model: Path, mask: Path) -> None:
    filler = disk / "filler"
    filler.write_bytes(bytes(SIZE // 2))
    with pytest.raises(LesionError, match="pruned: the disk is full"):
        write_checkpoint(model, mask, disk / "pruned", base="toy", license_="mit")
    assert [path.name for path in disk.iterdir()] == ["filler"]


def test_a_model_without_room_leaves_nothing(disk: Path, model: Path) -> None:
    (disk / "filler").write_bytes(bytes(SIZE // 2))
    with pytest.raises(LesionError, match="model: the disk is full"):
        prepare(model, disk / "model", dtype="float32", license_="mit")
    assert [path.name for path in disk.iterdir()] == ["filler"]
