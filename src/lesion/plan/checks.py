"""What can be looked at before any job runs."""

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from lesion.formats import BadFile
from lesion.masks.select import size_of
from lesion.models.record import candidate_shapes
from lesion.plan.places import is_local, local_path
from lesion.plan.slices import check_local_content
from lesion.study import Study


def check_fractions(fractions: Iterable[float], shapes: Mapping[str, Sequence[int]]) -> None:
    """Look whether every q selects at least one of a model's candidate weights.

    Raises:
        LesionError: one selects none.
    """
    for q in fractions:
        size_of(q, sum(math.prod(shape) for shape in shapes.values()))


def check(study: Study) -> None:
    """Look at everything that can be looked at before any job runs.

    Raises:
        LesionError: a local file is missing or unfit; the first such finding.
    """
    check_local_content(study)
    for key, text in _folders(study):
        if is_local(study, text):
            local_path(study, text, key)
    for name in study.models:
        folder = Path(study.results) / study.study / "models" / name
        # One that is damaged or of an earlier version is stale, and made anew.
        with suppress(BadFile):
            check_fractions(study.masks.q, candidate_shapes(folder))


def _folders(study: Study) -> list[tuple[str, str]]:
    return [
        *(
            (f"models.{name}.source", model.source)
            for name, model in study.models.items()
            if model.source is not None
        ),
        ("judgements.human_scores", study.judgements.human_scores),
        ("judgements.embedder", study.judgements.embedder),
        *study.judgements.judge_sources.items(),
    ]
