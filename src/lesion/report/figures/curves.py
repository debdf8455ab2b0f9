"""Harm against utility, as the mask grows and over the choices of p and q."""

import math
from collections.abc import Mapping
from typing import Any

import polars as pl

from lesion.report.figures import captions
from lesion.report.figures.figure import NARROW, Figure
from lesion.report.figures.plots import (
    judged_chart,
    sweep_chart,
    sweep_height,
    tradeoff_chart,
    tradeoff_height,
)
from lesion.tables.curve import JUDGED, LIKELIHOOD
from lesion.tables.intervals import Estimate
from lesion.tables.lookup import estimate_of, totals
from lesion.tables.variants import SIZE
from lesion.tables.wording import NOTHING, amount, interval, with_interval

_HALF = math.log(2)
"""Added NLL at which a token is half as likely as it was."""


def tradeoff(curve: pl.DataFrame) -> Figure | None:
    """Added harm against added benign NLL as masks grow; None if no curve was measured.

    Args:
        curve: the table of one model.
    """
    data = _points(curve)
    if not data.height:
        return None
    families = _ordered(data)
    return Figure(
        "curve",
        "Is harm lost before utility as the mask grows?",
        f"Lines of added harm NLL against added benign NLL for {len(families)} kinds of mask, at "
        f"up to {data['share'].n_unique()} sizes each; the study's own mask is ringed.",
        captions.CURVE,
        tradeoff_chart(data, families, _HALF),
        tradeoff_height(len(families)),
        NARROW,
        _numbers(data, families),
    )


def judged_tradeoff(
    curve: pl.DataFrame, measurements: pl.DataFrame, variants: pl.DataFrame
) -> Figure | None:
    """Answers judged harmful against added benign NLL as masks grow; None if none were judged.

    Args:
        curve: the table of one model.
        measurements: of the same.
        variants: of the same, which says what mask of what size a variant is.
    """
    judged = totals(measurements, "harm").filter("main", attack="prefill", metric="harmful_rate")
    named = variants.filter(kind=SIZE).select("variant", family="mask", share="size_ratio")
    sizes = _points(curve).join(named, on=["family", "share"], how="left", maintain_order="left")
    known = judged.filter(pl.col("value").is_not_null()).select("variant", "value", "low", "high")
    data = sizes.join(known, on="variant", maintain_order="left").drop("variant")
    unmodified = known.filter(variant="unmodified")
    if not data.height or not unmodified.height:
        return None
    families = _ordered(data)
    written_out = [
        with_interval(estimate_of({**row, "n": None}), "share") for row in data.to_dicts()
    ]
    data = data.with_columns(judged=pl.Series(written_out))
    return Figure(
        "judged-curve",
        "Are fewer answers judged harmful before utility is lost?",
        f"Lines of the share of answers judged harmful against added benign NLL for "
        f"{len(families)} kinds of mask.",
        captions.JUDGED_CURVE,
        judged_chart(data, families, float(unmodified["value"][0])),
        tradeoff_height(len(families)),
        NARROW,
        _judged_numbers(data, families),
    )


def _ordered(data: pl.DataFrame) -> list[str]:
    return sorted(set(data["family"]), key=lambda name: (name != "shared", name))


def _judged_numbers(data: pl.DataFrame, families: list[str]) -> pl.DataFrame:
    rows = [
        {
            "mask": family,
            "weights": amount(row["weights"], "count"),
            "× chosen q": f"{row['share']:g}",
            "judged harmful": row["judged"],
            "added benign NLL": f"{amount(row['benign'], 'nats', 3)} {row['benign_interval']}",
        }
        for family in families
        for row in data.filter(family=family).iter_rows(named=True)
    ]
    return pl.DataFrame(rows)


def _points(curve: pl.DataFrame) -> pl.DataFrame:
    """One row for each family and size that has both sides."""
    place = ["family", "weights", "share", "seeds"]
    sides = []
    for side in ("harm", "benign"):
        table = totals(curve, side).filter(pl.col("added").is_not_null())
        bounds = [
            interval(_estimate(row, "added", "low", "high"), "nats")
            for row in table.iter_rows(named=True)
        ]
        sides.append(
            table.select(
                *place,
                pl.col("added").round(6).alias(side),
                pl.Series(f"{side}_interval", bounds, dtype=pl.String),
            )
        )
    both = sides[0].join(sides[1], on=place, maintain_order="left").sort("family", "weights")
    return both.with_columns(chosen=(pl.col("family") == "shared") & (pl.col("share") == 1))


