"""From rows per prompt to rows per measurement. Polars in, polars out; no I/O."""

from collections.abc import Iterator
from typing import NamedTuple

import polars as pl
from scipy.stats import false_discovery_control

from lesion.tables.answers import answer_rows
from lesion.tables.intervals import Bootstrap
from lesion.tables.likelihoods import likelihood_rows
from lesion.tables.rows import MEASUREMENTS, SHARED, Row, is_main
from lesion.tables.skills import task_rows, understanding_rows


class Asked(NamedTuple):
    """The numbers of a model's variants, one row for each prompt and number."""

    nll: pl.DataFrame
    judged: pl.DataFrame
    tasks: pl.DataFrame | None = None
    understanding: pl.DataFrame | None = None


def measurements(
    model: str, asked: Asked, boot: Bootstrap, main: str = "learned", mask: str = SHARED
) -> pl.DataFrame:
    """Every measurement of one model.

    Args:
        model: its name.
        asked: the numbers of its variants.
        boot: the bootstrap.
        main: the primary judge of harm.
        mask: the study's headline mask.

    Returns:
        A table of MEASUREMENTS.
    """
    about = {"model": model, "seed": boot.seed}
    rows = [{**about, **one} for one in _rows(asked, boot, mask)]
    return _adjusted(pl.DataFrame(rows, schema=MEASUREMENTS).with_columns(is_main(main)))


def _rows(asked: Asked, boot: Bootstrap, mask: str) -> Iterator[Row]:
    yield from likelihood_rows(asked.nll, boot, mask)
    yield from answer_rows(asked.judged, boot)
    if asked.tasks is not None:
        yield from task_rows(asked.tasks, boot)
    if asked.understanding is not None:
        yield from understanding_rows(asked.understanding, boot)


def _adjusted(table: pl.DataFrame) -> pl.DataFrame:
    """The table with p-values corrected (Benjamini and Hochberg) within each comparison."""
    numbered = table.drop("p_adjusted").with_row_index("place")
    tested = numbered.drop_nulls("p_value")
    parts = [
        group.select("place", p_adjusted=pl.Series(false_discovery_control(group["p_value"])))
        for _, group in tested.group_by("metric", "judge", "attack", maintain_order=True)
    ]
    if not parts:
        return table
    together = numbered.join(pl.concat(parts), on="place", how="left", maintain_order="left")
    return together.select(*MEASUREMENTS)
