"""Jobs of the stage `models`: models that are prepared, and those that are trained here."""

from collections.abc import Mapping

from lesion.models.jobs import ModelJob, ResolvedChat
from lesion.plan.jobs.rule import Rule
from lesion.plan.places import chat_template, places, results
from lesion.study import Study
from lesion.study.job import Device
from lesion.study.training import Recipe
from lesion.training.examples import component_columns
from lesion.training.jobs import MixtureComponentJob, SeededRecipe, TrainJob


def model_job(study: Study, wildcards: Mapping[str, str]) -> ModelJob:
    """The specification of a prepared model.

    Raises:
        StudyError: a local source, or the file of a chat template, is not there.
    """
    name = wildcards["model"]
    settings = study.models[name]
    return ModelJob(
        source=places(study, results(study), "model", name)["source"],
        chat=ResolvedChat(
            **settings.chat.model_dump(), text=chat_template(study, name), date=study.date
        ),
        dtype=settings.dtype,
        license=settings.license,
    )


def train_job(study: Study, wildcards: Mapping[str, str]) -> TrainJob:
    """The specification of a trained model, given its base and its training pairs.

    Raises:
        LesionError: a mixture file is missing or unfit.
    """
    name = wildcards["model"]
    settings = study.models[name]
    how = settings.train
    assert how is not None
    dpo = how.method == "dpo"
    recipe = how.model_dump(include=set(Recipe.model_fields))
    files = places(study, results(study), "train", name)
    return TrainJob(
        recipe=SeededRecipe(**recipe, seed=how.seeds[0], beta=how.beta if dpo else None),
        mixture=[
            MixtureComponentJob(
                behaviours=component.behaviours,
                answer=component.answer,
                source=files.get(f"mixture.{number}"),
                columns=component_columns(component, dpo=dpo) if component.source else {},
                limit=component.limit,
            )
            for number, component in enumerate(how.mixture)
        ],
        refusals=files.get("refusals"),
        new=settings.new,
        device=Device(dtype="float32", threads=study.threads, device_map=study.device_map),
        dtype=settings.dtype,
        license=settings.license,
    )


RULES = {
    "model": Rule(model_job, ("lesion.models.prepare",)),
    "train": Rule(train_job, ("lesion.training.run",)),
}
