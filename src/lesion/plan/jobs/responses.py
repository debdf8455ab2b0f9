"""Jobs of the stage `responses`."""

from collections.abc import Mapping
from pathlib import Path

from lesion.plan.jobs.rule import Rule
from lesion.plan.outputs import applied_after, evaluated, nll_behaviours
from lesion.plan.places import places, results, task_contents
from lesion.responses.attacks import BUILT
from lesion.responses.jobs import (
    AttackWords,
    Completing,
    CurveJob,
    ResponsesJob,
    RetrainJob,
    UnderstandingJob,
    UtilityJob,
)
from lesion.study import Study
from lesion.study.job import Device
from lesion.study.training import FROZEN


def responses(study: Study, wildcards: Mapping[str, str]) -> ResponsesJob:
    """The specification of a variant's responses; without completions only NLL is measured."""
    variant, how = wildcards["variant"], study.responses
    completes = variant in study.judged_variants
    return ResponsesJob(
        variant=variant,
        roles=nll_behaviours(study),
        attacks=_attacks(study) if completes else {},
        prefill=study.pairs.prefill,
        max_new_tokens=how.max_new_tokens,
        benign_prompts=how.benign_prompts if completes else 0,
        batch_size=how.batch_size,
        batch_tokens=how.batch_tokens,
        engine=how.engine,
        device=_device(study),
    )


def _attacks(study: Study) -> dict[str, AttackWords]:
    """How the attacks of the study present prompts."""
    templates = places(study, results(study), "responses")
    given = {
        name: AttackWords(wording=templates[name], prefill=study.responses.templates[name].prefill)
        for name in templates
    }
    built = {
        name: AttackWords(wording=one.wording, prefill=study.pairs.prefill if one.prefilled else "")
        for name, one in BUILT.items()
    }
    return {name: (built | given)[name] for name in study.responses.attacks}


def curve(study: Study, wildcards: Mapping[str, str]) -> CurveJob:
    """How the masks of a family are nll_behaviours at every size."""
    completing = Completing(
        prompts=study.curve.prompts,
        prefill=study.pairs.prefill,
        max_new_tokens=study.responses.max_new_tokens,
        batch_size=study.responses.batch_size,
    )
    return CurveJob(
        family=wildcards["family"],
        roles=evaluated(study),
        pairs=study.curve.max_pairs,
        batch_tokens=study.responses.batch_tokens,
        completing=completing if study.curve.completions else None,
        device=_device(study),
    )


def understanding(study: Study, wildcards: Mapping[str, str]) -> UnderstandingJob:
    """The size of the understanding test of a variant."""
    asked, responses = study.understanding, study.responses
    return UnderstandingJob(
        variant=wildcards["variant"],
        harms=study.of_role("harm"),
        minimal_pairs=places(study, results(study), "understanding")["minimal_pairs"],
        limit=asked.limit,
        over_refusal=asked.over_refusal,
        explain=asked.explain,
        explain_prompts=asked.explain_prompts,
        max_new_tokens=responses.max_new_tokens,
        batch_size=responses.batch_size,
        batch_tokens=responses.batch_tokens,
        device=_device(study),
    )


def utility(study: Study, wildcards: Mapping[str, str]) -> UtilityJob:
    """A task of the study is identified by its content, a task of lm-eval by its name.

    Raises:
        StudyError: a task of the study's own is not YAML, or lacks its data.
    """
    how = study.utility
    return UtilityJob(
        variant=wildcards["variant"],
        tasks=task_contents(study),
        folder=Path(how.folder),
        limit=how.limit,
        batch_size=how.batch_size,
        chat=how.chat,
        device=_device(study),
    )


def retrain_job(study: Study, wildcards: Mapping[str, str]) -> RetrainJob:
    """How a model is trained in one arm of an experiment.

    Raises:
        LesionError: the local file of questions is missing or unusable.
    """
    experiment, arm = wildcards["experiment"], wildcards["arm"]
    one, how = study.retraining[experiment], study.responses
    return RetrainJob(
        arm=arm,
        mask=one.masks.get(arm),
        frozen=arm.endswith(FROZEN),
        after=applied_after(study, experiment, arm),
        recipe=one.recipe,
        seeds=one.seeds,
        trained_on=one.behaviours or study.of_role("harm"),
        roles=evaluated(study),
        at=one.at,
        pairs=one.pairs,
        prompts=one.prompts,
        questions=places(study, results(study), "retrain", experiment).get("questions"),
        narrow=one.narrow,
        prefill=study.pairs.prefill,
        max_new_tokens=how.max_new_tokens,
        batch_size=how.batch_size,
        batch_tokens=how.batch_tokens,
        device=Device(dtype="float32", threads=study.threads, device_map=study.device_map),
    )


def _device(study: Study) -> Device:
    """The precision and the device of the evaluation of variants."""
    return Device(dtype=study.responses.dtype, threads=study.threads, device_map=study.device_map)


RULES = {
    "responses": Rule(responses, ("lesion.responses.ask",)),
    "curve": Rule(curve, ("lesion.responses.curve",)),
    "understanding": Rule(understanding, ("lesion.responses.understanding",)),
    "utility": Rule(utility, ("lesion.responses.utility",)),
    "retrain": Rule(retrain_job, ("lesion.responses.retrain",)),
}
