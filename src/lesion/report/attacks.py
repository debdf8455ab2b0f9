"""The judges' scores of one model's answers to harmful requests under each attack, as texts."""

from collections.abc import Iterator

import polars as pl

from lesion.tables.lookup import first_estimate, totals
from lesion.tables.read import Headline
from lesion.tables.rows import UNMODIFIED
from lesion.tables.wording import amount, with_interval

_FIRST = ("direct", "prefill")
_HARM = ("harmfulness", "harmful_rate", "coherence")
"""Metrics that the primary judge gives."""
_REFUSAL = {"matching": "refused (matching)", "refusal": "refused (learned)"}
_APART = 0.2
"""The page points out refusal rates of two judges that differ by more than this."""


def attacks_table(
    measurements: pl.DataFrame, shown: Headline, *, compliance: bool = False
) -> pl.DataFrame:
    """Harm, refusals and coherence by attack and variant; empty if there are no completions.

    Args:
        measurements: the model's table of MEASUREMENTS.
        shown: the masks of the before/after table.
        compliance: whether judged harm may only be compliance, and is called that.
    """
    scored = ("compliance score", "complied") if compliance else ("harm score", "judged harmful")
    rows = []
    for attack, table in _by_attack(measurements):
        for variant in shown.columns.values():
            mine = table.filter(variant=variant)
            if mine.is_empty():
                continue
            score, rate, coherent = (
                first_estimate(mine.filter("main", metric=metric)) for metric in _HARM
            )
            refused = mine.filter(metric="refusal_rate")
            rows.append(
                {
                    "attack": attack,
                    "model": variant,
                    scored[0]: with_interval(score, "score", 2),
                    scored[1]: with_interval(rate, "share"),
                    **{
                        name: with_interval(first_estimate(refused.filter(judge=judge)), "share")
                        for judge, name in _REFUSAL.items()
                    },
                    "coherence": with_interval(coherent, "score", 2),
                    "n": str(max(mine["n"])),
                }
            )
    return pl.DataFrame(rows)


def refusal_note(measurements: pl.DataFrame) -> str | None:
    """Where the refusal judges disagree most about the unmodified model; None if they agree."""
    largest, rates = _APART, ""
    for attack, table in _by_attack(measurements):
        unmodified = table.filter(variant=UNMODIFIED, metric="refusal_rate")
        matching, learned = (first_estimate(unmodified.filter(judge=judge)) for judge in _REFUSAL)
        if matching and learned and abs(matching.value - learned.value) > largest:
            largest = abs(matching.value - learned.value)
            texts = [amount(rate.value, "share") for rate in (matching, learned)]
            rates = f"{' and '.join(texts)} under `{attack}`"
    if not rates:
        return None
    return (
        "The refusal judges disagree: phrase matching and the learned judge give the unmodified "
        f"model refusal rates of {rates}. A model may repeat the refusal phrases that an attack "
        "names, and matching counts them. Interpret refusals under such attacks with care."
    )


def _by_attack(measurements: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    attacked = pl.col("attack") != "none"
    answers = totals(measurements, "harm").filter(attacked, pl.col("value").is_not_null())
    names = sorted(set(answers["attack"]), key=lambda name: (name not in _FIRST, name))
    for name in names:
        yield name, answers.filter(attack=name)
