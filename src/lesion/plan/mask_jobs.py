"""The specifications of jobs that select masks, built from the study."""

from collections.abc import Mapping
from itertools import product

from lesion.masks.jobs import (
    ChooseJob,
    CurveMasksJob,
    EqualCostMasksJob,
    MasksJob,
    RefusalMaskJob,
    Selection,
    SweepJob,
)
from lesion.plan.devices import study_device
from lesion.study import Study
from lesion.study.job import Behaviours, specify

_BROKEN = 1.0
"""A mask that adds as many nats per token to benign answers has broken a model."""


def sweep_job(study: Study, wildcards: Mapping[str, str]) -> SweepJob:
    """The (p, q) to try, and how they are tried."""
    weights = study.masks.contrast if study.of_role("matched") else [0.0]
    return SweepJob(
        behaviours=behaviours_of(study).model_copy(update={"refusal": []}),
        selection=_selection(study),
        points=list(product(study.masks.p, study.masks.q, weights)),
        stop=max(_BROKEN, study.masks.max_benign_increase),
        batch_tokens=study.responses.batch_tokens,
        device=study_device(study),
    )


def choose_job(study: Study, wildcards: Mapping[str, str]) -> ChooseJob:
    """The rule by which (p, q) is chosen."""
    return ChooseJob(limit=study.masks.max_benign_increase)


def masks_job(study: Study, wildcards: Mapping[str, str]) -> MasksJob:
    """The masks to make, given the scores and the chosen (p, q)."""
    own = {"behaviours": behaviours_of(study), "selection": _selection(study), "seed": study.seed}
    return specify(MasksJob, study.masks, **own)


def refusal_mask_job(study: Study, wildcards: Mapping[str, str]) -> RefusalMaskJob:
    """The weights of refusal that attacks zero."""
    return RefusalMaskJob(
        refusal=study.of_role("refusal"),
        benign=study.of_role("benign"),
        selection=study.responses.refusal_ablation,
        pool=study.masks.preservation_pooling,
    )


def curve_masks_job(study: Study, wildcards: Mapping[str, str]) -> CurveMasksJob:
    """The masks to make at every size, given the scores and the chosen (p, q)."""
    own = {"behaviours": behaviours_of(study), "selection": _selection(study), "seed": study.seed}
    return specify(CurveMasksJob, study.curve, **own)


def equal_cost_masks_job(study: Study, wildcards: Mapping[str, str]) -> EqualCostMasksJob:
    """The masks to grow until they cost the same, given the scores and the chosen (p, q)."""
    return EqualCostMasksJob(
        behaviours=behaviours_of(study),
        selection=_selection(study),
        masks=study.equal_cost_masks,
        limits=study.equal_cost.limits,
        largest=study.equal_cost.largest,
        batch_tokens=study.responses.batch_tokens,
        device=study_device(study),
        seed=study.seed,
    )


def behaviours_of(study: Study) -> Behaviours:
    """The behaviours of each role, and the harm types of matched requests."""
    return Behaviours(
        harm=study.of_role("harm"),
        benign=study.of_role("benign"),
        refusal=study.of_role("refusal"),
        matched={name: str(study.behaviours[name].of) for name in study.of_role("matched")},
    )


def _selection(study: Study) -> Selection:
    pool = study.masks.preservation_pooling
    return specify(Selection, study.masks, at_least=study.at_least, pool=pool)
