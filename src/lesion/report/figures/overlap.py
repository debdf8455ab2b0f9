"""How many weights one model's masks share: the figure, its table, and a finding."""

from statistics import median
from typing import Any

import altair as alt
import polars as pl

from lesion.report.figures import captions
from lesion.report.figures.charts import Axis, Chart, apart, matrix, matrix_width
from lesion.report.figures.figure import Figure, crossed, text_column
from lesion.report.verdicts import Finding
from lesion.tables.claims.claim import Conclusion
from lesion.tables.intervals import Estimate
from lesion.tables.lookup import estimate_of
from lesion.tables.wording import NOTHING, amount, interval

ALL_BUT_FEW = 0.9
"""The share of harm-type pairs that must clearly share more for the answer "yes". It is below 1,
since 95% intervals miss a true effect now and then."""

_TIMES = "enrichment_rows_columns"
"""The shared weights as a multiple of the strict null model; null where nothing is expected."""


def overlap_heatmap(table: pl.DataFrame) -> Figure | None:
    """How many weights two masks share, against chance; None if no pair was compared."""
    data = _cells(table)
    if not data.height:
        return None
    rows = sorted(set(data["a"]))
    others = [sorted(set(data.filter(role_b=role)["b"])) for role in ("harm", "benign", "refusal")]
    x = Axis("b", "mask of: harm types, then the others", apart(*others))
    y = Axis("a", "mask of harm type", rows)
    counts = text_column(
        data,
        "written",
        lambda row: f"{row['shared']:,} ({row['text']} {row['interval']}".rstrip() + ")",
    )
    return Figure(
        "overlap",
        "How many weights do the masks share?",
        f"Heatmap of the overlap of the masks of {len(rows)} harm types with each other and with "
        f"{sum(map(len, others[1:]))} other behaviours, as a multiple of chance.",
        captions.filled(captions.OVERLAP, compared=compared(table).sentence),
        _chart(data, x, y),
        165,
        crossed(data.with_columns(counts), y, x, "shared weights (× chance)"),
        matrix_width(sum(map(len, others))),
    )


def _cells(table: pl.DataFrame) -> pl.DataFrame:
    """A row for each harm type `a` and other mask `b`; pairs of harm types occur in both orders."""
    turned = table.rename({"a": "b", "b": "a", "role_a": "role_b", "role_b": "role_a"})
    both = pl.concat([table, turned.select(table.columns)]).filter(role_a="harm")
    cells = both.unique(["a", "b"], keep="first", maintain_order=True).sort("a", "b")
    return cells.select(
        *("a", "b", "role_b", "shared", "jaccard"),
        pl.col(_TIMES).alias("ratio"),
        pl.col("expected_rows_columns").alias("expected"),
        text_column(cells, "text", lambda row: amount(row[_TIMES], "ratio")),
        text_column(cells, "interval", lambda row: interval(_times(row), "ratio")),
        text_column(cells, "p", lambda row: probability(row["p_rows_columns"])),
    )


def _times(row: dict[str, Any]) -> Estimate:
    bounds = {"low": row["enrichment_low"], "high": row["enrichment_high"]}
    return estimate_of({"value": row[_TIMES], **bounds, "n": None})


def probability(p: float | None) -> str:
    """A p-value as text: 0.03, or `< 0.001`, below which an approximate tail has no digits."""
    if p is None:
        return NOTHING
    return "< 0.001" if p < 0.001 else f"{p:.2g}"


def _chart(data: pl.DataFrame, x: Axis, y: Axis) -> Chart:
    """Heatmap of overlaps as multiples of chance, on a log scale around 1."""
    known = data["ratio"].filter(data["ratio"] > 0)
    # A single pair at chance still needs a scale with two ends; no overlap is at the low end.
    top = max([2.0, *(max(value, 1 / value) for value in known)])
    shaded = data.with_columns(shade=pl.col("ratio").clip(1 / top, top))
    ticks = [tick for tick in (0.01, 0.1, 0.3, 1, 3, 10, 30, 100) if 1 / top <= tick <= top]
    tooltip = [
        alt.Tooltip("a:N", title="mask"),
        alt.Tooltip("b:N", title="and"),
        alt.Tooltip("shared:Q", title="shared weights", format=","),
        alt.Tooltip("expected:Q", title="expected (rows × columns)", format=",.1f"),
        alt.Tooltip("ratio:Q", title="times chance", format=".2f"),
        alt.Tooltip("interval:N", title="95% interval, over matrices"),
        alt.Tooltip("p:N", title="p of as many by chance"),
        alt.Tooltip("jaccard:Q", title="Jaccard", format=".4f"),
    ]
    value = ("shade", "shared weights ÷ expected by the strict null (log)")
    return matrix(shaded, x, y, value, top, tooltip, ticks)


