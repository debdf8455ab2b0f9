"""What jobs that train get of the study; plain dicts with sorted keys."""

from typing import Any

from lesion.plan.places import contents
from lesion.study import Study
from lesion.study.training import AFTER, Retraining


def lesson_behaviours(study: Study, model: str) -> list[str]:
    """The behaviours whose pairs a model is trained on."""
    train = study.models[model].train
    return sorted(
        {name for lesson in (train.lessons if train else []) for name in lesson.behaviours}
    )


def retraining_arms(study: Study, model: str) -> list[tuple[str, str]]:
    """Every training of a model in memory: experiment and arm."""
    return [
        (name, arm)
        for name, one in study.retraining.items()
        if model in study.retrained(name)
        for arm in one.trained
    ]


def retraining_judges(study: Study, experiment: str) -> list[str]:
    """Endings of the files of verdicts: none of the offline judges', `-<judge>` of another one."""
    one, main = study.retraining[experiment], study.judgements.main
    asked = {main} if one.prompts else set()
    asked |= {one.judge} if one.questions and one.judge else set()
    return ["" if judge == "learned" else f"-{judge}" for judge in sorted(asked)]


def retrain_masks(study: Study, experiment: str, arm: str) -> list[str]:
    """The masks that a training in memory needs: its own, or those put on afterwards."""
    one = study.retraining[experiment]
    own = {name: mask for name, mask in one.masks.items() if name in (arm, *_after(one, arm))}
    return sorted(set(own.values()))


def _after(one: Retraining, arm: str) -> list[str]:
    """Arms that are measured with this one, once it is trained."""
    return [name for name in one.arms if name.endswith(AFTER)] if arm == "intact" else []


def retrain_slice(study: Study, experiment: str, arm: str) -> dict[str, Any]:
    """What decides a training in memory and what is measured, given model, masks and pairs.

    Raises:
        LesionError: the file of questions is missing or unfit.
    """
    one = study.retraining[experiment]
    return {
        "after": {name: one.masks[name] for name in _after(one, arm)},
        "arm": arm,
        "at": one.at,
        "batch_size": study.responses.batch_size,
        "batch_tokens": study.responses.batch_tokens,
        "device_map": study.device_map,
        "experiment": experiment,
        "mask": one.masks.get(arm),
        "max_new_tokens": study.responses.max_new_tokens,
        "narrow": one.narrow,
        "pairs": one.pairs,
        "prefill": study.pairs.prefill,
        "prompts": one.prompts,
        "questions": contents(study, "retrain", experiment).get("questions"),
        "recipe": one.recipe.model_dump(),
        "roles": {name: role for role in ("harm", "benign") for name in study.of_role(role)},
        "seeds": one.seeds,
        "taught": one.behaviours or study.of_role("harm"),
        "threads": study.threads,
    }
