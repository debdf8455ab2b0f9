"""Figures of the masks: their effects on behaviours, their overlap, and their location."""

from collections.abc import Mapping
from itertools import chain, zip_longest
from typing import Any

import polars as pl

from lesion.report.figures import captions
from lesion.report.figures.charts import (
    Axis,
    apart,
    matrix_height,
    matrix_width,
    overlap_chart,
    transfer_chart,
    where_chart,
    where_height,
)
from lesion.report.figures.figure import NARROW, Figure, crossed
from lesion.report.figures.sharing import SharedWeights, sharing
from lesion.report.verdicts import Finding
from lesion.tables.intervals import Estimate
from lesion.tables.lookup import estimate_of, is_clear
from lesion.tables.rows import BEHAVIOUR
from lesion.tables.wording import NOTHING, amount, interval, percent, with_interval

_SHARED = "shared"
_BUILT = (_SHARED, "shared-all", "random")


def harm_and_benign(table: pl.DataFrame) -> tuple[list[str], list[str]]:
    """Names of the harm types and of the benign behaviours in a table with behaviour and role."""

    def of(role: str) -> list[str]:
        named = table.filter(level=BEHAVIOUR, role=role)
        return sorted(set(named["behaviour"]))

    return of("harm"), of("benign")


def transfer(measurements: pl.DataFrame, confidence: float) -> Figure | None:
    """The NLL that every mask adds to every behaviour; None if nothing was measured.

    Args:
        measurements: of one model.
        confidence: level of the intervals.
    """
    added = measurements.filter(
        pl.col("value").is_not_null(),
        pl.col("role").is_in(["harm", "benign"]),
        level=BEHAVIOUR,
        metric="nll_added",
    )
    harm, benign = harm_and_benign(added)
    known = set(added["variant"])
    # Harm types first, then shared masks and controls, then the masks of other behaviours.
    order = dict.fromkeys((*_BUILT, *sorted(known - {*benign}), *benign))
    others = [name for name in order if name in known - {*harm}]
    masks = [*(name for name in harm if name in known), *others]
    data = added.filter(pl.col("variant").is_in(masks)).sort("variant", "behaviour")
    if not data.height:
        return None
    x = Axis("behaviour", "responses of: harm types, then benign behaviours", apart(harm, benign))
    y = Axis("mask", "mask zeroed", masks)
    return Figure(
        "transfer",
        "Does one harm type’s mask affect the others?",
        f"Heatmap of the NLL that zeroing each of {len(masks)} masks adds to held-out responses "
        f"of {len(harm)} harm types and {len(benign)} benign behaviours.",
        captions.TRANSFER.filled(confidence=confidence),
        transfer_chart(_transfer_cells(data, confidence), x, y, confidence),
        matrix_height(len(masks)),
        matrix_width(len(harm) + len(benign)),
        crossed(masks, [*harm, *benign], _transfer_texts(data), "mask zeroed"),
    )


def _transfer_cells(data: pl.DataFrame, confidence: float) -> pl.DataFrame:
    rows = [
        {
            "mask": row["variant"],
            "behaviour": row["behaviour"],
            "value": row["value"],
            "text": _in_cell(row, confidence),
            "interval": interval(estimate_of(row), "nats"),
            "n": row["n"],
        }
        for row in data.iter_rows(named=True)
    ]
    return pl.DataFrame(rows, infer_schema_length=None)


def _in_cell(row: dict[str, Any], confidence: float) -> str:
    text = amount(row["value"], "nats", 2)
    return text if is_clear(row, confidence) else f"({text})"


def _transfer_texts(data: pl.DataFrame) -> dict[tuple[str, str], str]:
    return {
        (row["variant"], row["behaviour"]): with_interval(estimate_of(row), "nats")
        for row in data.iter_rows(named=True)
    }


def overlap_heatmap(table: pl.DataFrame) -> Figure | None:
    """How many weights two masks share, against chance; None if no pair was compared.

    Args:
        table: `overlap` of one model.
    """
    data = _overlap_cells(table)
    if not data.height:
        return None
    rows = sorted(set(data["a"]))
    others = [sorted(set(data.filter(role_b=role)["b"])) for role in ("harm", "benign", "refusal")]
    texts = {
        (row["a"], row["b"]): f"{row['shared']:,} ({row['text']} {row['interval']}".rstrip() + ")"
        for row in data.iter_rows(named=True)
    }
    return Figure(
        "overlap",
        "How many weights do the masks share?",
        f"Heatmap of the overlap of the masks of {len(rows)} harm types with each other and with "
        f"{sum(map(len, others[1:]))} other behaviours, as a multiple of chance.",
        captions.OVERLAP.filled(compared=compared(table).sentence),
        overlap_chart(
            data,
            Axis("b", "mask of: harm types, then the others", apart(*others)),
            Axis("a", "mask of harm type", rows),
        ),
        matrix_height(len(rows)),
        matrix_width(sum(map(len, others))),
        crossed(rows, [*chain.from_iterable(others)], texts, "shared weights (× chance)"),
    )