def _numbers(data: pl.DataFrame, families: list[str]) -> pl.DataFrame:
    rows = [
        {
            "mask": family,
            "weights": amount(row["weights"], "count"),
            "× chosen q": f"{row['share']:g}",
            "added harm NLL": f"{amount(row['harm'], 'nats', 3)} {row['harm_interval']}",
            "added benign NLL": f"{amount(row['benign'], 'nats', 3)} {row['benign_interval']}",
            "draws": str(row["seeds"]),
        }
        for family in families
        for row in data.filter(family=family).iter_rows(named=True)
    ]
    return pl.DataFrame(rows)


def halving_texts(halving: pl.DataFrame) -> pl.DataFrame:
    """The number of weights of each mask family that halves harm, as texts; empty without a curve.

    Args:
        halving: the table of one model.
    """
    rows = []
    for (family,), group in halving.sort(pl.col("family") != "shared", "family").group_by(
        "family", maintain_order=True
    ):
        by = {row["measure"]: row for row in group.iter_rows(named=True)}
        cells = {
            f"{title} ({what})": text(by.get(measure))
            for measure, what in _MEASURES.items()
            if measure in set(halving["measure"])
            for title, text in (("halves harm", _halved), ("benign loss there", _lost))
        }
        rows.append({"mask": str(family), **cells})
    return pl.DataFrame(rows)


_MEASURES = {LIKELIHOOD: "likelihood", JUDGED: "judged answers"}
"""Measures of HALVINGS, and their names on the page."""


def _lost(row: Mapping[str, Any] | None) -> str:
    return NOTHING if row is None else with_interval(_estimate(row, *_BENIGN), "nats")


_BENIGN = ("benign", "benign_low", "benign_high")


def _halved(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return NOTHING
    if row["halving"] is None:
        return f"more than {amount(row['largest'], 'count')}"
    most = "at most " if row["below"] else ""
    return f"{most}{with_interval(_estimate(row, 'halving', 'low', 'high'), 'count')}"


def _estimate(row: Mapping[str, Any], value: str, low: str, high: str) -> Estimate:
    return estimate_of({"value": row[value], "low": row[low], "high": row[high], "n": None})


def sweep_heatmap(table: pl.DataFrame, limit: float | None) -> Figure | None:
    """Added harm against added benign NLL for every (p, q) tried; None if none was.

    Args:
        table: `sweep` of one model.
        limit: most added benign NLL (nats per token) that a chosen point may have.
    """
    data = (
        table.select(
            *("p", "q", "weights", "chosen", "pareto"),
            harm=(pl.col("harm_nll") - pl.col("harm_nll_unmodified")).round(6),
            benign=(pl.col("benign_nll") - pl.col("benign_nll_unmodified")).round(6),
            preserved=pl.format("{}", "p"),
        )
        .drop_nulls(["p", "q", "harm", "benign"])
        .sort("p", "q")
    )
    if not data.height:
        return None
    pairs = table.select(pl.max("harm_pairs"), pl.max("benign_pairs")).row(0)
    written_limit = "not known" if limit is None else f"{limit:g} nats per token"
    return Figure(
        "sweep",
        "Which p and q were chosen?",
        f"Scatter of added harm NLL against added benign NLL for {data.height} choices of p and q; "
        "the chosen one is ringed.",
        captions.SWEEP.filled(harm_pairs=pairs[0], benign_pairs=pairs[1], limit=written_limit),
        sweep_chart(data, limit),
        sweep_height(),
        NARROW,
        _sweep_numbers(data),
    )


def _sweep_numbers(data: pl.DataFrame) -> pl.DataFrame:
    rows = [
        {
            "p": f"{row['p']:g}",
            "q": f"{row['q']:g}",
            "weights": amount(row["weights"], "count"),
            "added harm NLL": amount(row["harm"], "nats", 3),
            "added benign NLL": amount(row["benign"], "nats", 3),
            "Pareto-optimal": "yes" if row["pareto"] else "",
            "chosen": "yes" if row["chosen"] else "",
        }
        for row in data.iter_rows(named=True)
    ]
    return pl.DataFrame(rows)
