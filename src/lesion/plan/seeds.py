"""A seed that leaves no split of a study short of prompts.

A prompt's split is drawn by its own hash and the seed, so that more prompts change no earlier
prompt's split. With the preset `quick`, most seeds leave some behaviour fewer than the six test
prompts that an interval needs. The seed is chosen by the sizes of the splits alone, before anything
is measured.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from lesion.pairs.prompts import Shares, draw_splits, select_prompts
from lesion.pairs.rows import read_rows
from lesion.pairs.similarity import near_duplicates
from lesion.plan.jobs import prompts_job
from lesion.plan.places import is_local, local_path
from lesion.study import Study
from lesion.tables.effects import FEWEST, FEWEST_OF_ONE

WANTED = {"train": 10, "validation": 4, "test": FEWEST}
"""Prompts that a split of a harm type should have; other behaviours are measured together, and
`FEWEST_OF_ONE` test prompts of each will do."""
# fmt: off
SEEDS = (
    1, 5, 6, 9, 17, 18, 20, 21, 22, 27, 28, 31, 32, 33, 34, 38, 39, 41, 47, 49, 50, 51, 55, 57, 58,
    60, 62, 63, 64, 68, 69, 70, 72, 75, 76, 79, 81, 82, 83, 88, 91, 92, 93, 95, 96, 97, 99, 102,
    104, 107, 110, 111, 112, 114, 115, 121, 122, 123, 125, 126, 130, 132, 134, 140, 141, 142, 148,
    150, 151, 152, 153, 155, 157, 163, 164, 165, 168, 170, 172, 173, 176, 177, 179, 180, 182, 183,
    186, 188, 189, 190, 195, 196, 199, 200, 201, 203, 211, 212, 221, 222,
)
# fmt: on
"""The seeds that are tried: those that leave the presets' refusal prompts at least 0.83 of `WANTED`
in every split. These prompts are fetched, so a new study does not have them yet."""


class _Drawn(NamedTuple):
    """A behaviour's prompts before they are split."""

    prompts: list[str]
    near: list[list[int]]
    shares: Shares
    wanted: dict[str, int]


def fullest_seed(studies: Sequence[Study]) -> int:
    """The first of `SEEDS` that leaves no split short of prompts, or else that comes nearest to it.

    Prompts of local files are counted, in all of the studies; those of sources that are fetched are
    not known yet, and matched requests are in the splits of their harmful requests.

    Raises:
        LesionError: a file is missing or invalid.
    """
    behaviours = [drawn for study in studies for drawn in _behaviours(study)]
    best, most = SEEDS[0], 0.0
    for seed in SEEDS:
        fullness = min([1.0, *(_fullness(drawn, seed) for drawn in behaviours)])
        if fullness > most:
            best, most = seed, fullness
        if fullness == 1:
            break
    return best


def _behaviours(study: Study) -> list[_Drawn]:
    drawn = []
    for name, behaviour in study.behaviours.items():
        if behaviour.role != "matched" and is_local(study, behaviour.source):
            path = local_path(study, behaviour.source, f"behaviours.{name}.source")
            job = prompts_job(study, {"behaviour": name})
            rows = select_prompts(read_rows(path), path, job.rows, job.need)
            prompts = rows["prompt"].to_list()
            near = near_duplicates(prompts, job.near_duplicate)
            wanted = WANTED if behaviour.role == "harm" else {**WANTED, "test": FEWEST_OF_ONE}
            drawn.append(_Drawn(prompts, near, job.split.model_dump(), wanted))
    return drawn


def _fullness(drawn: _Drawn, seed: int) -> float:
    """The least share of what is wanted that any split has; it may be above 1."""
    sizes = Counter(draw_splits(drawn.prompts, drawn.shares, drawn.near, seed))
    return min(sizes[split] / wanted for split, wanted in drawn.wanted.items())
