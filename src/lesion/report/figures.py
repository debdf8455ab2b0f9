"""The report's figures: a chart, what it means, and the numbers behind it."""

import json
import re
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import altair as alt
import polars as pl
import vl_convert

from lesion.formats import atomic
from lesion.report import captions
from lesion.report.captions import Caption
from lesion.report.charts import (
    CONFIG,
    Axis,
    Chart,
    apart,
    matrix_height,
    matrix_width,
    overlap_chart,
    sweep_chart,
    sweep_height,
    transfer_chart,
    where_chart,
    where_height,
)
from lesion.report.estimate import NOTHING, Estimate, amount, estimate_of, interval, written
from lesion.report.inputs import Inputs, read_inputs
from lesion.report.words import Shared, Verdict, probability, sharing

VEGALITE = alt.SCHEMA_VERSION.removeprefix("v").rsplit(".", 1)[0]
"""The Vega-Lite that Altair writes for, as vl-convert names it, such as `6.4`."""

_BUILT = ("shared", "shared-all", "random")
_STATIC_WIDTH = 640
_NARROW = 300
"""Pixels that a chart without text in its cells needs."""


class Figure(NamedTuple):
    """A chart with what must stand beside it."""

    key: str
    title: str
    summary: str
    """One sentence that a reader who cannot see the chart gets instead."""
    caption: Caption
    chart: Chart
    height: int
    """Pixels, to be kept free for it before it is drawn."""
    least_width: int
    """Pixels under which it would be unreadable; narrower pages let it scroll by itself."""
    numbers: pl.DataFrame
    """The same as a table of texts."""

    def spec(self, width: int | str = "container") -> dict[str, Any]:
        """The Vega-Lite specification, drawn at a width in pixels or at its container's."""
        chart = self.chart.properties(width=width, description=self.summary)
        spec: dict[str, Any] = chart.configure(**CONFIG).to_dict()
        return spec


def harm_and_benign(table: pl.DataFrame) -> tuple[list[str], list[str]]:
    """Names of the harm types and of the benign behaviours in a table with behaviour and role."""

    def of(role: str) -> list[str]:
        named = table.filter(~pl.col("behaviour").str.starts_with("all-"), role=role)
        return sorted(set(named["behaviour"]))

    return of("harm"), of("benign")


def transfer(measurements: pl.DataFrame, confidence: float) -> Figure | None:
    """What every mask adds to every behaviour's held-out NLL; None if nothing was measured.

    Args:
        measurements: of one model.
        confidence: level of the intervals.
    """
    added = measurements.filter(
        ~pl.col("behaviour").str.starts_with("all-"),
        pl.col("value").is_not_null(),
        pl.col("role").is_in(["harm", "benign"]),
        metric="nll_added",
    )
    harm, benign = harm_and_benign(added)
    known = set(added["variant"])
    masks = [name for name in (*harm, *_BUILT) if name in known]
    data = added.filter(pl.col("variant").is_in(masks)).sort("variant", "behaviour")
    if not data.height:
        return None
    x = Axis("behaviour", "responses of: harm types, then benign behaviours", apart(harm, benign))
    y = Axis("mask", "mask zeroed", masks)
    return Figure(
        "transfer",
        "Does one harm type's mask hurt the others?",
        f"Heatmap of the NLL that zeroing each of {len(masks)} masks adds to held-out responses "
        f"of {len(harm)} harm types and {len(benign)} benign behaviours.",
        captions.TRANSFER.filled(confidence=confidence),
        transfer_chart(_transfer_cells(data), x, y, confidence),
        matrix_height(len(masks)),
        matrix_width(len(harm) + len(benign)),
        _crossed(masks, [*harm, *benign], _transfer_texts(data), "mask zeroed"),
    )


def _transfer_cells(data: pl.DataFrame) -> pl.DataFrame:
    rows = [
        {
            "mask": row["variant"],
            "behaviour": row["behaviour"],
            "value": row["value"],
            "text": _in_cell(row),
            "interval": interval(estimate_of(row), "nats"),
            "n": row["n"],
        }
        for row in data.iter_rows(named=True)
    ]
    return pl.DataFrame(rows, infer_schema_length=None)


def _in_cell(row: dict[str, Any]) -> str:
    one = estimate_of(row)
    text = amount(one.value, "nats", 2)
    return text if one.above_zero or one.below_zero else f"({text})"


def _transfer_texts(data: pl.DataFrame) -> dict[tuple[str, str], str]:
    return {
        (row["variant"], row["behaviour"]): written(estimate_of(row), "nats")
        for row in data.iter_rows(named=True)
    }


