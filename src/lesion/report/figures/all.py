"""All figures of a study, drawn: on the page, and as files."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import vl_convert

from lesion.io.formats import atomic
from lesion.report.figures.curves import judged_tradeoff, sweep_heatmap, tradeoff
from lesion.report.figures.dissociation import dissociation
from lesion.report.figures.equal_cost import equal_cost
from lesion.report.figures.figure import VEGALITE, Figure
from lesion.report.figures.masks import transfer, where
from lesion.report.figures.names import Measured, model_figures
from lesion.report.figures.outcomes import outcomes
from lesion.report.figures.overlap import overlap_heatmap
from lesion.report.figures.retraining import experiments
from lesion.report.figures.training import stages, training
from lesion.tables.claims.training import benign_limit
from lesion.tables.read import StudyTables, read_study_tables
from lesion.tables.variants import MASK, SIZE

_STATIC_WIDTH = 640


def figures_of(inputs: StudyTables, model: str) -> list[Figure]:
    """The figures of one model, in the page's order; figures without data are left out."""
    own, mask = inputs.of(model), inputs.headline.mask
    about = inputs.study["models"].get(model, {})
    limit, unlikely = about.get("limit"), about.get("incoherent_nll")
    complied = bool(inputs.judged_harm([model]))
    draw: dict[str, Callable[[], Figure | None]] = {
        "outcomes": lambda: outcomes(
            own.measurements, inputs.confidence, mask, unlikely, compliance=complied
        ),
        "curve": lambda: tradeoff(own.curve, mask),
        "judged-curve": lambda: judged_tradeoff(
            own.curve, own.measurements, own.variants, mask, compliance=complied
        ),
        "equal-cost": lambda: equal_cost(own.equal_cost, inputs.confidence),
        "transfer": lambda: transfer(own.measurements, inputs.confidence),
        "overlap": lambda: overlap_heatmap(own.overlap),
        "where": lambda: where(own.where),
        "dissociation": lambda: dissociation(own.measurements, inputs.confidence, own.headline),
        "sweep": lambda: sweep_heatmap(own.sweep, limit),
    }
    masks, sizes = (own.variants.filter(kind=kind)["mask"].drop_nulls() for kind in (MASK, SIZE))
    measured = Measured(
        {*masks},
        {*own.curve["family"]},
        judged=not sizes.is_empty(),
        equal_cost=not own.equal_cost.is_empty(),
    )
    drawn = (draw[name]() for name in model_figures(measured))
    return [figure for figure in drawn if figure is not None]


def stages_of(inputs: StudyTables, family: str) -> Figure | None:
    """The stages of a family of models; None if there is nothing to show."""
    table, mask = inputs.of_family(family).stages, inputs.headline.mask
    return stages(table, benign_limit(inputs), inputs.confidence, mask)


def write_figures(tables: Path, folder: Path) -> None:
    """Write every figure as `<model>-<figure>.svg` and `.png`, light, on a white ground.

    A figure of a family of models has the family's name instead, and that of the trainings none.
    The same tables and the same fonts give the same bytes.

    Args:
        tables: the study's tables folder.
        folder: where to.

    Raises:
        LesionError: a table is missing or damaged, or the folder cannot be written.
    """
    for of, figure in all_figures(read_study_tables(tables)):
        spec = figure.spec(max(_STATIC_WIDTH, figure.least_width - 150))
        spec["config"]["background"] = "white"
        spec["title"] = {"text": f"{of}: {figure.title}" if of else figure.title, "anchor": "start"}
        text = json.dumps(spec, sort_keys=True)
        svg = vl_convert.vegalite_to_svg(text, vl_version=VEGALITE)
        files = {"svg": _numbered(svg).encode(), "png": vl_convert.svg_to_png(svg, scale=2)}
        for suffix, data in files.items():
            name = f"{of}-{figure.key}" if of else figure.key
            with atomic(folder / f"{name}.{suffix}") as part:
                part.write_bytes(data)


def _numbered(svg: str) -> str:
    """An SVG with ids that start at 1, since Vega numbers them over the whole process."""
    ids: dict[str, str] = {}
    pattern = r"(?<=[\"#])(?:gradient_|clip)\d+(?=[\")])"
    return re.sub(pattern, lambda m: ids.setdefault(m[0], f"id{len(ids) + 1}"), svg)


def all_figures(inputs: StudyTables) -> Iterator[tuple[str, Figure]]:
    """Every figure of a study, with its model or family of models, if it has one."""
    for model in inputs.models:
        own = inputs.of(model)
        retrained = experiments(own.retraining, inputs.confidence, inputs.headline.mask)
        of_trainings = [figure for experiment in retrained for figure in experiment.figures]
        yield from ((model, figure) for figure in (*figures_of(inputs, model), *of_trainings))
    others = [*((family, stages_of(inputs, family)) for family in inputs.families)]
    for of, figure in (*others, ("", training(inputs.training))):
        if figure is not None:
            yield of, figure
