"""What a study cost: the time and memory of every job, summed by stage."""

import math
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import polars as pl

from lesion.io.logs import STAGE_FOLDERS, USAGE, USAGE_COLUMNS
from lesion.tables.wording import NOTHING, amount, percent

_EVALUATION = ("responses", "judgements")
_JOBS = {"stage": pl.String, "seconds": pl.Float64, "processor": pl.Float64, "memory": pl.Float64}


class Cost(NamedTuple):
    """The table of stages as texts, and a sentence that sums it up; empty if no job is known."""

    stages: pl.DataFrame
    sentence: str


def read_jobs(logs: Path) -> pl.DataFrame:
    """Read what jobs wrote beside their logs.

    They are not outputs and cannot be recreated, so missing or truncated files are left out.

    Args:
        logs: the study's folder of `<stage>/….tsv` and `<stage>.tsv`.

    Returns:
        One row for each run of a job: stage, seconds (wall), processor (seconds), memory
        (largest resident set, MiB).
    """
    tables = [pl.DataFrame(schema=_JOBS)]
    for path in sorted(logs.rglob(f"*{USAGE}")):
        stage = path.relative_to(logs).parts[0].removesuffix(USAGE)
        with suppress(OSError, pl.exceptions.PolarsError):
            table = pl.read_csv(path, separator="\t", infer_schema=False)
            jobs = table.select(USAGE_COLUMNS).cast(pl.Float64, strict=False)
            tables.append(jobs.select(pl.lit(stage).alias("stage"), pl.all()))
    jobs = pl.concat(tables)
    return jobs.filter(pl.col("seconds").is_finite(), pl.col("stage").is_in(STAGE_FOLDERS))


def cost_of(jobs: pl.DataFrame) -> Cost:
    """Jobs, times and memory of every stage and of all, and the share of evaluation."""
    if jobs.is_empty():
        return Cost(pl.DataFrame(), "")
    rows = []
    for name in (*STAGE_FOLDERS, "all"):
        own = jobs if name == "all" else jobs.filter(stage=name)
        if own.is_empty():
            continue
        memory = max(own["memory"].drop_nulls(), default=math.nan) / 1024
        rows.append(
            {
                "stage": name,
                "jobs": str(own.height),
                "wall seconds": amount(_total(own["seconds"]), "count"),
                "of all": _share(own, jobs, "seconds"),
                "processor seconds": amount(_total(own["processor"]), "count"),
                "largest memory (GiB)": amount(memory, "score", 1),
            }
        )
    evaluation = jobs.filter(pl.col("stage").is_in(_EVALUATION))
    sentence = (
        f"{jobs.height} jobs took {amount(_total(jobs['processor']) / 3600, 'score', 2)} processor "
        f"hours. Evaluation ({' and '.join(_EVALUATION)}) took "
        f"{_share(evaluation, jobs, 'processor')} of that, and "
        f"{_share(evaluation, jobs, 'seconds')} of the wall time."
    )
    return Cost(pl.DataFrame(rows), sentence)


def _share(part: pl.DataFrame, jobs: pl.DataFrame, column: str) -> str:
    total = _total(jobs[column])
    return percent(_total(part[column]) / total) if total else NOTHING


def _total(numbers: pl.Series) -> float:
    return float(numbers.sum())