def compared(table: pl.DataFrame) -> Finding:
    """Do harm types share more weights with each other than with benign behaviours?

    The strict enrichment decides; it discounts rows and columns that both masks favour.
    "Yes" means that the intervals of nearly all pairs of harm types lie above the median of the
    pairs of a harm type and a benign behaviour, "no" that nearly all lie below it, and "in part"
    that more lie above than below.
    """
    question = "Do harm types share more weights with each other than with benign use?"
    own, other = (
        _of_roles(table, roles).drop_nulls(_TIMES)
        for roles in (("harm", "harm"), ("benign", "harm"))
    )
    if own.is_empty() or other.is_empty():
        sentence = (
            "The tables lack pairs of two harm types, or pairs of a harm and a benign behaviour."
        )
        return Finding(question, Conclusion.UNCLEAR, sentence)
    typical = median(other[_TIMES])
    above = int((own["enrichment_low"] > typical).sum())
    below = int((own["enrichment_high"] < typical).sum())
    if above / own.height >= ALL_BUT_FEW:
        answer = Conclusion.YES
    elif below / own.height >= ALL_BUT_FEW:
        answer = Conclusion.NO
    else:
        answer = Conclusion.PARTLY if above > below else Conclusion.UNCLEAR
    sentence = (
        f"Two harm types share {_typical(own)}; a harm and a benign mask share {_typical(other)}. "
        f"Of {own.height} pairs of harm types, {above} have an interval that lies entirely above "
        f"the other median, and {below} have one that lies entirely below it."
    )
    # Count and ratio seem to disagree.
    larger = median(own["shared"]) > median(other["shared"])
    if larger and answer in (Conclusion.NO, Conclusion.UNCLEAR):
        sentence += " Their larger count is explained by the same favoured rows and columns."
    return Finding(question, answer, sentence)


def _of_roles(table: pl.DataFrame, roles: tuple[str, str]) -> pl.DataFrame:
    """The pairs of these two roles, sorted, whichever comes first."""
    return table.filter(pl.concat_list("role_a", "role_b").list.sort() == pl.lit(list(roles)))


def _typical(pairs: pl.DataFrame) -> str:
    times, weights = (
        amount(median(pairs[_TIMES]), "ratio"),
        amount(median(pairs["shared"]), "count"),
    )
    return f"{weights} weights, {times} chance under the strict null (medians of {pairs.height})"


_KINDS = {
    ("harm", "harm"): "two harm types",
    ("benign", "harm"): "harm and benign",
    ("harm", "refusal"): "harm and refusal",
    ("benign", "benign"): "two benign",
    ("benign", "refusal"): "benign and refusal",
    ("refusal", "refusal"): "two refusals",
}


def overlap_means(table: pl.DataFrame) -> pl.DataFrame:
    """Means over pairs of masks by the roles of the two, as texts; empty if there are none."""
    rows = []
    for roles, kind in _KINDS.items():
        group = _of_roles(table, roles)
        if group.height:
            mean = group.mean().row(0, named=True)
            times = group.select(pl.median(_TIMES)).item()
            rows.append(
                {
                    "masks of": kind,
                    "pairs": str(group.height),
                    "× chance, strict (median)": amount(times, "ratio"),
                    "shared weights": amount(mean["shared"], "count"),
                    "Jaccard": amount(mean["jaccard"], "score", 3),
                    "expected: uniform": amount(mean["expected_uniform"], "score", 1),
                    "in matrix": amount(mean["expected_matrix"], "score", 1),
                    "in row × column": amount(mean["expected_rows_columns"], "score", 1),
                }
            )
    return pl.DataFrame(rows)
