"""What each job gets of the study; plain dicts with sorted keys."""

from typing import Any

from lesion.plan.jobs.pairs import device
from lesion.plan.judged import contrasts
from lesion.plan.places import contents, task_contents, templates
from lesion.plan.trained import retraining_judges
from lesion.study import Study


def _behaviours(study: Study) -> dict[str, list[str]]:
    return {role: study.of_role(role) for role in ("harm", "benign", "refusal")}


def evaluated(study: Study) -> dict[str, str]:
    """Behaviours on whose test prompts variants are evaluated, with their roles, harm first."""
    return {name: role for role in ("harm", "benign") for name in study.of_role(role)}


def measured(study: Study) -> dict[str, str]:
    """Behaviours on whose test pairs variants' NLL is taken, with their roles: refusal as well."""
    return {**evaluated(study), **dict.fromkeys(study.of_role("refusal"), "refusal")}


def _prefills(study: Study) -> dict[str, str]:
    """What every attack makes the answer begin with."""
    begun = {name: template.prefill for name, template in templates(study).items()}
    built = {"direct": "", "prefill": study.pairs.prefill}
    return {name: (built | begun)[name] for name in study.responses.attacks}


def responses_slice(study: Study, variant: str) -> dict[str, Any]:
    """What decides a variant's completions and NLL, given model, mask and pairs."""
    responses = study.responses
    completes = variant in study.completed
    return {
        "attacks": _prefills(study) if completes else {},
        "batch_size": responses.batch_size,
        "batch_tokens": responses.batch_tokens,
        "benign_prompts": responses.benign_prompts if completes else 0,
        "device": device(study).model_dump(),
        "engine": responses.engine,
        "max_new_tokens": responses.max_new_tokens,
        "prefill": study.pairs.prefill,
        "roles": measured(study),
        "variant": variant,
        "wordings": contents(study, "responses"),
    }


def curve_families(study: Study) -> list[str]:
    """Families that are measured at every size, and `intact` to compare with; none if off."""
    return ["intact", *study.curve.families] if study.curve.families else []


def answering_families(study: Study) -> list[str]:
    """Families with whose masks harmful prompts are completed."""
    return study.curve.families if study.curve.completions else []


def judged_sizes(study: Study) -> bool:
    """Whether answers of masks of every size can be held against the intact model's."""
    return bool(answering_families(study)) and "prefill" in study.responses.attacks


def curve_slice(study: Study, family: str) -> dict[str, Any]:
    """What decides a family's NLLs and completions, given model, masks and pairs."""
    completing = {
        "batch_size": study.responses.batch_size,
        "max_new_tokens": study.responses.max_new_tokens,
        "prefill": study.pairs.prefill,
        "prompts": study.curve.prompts,
    }
    return {
        "batch_tokens": study.responses.batch_tokens,
        "completing": completing if study.curve.completions else None,
        "device": device(study).model_dump(),
        "family": family,
        "pairs": study.curve.pairs,
        "roles": evaluated(study),
    }


def understood(study: Study) -> list[str]:
    """Variants that are asked what they understand, `intact` first; none if that is off."""
    chosen = study.understanding.variants
    if study.understanding.twins is None:
        return []
    return study.variants if chosen is None else ["intact", *chosen]


def understanding_slice(study: Study, variant: str) -> dict[str, Any]:
    """What decides a variant's understanding, given model, mask and pairs.

    Raises:
        LesionError: the file of twins is missing or unfit.
    """
    asked, responses = study.understanding, study.responses
    return {
        "batch_size": responses.batch_size,
        "batch_tokens": responses.batch_tokens,
        "content": contents(study, "understanding").get("minimal_pairs"),
        "device": device(study).model_dump(),
        "explain": asked.explain,
        "explain_prompts": asked.explain_prompts,
        "harms": study.of_role("harm"),
        "limit": asked.limit,
        "max_new_tokens": responses.max_new_tokens,
        "over_refusal": asked.over_refusal,
        "variant": variant,
    }


def utility_slice(study: Study, variant: str) -> dict[str, Any]:
    """What decides a variant's scores in the tasks, given model and mask.

    An own task is known by its content, one of lm-eval by its name alone.

    Raises:
        StudyError: an own task is not YAML, or lacks its data.
    """
    utility = study.utility
    return {
        "batch_size": utility.batch_size,
        "chat": utility.chat,
        "device": device(study).model_dump(),
        "folder": utility.folder,
        "limit": utility.limit,
        "tasks": task_contents(study),
        "variant": variant,
    }


def judge_slice(study: Study) -> dict[str, Any]:
    """What decides the learned judge, and how good judges are found to be, given their data."""
    judges = study.judgements.judges
    return {
        "contents": contents(study, "judge"),
        "contrasts": {name: {"settings": judges[name].settings} for name in contrasts(study)},
        "seed": study.seed,
        "tokens": study.responses.max_new_tokens,
    }


def extra_judge_slice(study: Study, judge: str) -> dict[str, Any]:
    """What decides a further judge's verdicts, given its files and the completions.

    Raises:
        LesionError: the local file of a judge that is made of one is missing or unfit.
    """
    return {
        "content": contents(study, "extra_judge", judge).get("source"),
        "judge": judge,
        "machine": {"device_map": study.device_map, "threads": study.threads},
        "settings": study.judgements.judges[judge].settings,
    }


def tables_slice(study: Study) -> dict[str, Any]:
    """What decides the tables, given everything measured."""
    return {
        "answering": answering_families(study),
        "behaviours": _behaviours(study),
        "confidence": study.tables.confidence,
        "config": study.model_dump(exclude={"report"}),
        "families": curve_families(study),
        "judges": list(study.judgements.judges),
        "near_duplicate": study.pairs.near_duplicate,
        "main": study.judgements.main,
        "limit": study.masks.max_benign_increase,
        "resamples": study.tables.resamples,
        "retraining": {
            name: {
                "arms": one.trained,
                "judge": one.judge,
                "models": study.retrained(name),
                "narrow": one.narrow,
                "verdicts": retraining_judges(study, name),
            }
            for name, one in study.retraining.items()
        },
        "seed": study.seed,
        "stages": study.stages,
        "tasked": study.utility_variants,
        "threshold": study.judgements.threshold,
        "trained": {name: _origin(study, name) for name in study.trained},
        "understood": understood(study),
        "variants": study.variants,
    }


def _origin(study: Study, model: str) -> dict[str, Any]:
    one = study.models[model]
    assert one.train is not None
    return {"base": one.base or "new", "method": one.train.method, "seed": one.train.seeds[0]}
