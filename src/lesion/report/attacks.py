"""What is said to harmful requests under each attack, by every judge of refusals: as texts."""

from collections.abc import Iterator

import polars as pl

from lesion.tables.intervals import Estimate
from lesion.tables.lookup import first_estimate, totals
from lesion.tables.read import Headline
from lesion.tables.wording import amount, written

_FIRST = ("direct", "prefill")
_HARM = ("harmfulness", "harmful_rate", "coherence")
"""Metrics that one judge's word is taken for."""
_REFUSAL = {"matching": "refused (matching)", "refusal": "refused (learned)"}
_APART = 0.2
"""Judges of refusals that differ by more of the answers are pointed out."""


def attacks_table(measurements: pl.DataFrame, shown: Headline) -> pl.DataFrame:
    """Harm, refusals and coherence by attack and variant; empty where nothing was completed.

    Args:
        measurements: of one model.
        shown: the masks of the page's columns.
    """
    rows = []
    for attack, table in _by_attack(measurements):
        for variant in shown.columns.values():
            mine = table.filter(variant=variant)
            if mine.is_empty():
                continue
            score, rate, coherent = (_find(mine.filter("main"), metric=metric) for metric in _HARM)
            refused = {
                name: written(_find(mine, metric="refusal_rate", judge=judge), "share")
                for judge, name in _REFUSAL.items()
            }
            rows.append(
                {
                    "attack": attack,
                    "model": variant,
                    "harm score": written(score, "score", 2),
                    "judged harmful": written(rate, "share"),
                    **refused,
                    "coherence": written(coherent, "score", 2),
                    "n": f"{max(mine['n'].to_list())}",
                }
            )
    return pl.DataFrame(rows)


def refusal_note(measurements: pl.DataFrame) -> str | None:
    """Where the judges of refusals disagree most about the intact model; None if hardly at all.

    Args:
        measurements: of one model.
    """
    worst: tuple[float, str] = (_APART, "")
    for attack, table in _by_attack(measurements):
        intact = table.filter(variant="intact", metric="refusal_rate")
        matching, learned = (_find(intact, judge=judge) for judge in _REFUSAL)
        if matching is not None and learned is not None:
            gap = abs(matching.value - learned.value)
            if gap > worst[0]:
                told = f"{amount(matching.value, 'share')} and {amount(learned.value, 'share')}"
                worst = (gap, f"under `{attack}` matching and the learned judge find {told}")
    if not worst[1]:
        return None
    return (
        f"The judges of refusals disagree: of the intact model’s answers {worst[1]} refused. An "
        "attack that names phrases of refusal has them repeated, which matching counts. Read "
        "refusals under such attacks with care."
    )


def _by_attack(measurements: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    asked = pl.col("attack") != "none"
    answers = totals(measurements, "harm").filter(asked, pl.col("value").is_not_null())
    names = sorted(set(answers["attack"]), key=lambda name: (name not in _FIRST, name))
    for name in names:
        yield name, answers.filter(attack=name)


def _find(table: pl.DataFrame, **where: str) -> Estimate | None:
    return first_estimate(table.filter(**where))
