"""A seed that leaves no split of a study short of prompts.

A prompt's split is drawn by its own hash and the seed, so that more prompts change no earlier
prompt's split. Of 24 prompts, a fifth of which are to be test prompts, half of all seeds leave four
or fewer, and no interval is computed from fewer than six. The seed is chosen by the sizes of the
splits alone, before anything is measured.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from lesion.pairs.prompts import Shares, draw_splits, near_duplicates, select_prompts
from lesion.pairs.rows import read_rows
from lesion.plan.jobs import prompts_job
from lesion.plan.places import is_local, local_path
from lesion.study import Study
from lesion.tables.effects import FEWEST

WANTED = {"train": 12, "validation": 4, "test": FEWEST}
"""Prompts that a split should have."""
_TRIED = 500


class _Drawn(NamedTuple):
    """A behaviour's prompts before they are split."""

    prompts: list[str]
    near: list[list[int]]
    shares: Shares


def fullest_seed(studies: Sequence[Study]) -> int:
    """The seed, of 0 to 499, that leaves the split with the fewest prompts, as a multiple of
    `WANTED`, the most; the first of several.

    Prompts of local files are counted, in all of the studies; those of sources that are fetched are
    not known yet, and matched requests are in the splits of their harmful requests.

    Raises:
        LesionError: a file is missing or invalid.
    """
    behaviours = [drawn for study in studies for drawn in _behaviours(study)]
    return max(range(_TRIED), key=lambda seed: min(_least(drawn, seed) for drawn in behaviours))


def _behaviours(study: Study) -> list[_Drawn]:
    drawn = []
    for name, behaviour in study.behaviours.items():
        if behaviour.role != "matched" and is_local(study, behaviour.source):
            path = local_path(study, behaviour.source, f"behaviours.{name}.source")
            job = prompts_job(study, {"behaviour": name})
            rows = select_prompts(read_rows(path), path, job.rows, job.need)
            prompts = rows["prompt"].to_list()
            near = near_duplicates(prompts, job.near_duplicate)
            drawn.append(_Drawn(prompts, near, job.split.model_dump()))
    return drawn


def _least(drawn: _Drawn, seed: int) -> float:
    sizes = Counter(draw_splits(drawn.prompts, drawn.shares, drawn.near, seed))
    return min(sizes[split] / wanted for split, wanted in WANTED.items())
