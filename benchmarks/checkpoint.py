"""Time and memory of writing a pruned checkpoint: `python benchmarks/checkpoint.py --dir /scratch`.

Makes a bf16 checkpoint of random bytes, then by turns writes and verifies it pruned, and copies the
same files with `cp` and reads the copies once. Prints the median of the paired ratios (see
`ratios`), which should be at most 1.2, and the most memory the writing process had, itself and
beyond Python alone.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from ratios import alternate, ratio, spread

from lesion.io.formats import write_json
from lesion.masks.store import write_mask
from lesion.models.record import FORMAT, RECORD

COLUMNS = 4096
PIECE = 2**24
DIGEST = "0" * 64

WRITER = """
import sys, time
from pathlib import Path

def most():
    # Not getrusage: its peak is the parent's where that was higher, from before the exec.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

baseline = most()
from lesion.checkpoints import write_checkpoint
imported = most()
base, mask, out = map(Path, sys.argv[1:])
print("ready", flush=True)
sys.stdin.readline()
started = time.perf_counter()
write_checkpoint(base, mask, out, base="synthetic", license_="mit")
print(time.perf_counter() - started, baseline, imported, most())
"""


def make(folder: Path, size: int, shards: int, weights: int) -> Path:
    """Write a base checkpoint with its record, and a mask of it; return the mask."""
    folder.mkdir()
    rows = size // shards // 2 // COLUMNS // 4
    shapes, where = {}, {}
    for shard in range(shards):
        names = [f"model.layers.{shard}.mlp.{n}_proj.weight" for n in ("down", "gate", "k", "up")]
        shapes |= dict.fromkeys(names, (rows, COLUMNS))
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        where |= dict.fromkeys(names, file)
        write_shard(folder / file, names, rows)
    write_json({"metadata": {}, "weight_map": where}, folder / "model.safetensors.index.json")
    write_json({"tie_word_embeddings": False}, folder / "config.json")
    record = {
        "format": FORMAT,
        "architecture": "LlamaForCausalLM",
        "license": "mit",
        "digest": DIGEST,
        "files": {path.name: path.stat().st_size for path in folder.iterdir()},
        "candidates": list(shapes.items()),
        "transposed": [],
        "unstored": [],
    }
    write_json(record, folder / RECORD)
    total = len(shapes) * rows * COLUMNS
    indices = np.random.default_rng(0).choice(total, weights, replace=False, shuffle=False)
    mask = folder.with_name("mask.safetensors")
    header = {"role": "harm", "model_digest": DIGEST, "mask": "random"}
    write_mask(np.sort(indices), shapes, header, mask)
    return mask


def write_shard(path: Path, names: list[str], rows: int) -> None:
    size = rows * COLUMNS * 2
    header = {
        name: {
            "dtype": "BF16",
            "shape": [rows, COLUMNS],
            "data_offsets": [index * size, (index + 1) * size],
        }
        for index, name in enumerate(names)
    }
    text = json.dumps(header).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    left = size * len(names)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        while left:
            left -= file.write(os.urandom(min(PIECE, left)))


def write(base: Path, mask: Path, out: Path) -> list[float]:
    """Seconds, and kilobytes at the start, after importing, and at the most."""
    command = [sys.executable, "-c", WRITER, *map(str, (base, mask, out))]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        clear(out)
        child.stdin.write("go\n")
        numbers = [float(number) for number in child.stdout.readline().split()]
    if child.returncode:
        sys.exit("the writing process failed")
    return numbers


def copy(base: Path, out: Path) -> float:
    """Seconds of `cp` and of reading the copies once."""
    buffer = bytearray(2**20)
    clear(out)
    started = time.perf_counter()
    out.mkdir()
    subprocess.run(["cp", *map(str, sorted(base.iterdir())), str(out)], check=True)
    for path in sorted(out.iterdir()):
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    return time.perf_counter() - started


def clear(out: Path) -> None:
    """Remove what the other side wrote, at the last moment.

    Both sides then begin alike: nothing waits to go to the disk, and the memory just freed is there
    for the new files. A virtual machine gives it back after two seconds, and to get it again takes
    longer than any copying.
    """
    os.sync()
    shutil.rmtree(out, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, help="where to write; twice --gigabytes have to fit")
    parser.add_argument("--gigabytes", type=float, default=4)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--weights", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    size = int(chosen.gigabytes * 10**9)
    with tempfile.TemporaryDirectory(dir=chosen.dir) as scratch:
        if shutil.disk_usage(scratch).free < 2.1 * size:
            sys.exit(f"{scratch}: {2.1 * size / 1e9:.1f} GB have to be free; see --dir")
        base, out = Path(scratch) / "base", Path(scratch) / "out"
        mask = make(base, size, chosen.shards, chosen.weights)
        written: list[list[float]] = []

        def writing() -> float:
            written.append(write(base, mask, out))
            return written[-1][0]

        copy(base, out)
        sides = {"written": writing, "cp and read": lambda: copy(base, out)}
        times = alternate(sides, chosen.rounds)
    for side, spent in times.items():
        print(f"{side:12} {spread(spent)} s")
    print(f"written / cp and read = {ratio(times['written'], times['cp and read'])}")
    start, imported, peak = (max(run[n] for run in written) / 1024 for n in (1, 2, 3))
    print(
        f"peak memory {peak:.0f} MiB: {peak - start:.0f} beyond Python alone, "
        f"{peak - imported:.0f} beyond its imports"
    )


if __name__ == "__main__":
    main()