def _overlap_cells(table: pl.DataFrame) -> pl.DataFrame:
    """A row for each harm type `a` and other mask `b`; pairs of harm types occur in both orders."""
    turned = table.rename({"a": "b", "b": "a", "role_a": "role_b", "role_b": "role_a"})
    both = pl.concat([table, turned.select(table.columns)]).filter(role_a="harm")
    cells = both.unique(["a", "b"], keep="first", maintain_order=True).sort("a", "b")
    times = _times_chance(cells)
    return cells.select(
        *("a", "b", "role_b", "shared", "jaccard"),
        ratio="enrichment_rows_columns",
        expected="expected_rows_columns",
        text=pl.Series([amount(one.value, "ratio") for one in times], dtype=pl.String),
        interval=pl.Series([interval(one, "ratio") for one in times], dtype=pl.String),
        p=pl.Series([_probability(p) for p in cells["p_rows_columns"]], dtype=pl.String),
    )


def _times_chance(table: pl.DataFrame) -> list[Estimate]:
    """Each pair's strict enrichment; NaN where nothing is expected."""
    times = table.select(
        value="enrichment_rows_columns", low="enrichment_low", high="enrichment_high", n=None
    )
    return [estimate_of(row) for row in times.iter_rows(named=True)]


def compared(table: pl.DataFrame) -> Finding:
    """Compare the sharing of two harm types with that of a harm type and a benign behaviour.

    Args:
        table: `overlap` of one model.
    """
    groups = [_of_roles(table, roles) for roles in (("harm", "harm"), ("benign", "harm"))]
    return sharing(*(list(map(SharedWeights, one["shared"], _times_chance(one))) for one in groups))


def _of_roles(table: pl.DataFrame, roles: tuple[str, str]) -> pl.DataFrame:
    """The pairs of these two roles, sorted, whichever comes first."""
    return table.filter(pl.concat_list("role_a", "role_b").list.sort() == pl.lit(list(roles)))


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
            times = group.median().row(0, named=True)["enrichment_rows_columns"]
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


def where(table: pl.DataFrame) -> Figure | None:
    """In which layers and modules the masks lie; None if no mask has a weight.

    Args:
        table: `where` of one model.
    """
    full = table.filter(pl.col("weights").sum().over("mask") > 0, pl.col("mask") != "random")
    names = sorted(set(full["mask"]), key=lambda name: (name not in _BUILT, name))
    if not names:
        return None
    first = full.filter(mask=names[0])
    modules = list(dict.fromkeys(first["module"]))
    layers = [str(layer) for layer in sorted(set(first["layer"]))]
    density = (1e6 * pl.col("weights") / pl.col("candidates")).round(2)
    data = full.select(
        *("mask", "layer", "module", "weights", "candidates"),
        density=pl.when(pl.col("candidates") > 0).then(density),
    )
    texts = {
        (str(row["layer"]), row["module"]): amount(row["weights"], "count")
        for row in first.iter_rows(named=True)
    }
    return Figure(
        "where",
        "Where do the weights lie?",
        f"Heatmap of how densely the mask {names[0]} lies in {len(modules)} modules of "
        f"{len(layers)} layers; other masks can be selected.",
        captions.WHERE,
        where_chart(data, modules, names),
        where_height(len(modules)),
        NARROW,
        crossed(layers, modules, texts, f"layer ({names[0]})"),
    )


def lines_table(lines: pl.DataFrame, shown: str) -> tuple[str, pl.DataFrame]:
    """The fullest rows beside the fullest columns of a mask, or of the first there is.

    Args:
        lines: the table of one model.
        shown: the mask, if it is in the table.

    Returns:
        The mask's name, and the table as texts; both empty if no mask has any.
    """
    masks = lines["mask"].unique(maintain_order=True).to_list()
    if not masks:
        return "", pl.DataFrame()
    mask = shown if shown in masks else str(masks[0])
    rows, columns = (
        [_line(one) for one in lines.filter(mask=mask, axis=axis).iter_rows(named=True)]
        for axis in ("row", "column")
    )
    none = (NOTHING, NOTHING)
    pairs = enumerate(zip_longest(rows, columns, fillvalue=none), 1)
    names = ("rank", "row (output unit)", "row’s weights", "column (input)", "column’s weights")
    body = [(str(place), *row, *column) for place, (row, column) in pairs]
    return mask, pl.DataFrame(body, schema=names, orient="row")


def _line(row: Mapping[str, Any]) -> tuple[str, str]:
    """The location of a row or column, and its number of weights."""
    return (
        f"layer {row['layer']}, {row['module']}, {row['index']}",
        f"{row['weights']:,} ({percent(row['share'])})",
    )


def _probability(p: float | None) -> str:
    """A p-value as text: 0.03, or `< 0.001`, below which an approximate tail has no digits."""
    if p is None:
        return NOTHING
    return "< 0.001" if p < 0.001 else f"{p:.2g}"
