"""Jobs of the stage `models`: models that are prepared, and those that are trained here."""

from collections.abc import Mapping
from pathlib import Path

from lesion.io.addresses import is_address, parse
from lesion.io.formats import sha256_file
from lesion.io.texts import read_text
from lesion.models.jobs import ModelJob, ResolvedChat
from lesion.pairs.prompts import given_responses
from lesion.plan.jobs.rule import Rule
from lesion.plan.places import local_path, place
from lesion.study import Study, StudyError
from lesion.study.job import Device
from lesion.study.training import Lesson, Recipe, Train
from lesion.training.jobs import LessonJob, SeededRecipe, TrainJob
from lesion.training.lessons import columns_of, of_file


def model(study: Study, wildcards: Mapping[str, str]) -> ModelJob:
    """What decides a checkpoint folder.

    Raises:
        StudyError: a local source, or the file of a chat template, is not there.
    """
    name = wildcards["model"]
    settings = study.models[name]
    assert settings.source is not None
    return ModelJob(
        source=place(study, settings.source, f"models.{name}.source"),
        chat=ResolvedChat(
            **settings.chat.model_dump(), text=_template_text(study, name), date=study.date
        ),
        dtype=settings.dtype,
        license=settings.license,
    )


def _template_text(study: Study, name: str) -> str | None:
    """What the file of a chat template says; None where the study names no file."""
    template, key = study.models[name].chat.template, f"models.{name}.chat.template"
    if not is_address(template):
        return None
    path = local_path(study, template, key)
    wanted = parse(template).sha256
    if wanted is not None and sha256_file(path) != wanted:
        raise StudyError(
            f"`{key}`: {path} is not the file that the digest is of: its sha256 is "
            f"{sha256_file(path)}"
        )
    return read_text(path)


def train(study: Study, wildcards: Mapping[str, str]) -> TrainJob:
    """What decides a trained model, given its base and the pairs it is taught.

    A local file is known by what is taught of it, so that touching it makes nothing stale.

    Raises:
        LesionError: a lesson's file is missing or unfit.
    """
    name = wildcards["model"]
    settings = study.models[name]
    how, key = settings.train, f"models.{name}.train"
    assert how is not None
    recipe = how.model_dump(include=set(Recipe.model_fields))
    beta = how.beta if how.method == "dpo" else None
    refusals = None
    if how.refusals is not None:
        refusals = place(study, how.refusals, f"{key}.refusals", given_responses)
    return TrainJob(
        recipe=SeededRecipe(**recipe, seed=how.seeds[0], beta=beta),
        lessons=[
            _lesson(study, how, lesson, f"{key}.lessons.{number}.source")
            for number, lesson in enumerate(how.lessons)
        ],
        refusals=refusals,
        new=settings.new,
        device=Device(dtype="float32", threads=study.threads, device_map=study.device_map),
        dtype=settings.dtype,
        license=settings.license,
    )


def _lesson(study: Study, how: Train, lesson: Lesson, key: str) -> LessonJob:
    columns = columns_of(lesson, dpo=how.method == "dpo") if lesson.source else {}

    def taught(path: Path) -> list[list[object]]:
        return [list(example) for example in of_file(path, columns, lesson.limit)]

    return LessonJob(
        behaviours=lesson.behaviours,
        answer=lesson.answer,
        source=place(study, lesson.source, key, taught) if lesson.source else None,
        columns=columns,
        limit=lesson.limit,
    )


RULES = {
    "model": Rule(model, ("lesion.models.prepare",)),
    "train": Rule(train, ("lesion.training.run",)),
}
