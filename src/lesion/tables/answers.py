"""Rows on completions: refusal, harmfulness, relevance and coherence, by every judge."""

from collections.abc import Iterator

import polars as pl

from lesion.tables.intervals import Bootstrap
from lesion.tables.metrics import metrics_of
from lesion.tables.rows import UNMODIFIED, Row, metric_rows


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
