"""Jobs of the stage `masks`."""

from collections.abc import Mapping
from itertools import product

from lesion.masks.jobs import ChooseJob, CurveMasksJob, MasksJob, Selection, SweepJob
from lesion.plan.jobs.pairs import device
from lesion.plan.jobs.rule import Rule
from lesion.study import Study
from lesion.study.job import Behaviours


def sweep(study: Study, wildcards: Mapping[str, str]) -> SweepJob:
    """Which (p, q) are tried, and how."""
    del wildcards
    return SweepJob(
        behaviours=behaviours(study).model_copy(update={"refusal": []}),
        selection=selection(study),
        points=list(product(study.masks.p, study.masks.q)),
        batch_tokens=study.responses.batch_tokens,
        device=device(study),
    )


def choose(study: Study, wildcards: Mapping[str, str]) -> ChooseJob:
    """By what (p, q) is chosen."""
    del wildcards
    return ChooseJob(limit=study.masks.max_benign_increase)


def masks(study: Study, wildcards: Mapping[str, str]) -> MasksJob:
    """Which masks are made, given the scores and the chosen (p, q)."""
    del wildcards
    return MasksJob(
        behaviours=behaviours(study),
        selection=selection(study),
        controls=study.masks.controls,
        seed=study.seed,
    )


def curve_masks(study: Study, wildcards: Mapping[str, str]) -> CurveMasksJob:
    """Which masks are made at every size, given the scores and the chosen (p, q)."""
    del wildcards
    return CurveMasksJob(
        behaviours=behaviours(study),
        selection=selection(study),
        families=study.curve.families,
        sizes=study.curve.sizes,
        seeds=study.curve.seeds,
        seed=study.seed,
    )


def behaviours(study: Study) -> Behaviours:
    """The study's behaviours by role."""
    return Behaviours(
        harm=study.of_role("harm"), benign=study.of_role("benign"), refusal=study.of_role("refusal")
    )


def selection(study: Study) -> Selection:
    """How the study's masks are selected."""
    how = study.masks
    return Selection(rule=how.rule, scope=how.scope, pool=how.pool, at_least=how.shared.at_least)


RULES = {
    "sweep": Rule(sweep, ("lesion.masks.sweep", "lesion.masks.validate")),
    "choose": Rule(choose, ("lesion.masks.choose",)),
    "masks": Rule(masks, ("lesion.masks.run",)),
    "curve_masks": Rule(curve_masks, ("lesion.masks.curve",)),
}
