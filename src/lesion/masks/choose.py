"""The choice of (p, q) and of the contrast from the sweep; every later stage reads it here."""

from pathlib import Path
from typing import NamedTuple

import polars as pl

from lesion.io.formats import BadFile, LesionError, read_json, read_parquet, write_json
from lesion.masks.jobs import ChooseJob
from lesion.masks.sweep import SWEEP


class Chosen(NamedTuple):
    """The chosen (p, q), and the weight of the contrast."""

    p: float
    q: float
    contrast: float
    """The weight of the matched requests' scores; 0 in a study without any."""
    limit: float
    """The benign limit: the largest benign NLL that the shared mask may add."""
    row: int
    """Its row in the table of the sweep."""


def choose(sweep: Path, out: Path, job: ChooseJob) -> None:
    """Write the chosen point of a table of SWEEP as JSON.

    Raises:
        LesionError: no point is within the limit.
    """
    write_json(choose_point(read_parquet(sweep, SWEEP), job.limit)._asdict(), out)


def read_chosen(path: Path) -> Chosen:
    """The chosen point.

    Raises:
        BadFile: the file is missing or damaged.
    """
    try:
        return Chosen(**read_json(path))
    except TypeError as error:
        raise BadFile(
            f"{path}: was written by another version of lesion. Delete it and run again."
        ) from error


def choose_point(table: pl.DataFrame, limit: float) -> Chosen:
    """The point with the most added harm NLL among those within the limit on added benign NLL.

    In a study with matched requests, what is added to their answers is subtracted.

    Raises:
        LesionError: no point is within the limit.
    """
    added = table.with_row_index("row").with_columns(
        harm=pl.col("harm_nll")
        - pl.col("harm_nll_unmodified")
        - (pl.col("matched_nll") - pl.col("matched_nll_unmodified")).fill_null(0),
        benign=pl.col("benign_nll") - pl.col("benign_nll_unmodified"),
    )
    # Sorted, NaN would come first: of such a mask nothing is known.
    known = ~pl.col("harm").is_nan().fill_null(value=False)
    measured = added.filter(known)
    if measured.is_empty():
        raise LesionError(
            "masks: with every mask of the sweep, the model gives NaN. Set `responses.dtype` to "
            "`float32`, or add smaller `masks.q`."
        )
    within = measured.filter(pl.col("benign") <= limit, pl.col("weights") > 0)
    if within.is_empty():
        least = min(measured["benign"])
        raise LesionError(
            f"masks: no (p, q) of the study keeps the added benign NLL within "
            f"{limit} nats (least: {least:.3f}). Add smaller `masks.q` or larger "
            "`masks.p`, or raise `masks.max_benign_increase`."
        )
    order = ["harm", "p", "q", "contrast"]
    best = within.sort(order, descending=[True, False, False, False]).row(0, named=True)
    return Chosen(best["p"], best["q"], best["contrast"], limit, best["row"])
