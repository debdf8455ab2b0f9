"""From rows per prompt to rows per measurement. Polars in, polars out; no I/O."""

from collections.abc import Iterator
from typing import NamedTuple

import polars as pl
from scipy.stats import false_discovery_control

from lesion.tables.intervals import Bootstrap
from lesion.tables.likelihoods import likelihood_rows
from lesion.tables.metrics import metrics_of
from lesion.tables.rows import MEASUREMENTS, SHARED, UNMODIFIED, Row, is_main, metric_rows
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
    rows = [*likelihood_rows(asked.nll, boot, mask), *answer_rows(asked.judged, boot)]
    rows += [] if asked.tasks is None else task_rows(asked.tasks, boot)
    rows += [] if asked.understanding is None else understanding_rows(asked.understanding, boot)
    table = pl.DataFrame([{**about, **one} for one in rows], schema=MEASUREMENTS)
    return _adjusted(table.with_columns(is_main(main)))


def answer_rows(judged: pl.DataFrame, boot: Bootstrap) -> Iterator[Row]:
    """Judge scores of every variant's completions, and their changes from the unmodified model.

    Args:
        judged: variant, behaviour, role, attack, prompt, judge, score (null where the judge gave
            none), label (Boolean: refused, or harmful; null where the score has no threshold).
        boot: the bootstrap.
    """
    keys = ["variant", "role", "attack", "judge"]
    for values, table in judged.group_by(keys, maintain_order=True):
        own = dict(zip(keys, map(str, values), strict=True))
        unmodified = judged.filter(**{**own, "variant": UNMODIFIED})
        for metric in metrics_of(own["judge"], own["role"]):
            yield from metric_rows(own, metric.name, table, unmodified, metric.column, boot)


def same_answers(completions: pl.DataFrame) -> frozenset[tuple[str, str]]:
    """Variants and attacks whose answers to all harmful prompts are the same text.

    Such answers count as a single observation, however many there are.

    Args:
        completions: variant, role, attack, completion; of role `harm`, and `explanation`, whose
            attack has the same name.
    """
    asked = completions.filter(pl.col("role").is_in(["harm", "explanation"]))
    texts = asked.group_by("variant", "attack").agg(
        pl.col("completion").str.strip_chars().n_unique()
    )
    return frozenset(texts.filter(completion=1).select("variant", "attack").iter_rows())


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
