"""What jobs that train get of the study; plain dicts with sorted keys."""

from typing import Any

from lesion.plan.places import contents
from lesion.study import Study


def training_files(study: Study, model: str) -> dict[str, tuple[str, str]]:
    """The files that a model is trained with: their sources and keys, by their parts."""
    return {
        use.part: (use.text, use.key)
        for use in study.uses()
        if use.rule == "train" and use.owner == model
    }


def lesson_behaviours(study: Study, model: str) -> list[str]:
    """The behaviours whose pairs a model is trained on."""
    train = study.models[model].train
    return sorted(
        {name for lesson in (train.lessons if train else []) for name in lesson.behaviours}
    )


def train_slice(study: Study, model: str) -> dict[str, Any]:
    """What decides a trained model, given its base and the pairs it is taught.

    A local file is known by what is taught of it, so that touching it makes nothing stale.

    Raises:
        LesionError: a lesson's file is missing or unfit.
    """
    one = study.models[model]
    assert one.train is not None
    recipe = one.train.model_dump(
        exclude={"lessons", "method", "refusals", "save_minutes", "seeds"}
    )
    return {
        "contents": contents(study, "train", model),
        "device_map": study.device_map,
        "dtype": one.dtype,
        "lessons": [lesson.model_dump(exclude={"source"}) for lesson in one.train.lessons],
        "license": one.license,
        "method": one.train.method,
        "new": one.new and one.new.model_dump(),
        "recipe": recipe,
        "seed": one.train.seeds[0],
        "threads": study.threads,
    }
