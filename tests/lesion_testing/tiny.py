"""The tiny checkpoint as the `models` stage leaves it, and small tables of pairs to go with it."""

from pathlib import Path

import polars as pl
import torch

from lesion.models.load import Loaded, load
from lesion.models.prepare import prepare
from lesion.pairs.tables import PAIRS
from lesion.study.job import Device
from lesion_testing import make

TEXTS = [" ".join(make.WORDS), " ".join(make.TOPICS.values()), "Sure here it is"]
PREFILL = "Sure here"


def checkpoint(folder: Path, seed: int = 0) -> Path:
    """A prepared checkpoint folder in `folder`."""
    source = make.llama(folder / "source", TEXTS, seed)
    prepare(source, folder / "model", dtype="float32", license_="mit")
    return folder / "model"


def loaded(folder: Path) -> Loaded:
    """The tiny checkpoint in memory, on one thread."""
    found = load(folder, Device(dtype="float32"))
    torch.set_num_threads(1)
    return found


def pairs(name: str, count: int, split: str = "test") -> pl.DataFrame:
    """Pairs of one split, every other one finished."""
    rows = [
        {
            "prompt": row["prompt"],
            "response": row["response"],
            "split": split,
            "prefill": PREFILL,
            "finished": number % 2 == 0,
            "outcome": "kept",
            "key": str(number),
        }
        for number, row in enumerate(make.prompts(name, count))
    ]
    return pl.DataFrame(rows, schema=PAIRS)
