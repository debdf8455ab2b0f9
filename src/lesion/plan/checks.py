"""What can be looked at before any job runs."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from lesion.addresses import parse
from lesion.formats import BadFile
from lesion.masks.select import size_of
from lesion.models.record import candidate_shapes
from lesion.plan.places import addresses, is_local, local_files_of
from lesion.plan.slices import check_local_content
from lesion.study import Study, StudyError
from lesion.study.checks import used_sources


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
            local_files_of(study, text, key)
    _check_results(study)
    for name in study.models:
        folder = Path(study.results) / study.study / "models" / name
        # One that is damaged or of an earlier version is stale, and made anew.
        with suppress(BadFile):
            check_fractions(study.masks.q, candidate_shapes(folder))


_CODE = ("src", "workflow", "profiles", "envs", ".git", ".snakemake")
"""Folders of the checkout that nothing may be written into."""


def _check_results(study: Study) -> None:
    """Look whether what the study writes would lie among what it reads, or in its own code.

    Raises:
        StudyError: it would; the message names the keys.
    """
    made = Path(study.results, study.study)
    place = made.resolve()
    for one in (place, *place.parents):
        if one.exists() and not one.is_dir():
            raise StudyError(f"`results`: {study.results}: {one} is a file. Give a folder.")
    checkout = Path(__file__).parents[3]
    code = [checkout / name for name in _CODE] if (checkout / "Snakefile").is_file() else []
    if any(place.is_relative_to(one) for one in code) or checkout.is_relative_to(place):
        raise StudyError(f"`results`: {made} is a folder of lesion's own code. Give another one.")
    for key, path in _read_places(study):
        read = path.resolve()
        if read.is_relative_to(place) or (place.is_relative_to(read) and read.is_dir()):
            raise StudyError(
                f"`results`: the study would be written to {made}, which lies in what `{key}` "
                f"reads ({path}), or the other way round. Give `results` another folder."
            )


def _read_places(study: Study) -> Iterator[tuple[str, Path]]:
    """Every local path that the study reads, by the key that names it."""
    for key, text in used_sources(study).items():
        for address in map(parse, addresses(study, text)):
            if address.kind == "file":
                yield key, Path(address.name)
    if study.utility.tasks:
        yield "utility.folder", Path(study.utility.folder)


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
