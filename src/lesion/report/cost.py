"""What a study cost: the times that Snakemake recorded for every job, summed by stage."""

import math
from pathlib import Path
from typing import NamedTuple

import polars as pl

from lesion.tables.wording import NOTHING, amount, percent

_STAGES = (
    *("models", "pairs", "scores", "masks", "checkpoints"),
    *("responses", "judgements", "tables"),
)
"""Folders of the benchmarks, in the order of the stages. Folders of earlier versions are ignored;
so is `report`, whose time is not known while the page is written."""
_EVALUATION = ("responses", "judgements")
_JOBS = {
    "stage": pl.String,
    "seconds": pl.Float64,
    "processor": pl.Float64,
    "memory": pl.Float64,
}


class Cost(NamedTuple):
    """The table of stages as texts, and a sentence that sums it up; empty if no job is known."""

    stages: pl.DataFrame
    sentence: str


def read_jobs(benchmarks: Path) -> pl.DataFrame:
    """Read Snakemake's benchmark files.

    They are not outputs and cannot be recreated, so missing or truncated files are left out.

    Args:
        benchmarks: the study's folder of `<stage>/….tsv` and `<stage>.tsv`.

    Returns:
        One row for each run of a job: stage, seconds (wall), processor (seconds; null for a job
        too short to be sampled), memory (largest resident set, MiB).
    """
    found = [_read(path, benchmarks) for path in sorted(benchmarks.rglob("*.tsv"))]
    jobs = pl.concat([pl.DataFrame(schema=_JOBS), *found])
    return jobs.filter(pl.col("seconds").is_finite(), pl.col("stage").is_in(_STAGES))


def _read(path: Path, benchmarks: Path) -> pl.DataFrame:
    stage = path.relative_to(benchmarks).parts[0].removesuffix(".tsv")
    try:
        table = pl.read_csv(path, separator="\t", infer_schema=False)
        return table.select(
            stage=pl.lit(stage),
            seconds=pl.col("s").cast(pl.Float64, strict=False),
            processor=pl.col("cpu_time").cast(pl.Float64, strict=False),
            memory=pl.col("max_rss").cast(pl.Float64, strict=False),
        )
    except (OSError, pl.exceptions.PolarsError):
        return pl.DataFrame(schema=_JOBS)


def cost_of(jobs: pl.DataFrame) -> Cost:
    """Jobs, times and memory of every stage and of all, and the share of evaluation.

    Args:
        jobs: the table that `read_jobs` returns.
    """
    if jobs.is_empty():
        return Cost(pl.DataFrame(), "")
    groups = {str(stage): rows for (stage,), rows in jobs.group_by("stage", maintain_order=True)}
    rows = [*((name, groups[name]) for name in _STAGES if name in groups), ("all", jobs)]
    table = pl.DataFrame([_row(name, group, jobs) for name, group in rows])
    return Cost(table, _sentence(jobs))


def _row(name: str, jobs: pl.DataFrame, whole: pl.DataFrame) -> dict[str, str]:
    memory = max(jobs["memory"].drop_nulls(), default=math.nan) / 1024
    return {
        "stage": name,
        "jobs": str(jobs.height),
        "wall seconds": amount(_total(jobs["seconds"]), "count"),
        "of all": _share(jobs["seconds"], whole["seconds"]),
        "processor seconds": amount(_total(jobs["processor"]), "count"),
        "largest memory (GiB)": amount(memory, "score", 1),
    }


def _sentence(jobs: pl.DataFrame) -> str:
    evaluation = jobs.filter(pl.col("stage").is_in(_EVALUATION))
    hours = amount(_total(jobs["processor"]) / 3600, "score", 2)
    wall, processor = (_share(evaluation[name], jobs[name]) for name in ("seconds", "processor"))
    named = f"{', '.join(_EVALUATION[:-1])} and {_EVALUATION[-1]}"
    return (
        f"{jobs.height} jobs took {hours} processor hours. Evaluation ({named}) took {processor} "
        f"of that, and {wall} of the wall time."
    )


def _share(part: pl.Series, whole: pl.Series) -> str:
    return percent(_total(part) / _total(whole)) if _total(whole) else NOTHING


def _total(numbers: pl.Series) -> float:
    return float(numbers.sum())
