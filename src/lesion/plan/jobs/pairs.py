"""Jobs of the stage `pairs`."""

from collections.abc import Mapping
from pathlib import Path

from lesion.pairs.jobs import PairsJob, PromptsJob, RowSelection
from lesion.pairs.prompts import given_responses, select
from lesion.pairs.rows import read_rows
from lesion.plan.jobs.rule import Rule
from lesion.plan.places import place
from lesion.study import MIN_PROMPTS, Study
from lesion.study.job import Device


def prompts(study: Study, wildcards: Mapping[str, str]) -> PromptsJob:
    """What decides a behaviour's prompts and their splits.

    A local file is known by the selected rows' content, so that touching, reformatting, or editing
    rows of another behaviour leaves this one alone.

    Raises:
        LesionError: the file is missing, has no such column, or gives too few prompts.
    """
    name = wildcards["behaviour"]
    behaviour, key = study.behaviours[name], f"behaviours.{name}"
    rows = RowSelection(**behaviour.model_dump(include=set(RowSelection.model_fields)))

    def selected(path: Path) -> list[tuple[object, ...]]:
        return select(read_rows(path), path, rows, MIN_PROMPTS).rows()

    given = behaviour.responses
    return PromptsJob(
        behaviour=name,
        source=place(study, behaviour.source, f"{key}.source", selected),
        rows=rows,
        responses=place(study, given, f"{key}.responses", given_responses) if given else None,
        split=study.pairs.split,
        near_duplicate=study.pairs.near_duplicate,
        need=MIN_PROMPTS,
        seed=study.seed,
    )


def pairs(study: Study, wildcards: Mapping[str, str]) -> PairsJob:
    """What decides a behaviour's responses."""
    name, how = wildcards["behaviour"], study.pairs
    return PairsJob(
        behaviour=name,
        role=study.behaviours[name].role,
        prefill=how.prefill,
        max_new_tokens=how.max_new_tokens,
        batch_size=how.batch_size,
        device=device(study),
    )


def device(study: Study) -> Device:
    """Where, and in what precision, models generate and are evaluated."""
    return Device(dtype=study.responses.dtype, threads=study.threads, device_map=study.device_map)


RULES = {
    "prompts": Rule(prompts, ("lesion.pairs.prompts",)),
    "pairs": Rule(pairs, ("lesion.pairs.respond",)),
}
