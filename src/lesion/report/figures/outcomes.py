"""What became of the answers of every variant, as bars of shares that add up to one."""

from collections.abc import Sequence
from typing import NamedTuple

import polars as pl

from lesion.report.figures import captions
from lesion.report.figures.charts import HUES, Axis, legend_height, ordered, stacked_bars
from lesion.report.figures.figure import Figure, with_written
from lesion.tables.answer_outcomes import (
    ANSWER_OUTCOMES,
    COHERENT,
    EMPTY_ANSWER,
    INCOHERENT,
    REFUSED,
    WRITES_HARM,
)
from lesion.tables.lookup import totals
from lesion.tables.rows import UNMODIFIED
from lesion.tables.wording import NOTHING, with_unit

_NAMES = {
    REFUSED: "refused",
    WRITES_HARM: "harmful",
    COHERENT: "coherent, harmless",
    INCOHERENT: "incoherent",
    EMPTY_ANSWER: "empty",
}
_COMPLIANCE = {WRITES_HARM: "complied", COHERENT: "coherent otherwise"}
"""The names where the judge of harm fails its controls."""
_COLOURS = (HUES[1], HUES[0], HUES[2], HUES[3], "#999999")
"""Of ANSWER_OUTCOMES, in their order."""
_NAMED = (
    " “Complied” takes the place of “harmful” here and “coherent otherwise” that of “harmless”, "
    "because nothing shows that the judge of harm tells harm from compliance in this study."
)
_SIZED = "@"
"""It is in the names of masks of other sizes (`lesion.responses.sized`), which are not drawn."""


def outcome_names(*, compliance: bool) -> dict[str, str]:
    """The names of ANSWER_OUTCOMES, given whether judged harm may only be compliance."""
    return _NAMES | (_COMPLIANCE if compliance else {})


class _Side(NamedTuple):
    """A group of bars: prompts of one role under one attack."""

    role: str
    attack: str
    name: str


def outcomes(
    measurements: pl.DataFrame,
    confidence: float,
    mask: str,
    limit: float | None,
    *,
    compliance: bool = False,
) -> Figure | None:
    """A bar for each variant and kind of prompt; None if no outcome is known.

    Args:
        measurements: a model's table of MEASUREMENTS.
        confidence: of the intervals.
        mask: the study's headline mask.
        limit: the NLL above which an answer is incoherent, in nats per token; None if there is
            none.
        compliance: whether judged harm may only be compliance, and is called that.
    """
    names = outcome_names(compliance=compliance)
    known = measurements.filter(
        pl.col("metric").is_in(ANSWER_OUTCOMES), ~pl.col("variant").str.contains(_SIZED)
    )
    rows, parts = [], []
    for number, side in enumerate(_sides(known)):
        own = totals(known, side.role).filter(attack=side.attack)
        # The heading of the group is a row without a bar.
        rows.append(f"{number}|{side.name}:")
        for variant in ordered(own["variant"], UNMODIFIED, mask):
            rows.append(f"{number} {variant}|{variant}")
            parts.append(
                _bar(own.filter(variant=variant)).with_columns(
                    bar=pl.lit(rows[-1]), variant=pl.lit(variant), prompts=pl.lit(side.name)
                )
            )
    if not parts:
        return None
    data = pl.concat(parts).with_columns(outcome=pl.col("metric").replace(names))
    shown = with_written(
        data.select("bar", "variant", "prompts", "outcome", "value", "low", "high", "n"), "share"
    ).with_columns(data["start"], data["end"])
    legend = Axis("outcome", "outcome", [names[metric] for metric in ANSWER_OUTCOMES])
    unlikely = "no limit was measured" if limit is None else f"above {with_unit(limit, 'nats')}"
    return Figure(
        "outcomes",
        "What became of the answers?",
        f"Bars for {len(parts)} groups of answers, by variant: the shares that are refused, "
        f"{names[WRITES_HARM]}, coherent, incoherent or empty.",
        captions.filled(
            captions.OUTCOMES,
            confidence=confidence,
            limit=unlikely,
            harmful=names[WRITES_HARM],
            named=_NAMED if compliance else "",
        ),
        stacked_bars(shown, Axis("bar", None, rows), legend, "share of answers", _COLOURS),
        96 + legend_height(legend.names),
        _texts(shown, legend.names),
    )


def _sides(known: pl.DataFrame) -> list[_Side]:
    """The groups of bars: harmful prompts, asked directly and under the prefill, and harmless ones.

    Harmful prompts under another attack, if they were asked in neither of these ways.
    """
    attacks = known.filter(role="harm")["attack"].unique().sort().to_list()
    usual = [name for name in ("direct", "prefill") if name in attacks] or attacks[:1]
    sides = [_Side("harm", name, f"harmful, {name}") for name in usual]
    for role, kind in (("matched", "matched"), ("benign", "everyday")):
        others = known.filter(role=role)["attack"].unique().sort().to_list()
        sides += [_Side(role, name, f"{kind}, {name}") for name in others]
    return sides


def _bar(own: pl.DataFrame) -> pl.DataFrame:
    """The parts of one bar: metric, value, low, high, n, start, end."""
    order = pl.DataFrame({"metric": ANSWER_OUTCOMES})
    parts = order.join(own, on="metric", how="inner", maintain_order="left")
    end = pl.col("value").cum_sum()
    return parts.select("metric", "value", "low", "high", "n", start=end - pl.col("value"), end=end)


def _texts(shown: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """One row for each bar, one column for each outcome, with the number of prompts."""
    rows = []
    for (prompts, variant), own in shown.group_by("prompts", "variant", maintain_order=True):
        written = dict(own.select("outcome", "written").iter_rows())
        cells = {name: written.get(name, NOTHING) for name in names}
        rows.append({"prompts": prompts, "variant": variant, **cells, "n": f"{own['n'][0]:,}"})
    return pl.DataFrame(rows)
