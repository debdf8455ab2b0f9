"""What jobs that train get of the study; plain dicts with sorted keys."""

from pathlib import Path
from typing import Any

from lesion.io.formats import digest
from lesion.pairs.prompts import given_responses
from lesion.plan.places import is_local, local_path
from lesion.study import Study
from lesion.study.training import Train
from lesion.study.training_checks import training_sources
from lesion.training.lessons import columns_of, of_file


def training_files(study: Study, model: str) -> dict[str, tuple[str, str]]:
    """The files that a model is trained with: their sources and keys, by the key's last words.

    `lessons.<number>`, `refusals`.
    """
    start = f"models.{model}"
    return {
        _part(key, start): (text, key)
        for key, text in training_sources(study).items()
        if key.startswith(f"{start}.train.")
    }


def _part(key: str, start: str) -> str:
    inner = key.removeprefix(f"{start}.train.")
    return inner.removesuffix(".source")


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
    contents = {
        part: _content(one.train, part, local_path(study, text, key))
        if is_local(study, text)
        else None
        for part, (text, key) in training_files(study, model).items()
    }
    return {
        "contents": contents,
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


def _content(train: Train, part: str, path: Path) -> str:
    """Digest of what a file of a training says (see `training_files`)."""
    if part == "refusals":
        return digest(given_responses(path))
    lesson = train.lessons[int(part.partition(".")[2])].model_dump()
    columns = columns_of(lesson, dpo=train.method == "dpo")
    return digest([list(one) for one in of_file(path, columns, lesson["limit"])])
