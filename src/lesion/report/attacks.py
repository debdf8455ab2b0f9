"""The judges' scores of answers to harmful requests under each attack, as texts."""

from collections.abc import Iterator

import polars as pl

from lesion.tables.intervals import Estimate
from lesion.tables.lookup import first_estimate, totals
from lesion.tables.read import Headline
from lesion.tables.wording import amount, with_interval

_FIRST = ("direct", "prefill")
_HARM = ("harmfulness", "harmful_rate", "coherence")
"""Metrics that the primary judge gives."""
_REFUSAL = {"matching": "refused (matching)", "refusal": "refused (learned)"}
_APART = 0.2
"""The page points out refusal rates of two judges that differ by more than this."""


def attacks_table(measurements: pl.DataFrame, shown: Headline) -> pl.DataFrame:
    """Harm, refusals and coherence by attack and variant; empty if there are no completions.

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
                name: with_interval(_find(mine, metric="refusal_rate", judge=judge), "share")
                for judge, name in _REFUSAL.items()
            }
            rows.append(
                {
                    "attack": attack,
                    "model": variant,
                    "harm score": with_interval(score, "score", 2),
                    "judged harmful": with_interval(rate, "share"),
                    **refused,
                    "coherence": with_interval(coherent, "score", 2),
                    "n": f"{max(mine['n'].to_list())}",
                }
            )
    return pl.DataFrame(rows)


def refusal_note(measurements: pl.DataFrame) -> str | None:
    """Where the refusal judges disagree most about the unmodified model; None if they agree.

    Args:
        measurements: of one model.
    """
    worst: tuple[float, str] = (_APART, "")
    for attack, table in _by_attack(measurements):
        unmodified = table.filter(variant="unmodified", metric="refusal_rate")
        matching, learned = (_find(unmodified, judge=judge) for judge in _REFUSAL)
        if matching is not None and learned is not None:
            gap = abs(matching.value - learned.value)
            if gap > worst[0]:
                told = f"{amount(matching.value, 'share')} and {amount(learned.value, 'share')}"
                worst = (gap, f"{told} under `{attack}`")
    if not worst[1]:
        return None
    return (
        "The refusal judges disagree: phrase matching and the learned judge give the unmodified "
        f"model refusal rates of {worst[1]}. A model may repeat the refusal phrases that an attack "
        "names, and matching counts them. Interpret refusals under such attacks with care."
    )


def _by_attack(measurements: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    asked = pl.col("attack") != "none"
    answers = totals(measurements, "harm").filter(asked, pl.col("value").is_not_null())
    names = sorted(set(answers["attack"]), key=lambda name: (name not in _FIRST, name))
    for name in names:
        yield name, answers.filter(attack=name)


def _find(table: pl.DataFrame, **where: str) -> Estimate | None:
    return first_estimate(table.filter(**where))