def overlap(table: pl.DataFrame) -> Figure | None:
    """How much more two masks share than by chance; None if no pair was compared.

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
        "How much do the masks share?",
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
        _crossed(rows, [*chain.from_iterable(others)], texts, "weights in both (× chance)"),
    )


def _overlap_cells(table: pl.DataFrame) -> pl.DataFrame:
    """A row for each harm type `a` and other mask `b`; a pair of harm types is there both ways."""
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
        p=pl.Series([probability(p) for p in cells["p_rows_columns"]], dtype=pl.String),
    )


def _times_chance(table: pl.DataFrame) -> list[Estimate]:
    """Each pair's strict enrichment; NaN where nothing is expected."""
    times = table.select(
        value="enrichment_rows_columns", low="enrichment_low", high="enrichment_high", n=None
    )
    return [estimate_of(row) for row in times.iter_rows(named=True)]


def compared(table: pl.DataFrame) -> Verdict:
    """What two harm types share against what one shares with a benign behaviour.

    Args:
        table: `overlap` of one model.
    """
    groups = [_of_roles(table, roles) for roles in (("harm", "harm"), ("benign", "harm"))]
    return sharing(*(list(map(Shared, one["shared"], _times_chance(one))) for one in groups))


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
                    "weights in both": amount(mean["shared"], "count"),
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
        _NARROW,
        _crossed(layers, modules, texts, f"layer ({names[0]})"),
    )


def sweep(table: pl.DataFrame, limit: float | None) -> Figure | None:
    """Added harm against added benign NLL for every (p, q) tried; None if none was.

    Args:
        table: `sweep` of one model.
        limit: most added benign NLL (nats per token) that a chosen point may have.
    """
    data = (
        table.select(
            *("p", "q", "weights", "chosen"),
            harm=(pl.col("harm_nll") - pl.col("harm_nll_intact")).round(6),
            benign=(pl.col("benign_nll") - pl.col("benign_nll_intact")).round(6),
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
        "Which p and q?",
        f"Scatter of added harm NLL against added benign NLL for {data.height} choices of p and q; "
        "the chosen one is ringed.",
        captions.SWEEP.filled(harm_pairs=pairs[0], benign_pairs=pairs[1], limit=written_limit),
        sweep_chart(data, limit),
        sweep_height(),
        _NARROW,
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
            "chosen": "yes" if row["chosen"] else "",
        }
        for row in data.iter_rows(named=True)
    ]
    return pl.DataFrame(rows)


def _crossed(
    rows: Sequence[str],
    columns: Sequence[str],
    cells: dict[tuple[str, str], str],
    corner: str,
) -> pl.DataFrame:
    """A table of texts with a first column of row names; empty cells hold `NOTHING`."""
    body = {
        column: [cells.get((row, column), NOTHING) for row in rows]
        for column in dict.fromkeys(columns)
    }
    return pl.DataFrame({corner: list(rows), **body})


def figures_of(inputs: Inputs, model: str) -> list[Figure]:
    """The figures of one model, in the page's order; those with nothing to show are left out.

    Args:
        inputs: the tables.
        model: its name.
    """
    found = inputs.of(model)
    limit = inputs.study["models"].get(model, {}).get("limit")
    made = (
        transfer(found.measurements, inputs.confidence),
        overlap(found.overlap),
        where(found.where),
        sweep(found.sweep, limit),
    )
    return [one for one in made if one is not None]


def _svg(spec: str) -> bytes:
    """An SVG whose ids count from 1; Vega counts them up over the process."""
    text = vl_convert.vegalite_to_svg(spec, vl_version=VEGALITE)
    ids: dict[str, str] = {}
    pattern = r"(?<=[\"#])(?:gradient_|clip)\d+(?=[\")])"
    numbered = re.sub(pattern, lambda m: ids.setdefault(m[0], f"id{len(ids) + 1}"), text)
    return numbered.encode()


def _png(spec: str) -> bytes:
    return vl_convert.vegalite_to_png(spec, vl_version=VEGALITE, scale=2)


_FORMATS: dict[str, Callable[[str], bytes]] = {"svg": _svg, "png": _png}


def write_figures(tables: Path, folder: Path) -> None:
    """Write every figure as `<model>-<figure>.svg` and `.png`, light, on a white ground.

    The same tables and the same fonts give the same bytes.

    Args:
        tables: the study's tables folder.
        folder: where to.

    Raises:
        LesionError: a table is missing or damaged, or the folder cannot be written.
    """
    inputs = read_inputs(tables)
    for model in inputs.models:
        for figure in figures_of(inputs, model):
            spec = figure.spec(max(_STATIC_WIDTH, figure.least_width - 150))
            spec["config"]["background"] = "white"
            spec["title"] = {"text": f"{model}: {figure.title}", "anchor": "start"}
            text = json.dumps(spec, sort_keys=True)
            for suffix, draw in _FORMATS.items():
                with atomic(folder / f"{model}-{figure.key}.{suffix}") as part:
                    part.write_bytes(draw(text))
