"""The list of a study's figures, for the rule that declares them and the code that draws them.

It needs no chart library, so that the plan of a study can import it.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple


class Measured(NamedTuple):
    """The measurements of a model that determine its figures."""

    variants: Collection[str]
    """Masks that were zeroed and evaluated."""
    families: Collection[str]
    """Kinds of masks measured at several sizes."""
    judged: bool
    """Whether answers were judged at these sizes."""
    equal_cost: bool = False
    """Whether masks were compared that cost the same on benign text."""


class Named(NamedTuple):
    """A figure of a study: the name of its files, its kind, and its model."""

    name: str
    kind: str
    """It selects the caption in the workflow's report."""
    of: str
    """A model, a family of models, or `all`."""


def model_figures(measured: Measured) -> list[str]:
    """The figures of one model, in the page's order."""
    ablated = bool({*measured.variants} - {"unmodified"})
    there = {
        "outcomes": True,
        "curve": bool(measured.families),
        "judged-curve": measured.judged,
        "equal-cost": measured.equal_cost,
        "transfer": ablated,
        "overlap": True,
        "where": True,
        "dissociation": ablated,
        "sweep": True,
    }
    return [name for name, drawn in there.items() if drawn]


def study_figures(
    models: Sequence[str],
    measured: Measured,
    experiments: Mapping[str, tuple[Sequence[str], bool]],
    families: Collection[str],
    trained: Collection[str],
) -> list[Named]:
    """Every figure of a study.

    Args:
        models: of the study.
        measured: of each of its models.
        experiments: trainings in memory, each with the models that it trains and whether open
            questions are asked.
        families: of models whose stages are compared.
        trained: models that are trained here.
    """
    figures = [
        Named(f"{model}-{name}", name, model)
        for model in models
        for name in model_figures(measured)
    ]
    for experiment, (of, questions) in experiments.items():
        kinds = ("retraining", "misaligned") if questions else ("retraining",)
        names = [(model, f"{kind}-{experiment}") for model in of for kind in kinds]
        figures += [Named(f"{model}-{name}", "retraining", model) for model, name in names]
    figures += [Named(f"{family}-stages", "stages", family) for family in families]
    return [*figures, Named("training", "training", "all")] if trained else figures
