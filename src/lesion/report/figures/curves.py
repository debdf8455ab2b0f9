"""Harm against utility in one model, as the mask grows and over the choices of p and q."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import polars as pl

from lesion.report.figures import captions
from lesion.report.figures.charts import HUES, Axis, Chart, legend_height, lines, named_marks
from lesion.report.figures.figure import Figure, TextOf, text_column, with_written
from lesion.tables.curve import JUDGED, LIKELIHOOD
from lesion.tables.lookup import estimate_of, totals
from lesion.tables.rows import SHARED, UNMODIFIED
from lesion.tables.variants import SIZE
from lesion.tables.wording import NOTHING, amount, interval, with_interval

_HALF = math.log(2)
"""Added NLL at which a token is half as likely as it was."""

_HEIGHT = 320
_TICKS = (-3.0, -1.0, -0.3, -0.1, -0.03, 0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


def tradeoff(curve: pl.DataFrame, mask: str = SHARED) -> Figure | None:
    """Added harm against added benign NLL as masks grow; None if no curve was measured.

    The study's headline `mask` comes first, and its chosen size is ringed.
    """
    data = _points(curve, mask)
    if not data.height:
        return None
    families = _ordered(data, mask)
    x, y = _added(data, "benign", 0.03), _added(data, "harm", 0.03)
    color, shape = named_marks(Axis("family", "mask", families))
    tooltip = [
        *_about_mask(),
        alt.Tooltip("seeds:Q", title="draws"),
        alt.Tooltip("harm:Q", title="added harm NLL", format=".3f"),
        alt.Tooltip("harm_interval:N", title="its interval"),
        alt.Tooltip("benign:Q", title="added benign NLL", format=".3f"),
        alt.Tooltip("benign_interval:N", title="its interval"),
    ]
    layers = [
        _equal_loss(data, x, y),
        _dashed("harm", [_HALF]).encode(y=y),
        *lines(alt.Chart(data).encode(x=x, y=y, color=color), shape, "weights:Q", tooltip),
        *_ringed(data, x, y),
    ]
    return Figure(
        "curve",
        "Is harm lost before utility as the mask grows?",
        f"Lines of added harm NLL against added benign NLL for {len(families)} kinds of mask, at "
        f"up to {data['size_ratio'].n_unique()} sizes each; the study's own mask is ringed.",
        captions.filled(captions.CURVE, mask=mask),
        alt.LayerChart(layer=layers, height=_HEIGHT),
        80 + legend_height(families),
        _numbers(
            data,
            families,
            {
                "added harm NLL": lambda row: _with_interval(row, "harm"),
                "added benign NLL": lambda row: _with_interval(row, "benign"),
                "draws": lambda row: str(row["seeds"]),
            },
        ),
    )


def counted_answers(compliance: bool) -> str:
    """What the judge of harm counts: with `compliance`, it may see no more than that."""
    return "that comply" if compliance else "judged harmful"


def judged_tradeoff(
    curve: pl.DataFrame,
    measurements: pl.DataFrame,
    variants: pl.DataFrame,
    mask: str = SHARED,
    *,
    compliance: bool = False,
) -> Figure | None:
    """Answers judged harmful against added benign NLL as masks grow; None if none were judged.

    With `compliance`, they are called answers that comply.
    """
    counted = counted_answers(compliance)
    judged = totals(measurements, "harm").filter(
        "main", pl.col("value").is_not_null(), attack="prefill", metric="harmful_rate"
    )
    known = with_written(judged, "share").select(
        *("variant", "value", "low", "high"), judged="written"
    )
    named = variants.filter(kind=SIZE).select("variant", "size_ratio", family="mask")
    sizes = _points(curve, mask).join(
        named, on=["family", "size_ratio"], how="left", maintain_order="left"
    )
    data = sizes.join(known, on="variant", maintain_order="left").drop("variant")
    unmodified = known.filter(variant=UNMODIFIED)
    if not data.height or not unmodified.height:
        return None
    families = _ordered(data, mask)
    return Figure(
        "judged-curve",
        f"Are there fewer answers {counted} before utility is lost?",
        f"Lines of the share of answers {counted} against added benign NLL for "
        f"{len(families)} kinds of mask.",
        captions.filled(captions.JUDGED_CURVE, mask=mask, counted=counted),
        _judged_chart(data, families, float(unmodified["value"][0]), f"answers {counted}"),
        80 + legend_height(families),
        _numbers(
            data,
            families,
            {
                f"answers {counted}": lambda row: str(row["judged"]),
                "added benign NLL": lambda row: _with_interval(row, "benign"),
            },
        ),
    )


def _judged_chart(
    data: pl.DataFrame, families: Sequence[str], unmodified: float, counted: str
) -> Chart:
    """Lines along the sizes of each family; dashed lines at the unmodified share and its half."""
    y: dict[str, Any] = {
        "title": counted,
        "scale": alt.Scale(domain=[0, 1]),
        "axis": alt.Axis(format="~%"),
    }
    x, value = _added(data, "benign", 0.03), alt.Y("value:Q", **y)
    color, shape = named_marks(Axis("family", "mask", families))
    tooltip = [
        *_about_mask(),
        alt.Tooltip("judged:N", title=counted),
        alt.Tooltip("benign:Q", title="added benign NLL", format=".3f"),
    ]
    # Only one family has bars, since those of all families would overlap.
    sure = alt.Chart(data.filter(family=families[0])).mark_rule(strokeWidth=1, color=HUES[0])
    layers = [
        _dashed("value", [unmodified, unmodified / 2]).encode(y=value),
        sure.encode(x=x, y=alt.Y("low:Q", **y), y2="high:Q"),
        *lines(alt.Chart(data).encode(x=x, y=value, color=color), shape, "weights:Q", tooltip),
        *_ringed(data, x, value),
    ]
    return alt.LayerChart(layer=layers, height=_HEIGHT)


def _points(curve: pl.DataFrame, mask: str) -> pl.DataFrame:
    """One row for each family and size that has both sides."""
    keys = ["family", "weights", "size_ratio", "seeds"]
    sides = []
    for side in ("harm", "benign"):
        table = totals(curve, side).filter(pl.col("added").is_not_null())
        estimates = table.rename({"added": "value"})
        bounds = text_column(
            estimates, f"{side}_interval", lambda row: interval(estimate_of(row), "nats")
        )
        sides.append(table.select(*keys, pl.col("added").round(6).alias(side), bounds))
    both = sides[0].join(sides[1], on=keys, maintain_order="left").sort("family", "weights")
    return both.with_columns(chosen=(pl.col("family") == mask) & (pl.col("size_ratio") == 1))


def _ordered(data: pl.DataFrame, mask: str) -> list[str]:
    return sorted(set(data["family"]), key=lambda name: (name != mask, name))


def _numbers(
    data: pl.DataFrame, families: Sequence[str], columns: Mapping[str, TextOf]
) -> pl.DataFrame:
    """The sizes of each family, with the further columns."""
    rows = [
        {
            "mask": family,
            "weights": amount(row["weights"], "count"),
            "× chosen q": f"{row['size_ratio']:g}",
            **{name: text(row) for name, text in columns.items()},
        }
        for family in families
        for row in data.filter(family=family).iter_rows(named=True)
    ]
    return pl.DataFrame(rows)


def _with_interval(row: Mapping[str, Any], side: str) -> str:
    return f"{amount(row[side], 'nats', 3)} {row[f'{side}_interval']}"


def halving_texts(halving: pl.DataFrame, mask: str = SHARED) -> pl.DataFrame:
    """How many weights of each mask family halve harm, as texts; empty without a curve."""
    measured = set(halving["measure"])
    names = {LIKELIHOOD: "likelihood", JUDGED: "judged answers"}
    rows = []
    for (family,), group in halving.sort(pl.col("family") != mask, "family").group_by(
        "family", maintain_order=True
    ):
        cells = {"mask": str(family)}
        for measure, name in names.items():
            if measure in measured:
                row = next(group.filter(measure=measure).iter_rows(named=True), None)
                halved, lost = (NOTHING, NOTHING) if row is None else _halved(row)
                cells |= {f"halves harm ({name})": halved, f"benign loss there ({name})": lost}
        rows.append(cells)
    return pl.DataFrame(rows)


def _halved(row: Mapping[str, Any]) -> tuple[str, str]:
    """The number of weights that halves harm, and the NLL that these add to benign responses."""
    bounds = {"low": row["benign_low"], "high": row["benign_high"]}
    lost = estimate_of({"value": row["benign"], **bounds, "n": None})
    if row["halving"] is None:
        weights = f"more than {amount(row['largest'], 'count')}"
    else:
        size = estimate_of({**row, "value": row["halving"]})
        weights = f"{'at most ' if row['below'] else ''}{with_interval(size, 'count')}"
    return weights, with_interval(lost, "nats")


def sweep_heatmap(table: pl.DataFrame, limit: float | None) -> Figure | None:
    """Added harm against added benign NLL for every (p, q) tried; None if none was.

    Args:
        table: `sweep`.
        limit: most added benign NLL (nats per token) that a chosen point may have.
    """
    data = (
        table.select(
            *("p", "q", "contrast", "weights", "chosen", "pareto"),
            harm=(pl.col("harm_nll") - pl.col("harm_nll_unmodified")).round(6),
            benign=(pl.col("benign_nll") - pl.col("benign_nll_unmodified")).round(6),
            preserved=pl.format("{}", "p")
            if table["contrast"].n_unique() < 2
            else pl.format("{}, contrast {}", "p", "contrast"),
        )
        .drop_nulls(["p", "q", "harm", "benign"])
        .sort("contrast", "p", "q")
    )
    if not data.height:
        return None
    pairs = table.select(pl.max("harm_pairs"), pl.max("benign_pairs")).row(0)
    written_limit = "not known" if limit is None else f"{limit:g} nats per token"
    numbers = [
        {
            "p": f"{row['p']:g}",
            "q": f"{row['q']:g}",
            "contrast": f"{row['contrast']:g}",
            "weights": amount(row["weights"], "count"),
            "added harm NLL": amount(row["harm"], "nats", 3),
            "added benign NLL": amount(row["benign"], "nats", 3),
            "Pareto-optimal": "yes" if row["pareto"] else "",
            "chosen": "yes" if row["chosen"] else "",
        }
        for row in data.iter_rows(named=True)
    ]
    return Figure(
        "sweep",
        "Which p and q were chosen?",
        f"Scatter of added harm NLL against added benign NLL for {data.height} choices of p and q; "
        "the chosen one is ringed.",
        captions.filled(
            captions.SWEEP, harm_pairs=pairs[0], benign_pairs=pairs[1], limit=written_limit
        ),
        _sweep_chart(data, limit),
        100,
        pl.DataFrame(numbers),
    )


def _sweep_chart(data: pl.DataFrame, limit: float | None) -> Chart:
    """Every (p, q), and a line through the points of each p; the limit on benign loss is dashed."""
    x, y = _added(data, "benign", 0.1), _added(data, "harm", 0.1)
    order = list(dict.fromkeys(data["preserved"]))
    # The yellow end is invisible on white.
    viridis = alt.SchemeParams(name="viridis", extent=[0, 0.8])
    # The titles must be equal in both channels, or there would be two legends.
    common: dict[str, Any] = {
        "title": "p (preserved)",
        "legend": alt.Legend(orient="top", columns=4),
    }
    color = alt.Color("preserved:N", scale=alt.Scale(domain=order, scheme=viridis), **common)
    shape = alt.Shape("preserved:N", scale=alt.Scale(domain=order), **common)
    tooltip = [
        alt.Tooltip("p:Q", format="g"),
        alt.Tooltip("q:Q", format="g"),
        alt.Tooltip("weights:Q", title="weights in the shared mask", format=","),
        alt.Tooltip("harm:Q", title="added harm NLL", format=".3f"),
        alt.Tooltip("benign:Q", title="added benign NLL", format=".3f"),
        alt.Tooltip("pareto:N", title="Pareto-optimal"),
    ]
    base = alt.Chart(data).encode(x=x, y=y, color=color)
    layers = [
        _equal_loss(data, x, y),
        *lines(base, shape, "q:Q", tooltip, stroke=1),
        *_ringed(data, x, y),
    ]
    if limit is not None:
        layers.append(_dashed("benign", [limit], color="#b35806", width=1.5).encode(x=x))
    return alt.LayerChart(layer=layers, height=_HEIGHT)


def _added(data: pl.DataFrame, field: str, constant: float) -> Any:
    """An axis, linear up to a constant and logarithmic beyond, since losses span four decades."""
    low, high = data.select(pl.min(field), pl.max(field).alias("high")).row(0)
    ticks = [
        tick
        for tick in _TICKS
        if min(low, 0) <= tick <= max(high, constant) and (abs(tick) >= constant or tick == 0)
    ]
    channel = alt.X if field == "benign" else alt.Y
    return channel(
        f"{field}:Q",
        title=f"added {field} NLL (nats per token)",
        scale=alt.Scale(type="symlog", constant=constant, nice=False, padding=12),
        axis=alt.Axis(values=ticks, format="~g"),
    )


def _about_mask() -> list[alt.Tooltip]:
    return [
        alt.Tooltip("family:N", title="mask"),
        alt.Tooltip("weights:Q", title="weights zeroed", format=","),
        alt.Tooltip("size_ratio:Q", title="× the chosen q", format="~g"),
    ]


def _equal_loss(data: pl.DataFrame, x: Any, y: Any) -> Any:
    """The diagonal within the range of both axes, so that it extends neither."""
    end = max(0.0, float(data.select(pl.min_horizontal(pl.max("harm", "benign"))).item()))
    ends = pl.DataFrame({"harm": [0.0, end], "benign": [0.0, end]})
    return alt.Chart(ends).mark_line(strokeWidth=1, color="#888").encode(x=x, y=y)


def _dashed(field: str, values: list[float], color: str = "#666", width: float = 1) -> Any:
    """Dashed lines across the chart."""
    rules = alt.Chart(pl.DataFrame({field: values}))
    return rules.mark_rule(strokeDash=[5, 4], color=color, strokeWidth=width)


def _ringed(data: pl.DataFrame, x: Any, y: Any) -> list[alt.Chart]:
    if not data["chosen"].any():
        return []  # Vega warns of a layer without points.
    chosen = alt.Chart(data).transform_filter("datum.chosen").encode(x=x, y=y)
    word = chosen.mark_text(dx=15, align="left", fontSize=12, color="#111")
    return [
        chosen.mark_point(size=300, strokeWidth=2.5, color="#111"),
        word.encode(text=alt.value("chosen")),
    ]
