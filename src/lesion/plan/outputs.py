"""What a study makes: which variants, mask families and trainings are measured, and by whom."""

from lesion.study import Role, Study


def evaluated(study: Study) -> dict[str, Role]:
    """Behaviours on whose test prompts variants are evaluated, with their roles, harm first."""
    roles: tuple[Role, ...] = ("harm", "benign")
    return {name: role for role in roles for name in study.of_role(role)}


def measured(study: Study) -> dict[str, Role]:
    """Behaviours on whose test pairs variants' NLL is taken, with their roles: refusal as well."""
    return {**evaluated(study), **dict.fromkeys(study.of_role("refusal"), "refusal")}


def curve_families(study: Study) -> list[str]:
    """Families that are measured at every size, and `intact` to compare with; none if off."""
    return ["intact", *study.curve.families] if study.curve.families else []


def answering_families(study: Study) -> list[str]:
    """Families with whose masks harmful prompts are completed."""
    return study.curve.families if study.curve.completions else []


def judged_sizes(study: Study) -> bool:
    """Whether answers of masks of every size can be compared with the intact model's."""
    return bool(answering_families(study)) and "prefill" in study.responses.attacks


def understood(study: Study) -> list[str]:
    """Variants that are asked what they understand, `intact` first; none if that is off."""
    chosen = study.understanding.variants
    if study.understanding.twins is None:
        return []
    return study.variants if chosen is None else ["intact", *chosen]


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


def applied_after(study: Study, experiment: str, arm: str) -> dict[str, str]:
    """Arms that are a trained arm with a mask applied at the end: the mask of each."""
    masks = study.retraining[experiment].masks.items()
    return {name: mask for name, mask in masks if arm == "intact" and name.endswith("-after")}


def retrain_masks(study: Study, experiment: str, arm: str) -> list[str]:
    """The masks that a training in memory needs, in the order in which its job gets them."""
    own = study.retraining[experiment].masks.get(arm)
    after = applied_after(study, experiment, arm).values()
    return sorted({*after, *([own] if own else [])})
