"""Jobs of the stage `masks`."""

from collections.abc import Mapping
from itertools import product

from lesion.masks.jobs import ChooseJob, CurveMasksJob, MasksJob, Selection, SweepJob
from lesion.plan.jobs.pairs import device
from lesion.plan.jobs.rule import Rule
from lesion.study import Study
from lesion.study.job import Behaviours


def sweep_job(study: Study, wildcards: Mapping[str, str]) -> SweepJob:
    """The (p, q) to try, and how they are tried."""
    del wildcards
    return SweepJob(
        behaviours=behaviours(study).model_copy(update={"refusal": []}),
        selection=mask_selection(study),
        points=list(product(study.masks.p, study.masks.q)),
        batch_tokens=study.responses.batch_tokens,
        device=device(study),
    )


def choose_job(study: Study, wildcards: Mapping[str, str]) -> ChooseJob:
    """The rule by which (p, q) is chosen."""
    del wildcards
    return ChooseJob(limit=study.masks.max_benign_increase)


def masks_job(study: Study, wildcards: Mapping[str, str]) -> MasksJob:
    """The masks to make, given the scores and the chosen (p, q)."""
    del wildcards
    return MasksJob(
        behaviours=behaviours(study),
        selection=mask_selection(study),
        controls=study.masks.controls,
        seed=study.seed,
    )


def curve_masks_job(study: Study, wildcards: Mapping[str, str]) -> CurveMasksJob:
    """The masks to make at every size, given the scores and the chosen (p, q)."""
    del wildcards
    return CurveMasksJob(
        behaviours=behaviours(study),
        selection=mask_selection(study),
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


def mask_selection(study: Study) -> Selection:
    """How the study's masks are selected."""
    how = study.masks
    return Selection(
        rule=how.rule, scope=how.scope, pool=how.preservation_pooling, at_least=how.shared.at_least
    )


RULES = {
    "sweep": Rule(sweep_job, ("lesion.masks.sweep", "lesion.masks.validate")),
    "choose": Rule(choose_job, ("lesion.masks.choose",)),
    "masks": Rule(masks_job, ("lesion.masks.run",)),
    "curve_masks": Rule(curve_masks_job, ("lesion.masks.curve",)),
}
