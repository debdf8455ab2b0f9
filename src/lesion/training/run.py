"""The job that trains a model and writes it as a checkpoint folder."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from lesion.io.formats import atomic, digest, write_parquet
from lesion.models.chat import chat_of
from lesion.models.load import Loaded, load, resolve_dtype, silence_libraries
from lesion.models.prepare import write_model
from lesion.models.record import read_record
from lesion.pairs.prompts import given_responses
from lesion.training.fit import Recipe, Saving, fine_tune
from lesion.training.lessons import Taught, lesson_columns, of_file, of_pairs

LOSSES = "training.parquet"
"""The loss curve, beside the checkpoint's own files: a table of TRAINING."""


class Given(NamedTuple):
    """What a training reads."""

    base: Path | None
    """Checkpoint folder; None for a new model."""
    pairs: Mapping[str, Path]
    """Tables of PAIRS of the base, by behaviour."""
    files: Mapping[str, Path]
    """`lessons.<number>`, those lessons that are files; `refusals`."""


class Making(NamedTuple):
    """How a model is made; see `lesion.study.training`."""

    recipe: Recipe
    lessons: Sequence[Mapping[str, Any]]
    new: Mapping[str, int] | None
    threads: int
    device_map: str | None
    dtype: str
    """Of the weights as written."""
    license_: str
    save_minutes: float


def train(given: Given, out: Path, how: Making) -> None:
    """Make the checkpoint folder `out`; a killed run goes on from the state saved beside it.

    Raises:
        LesionError: a lesson's file is unfit, or the training came to nothing.
    """
    silence_libraries()
    taught = _taught(given, how)
    loaded = _beginning(given, taught, how)
    work = out.with_name(f".{out.name}.training")
    losses = fine_tune(
        loaded, taught, how.recipe, f"{out.name}: training", saving=Saving(work, how.save_minutes)
    )
    model, chat = loaded
    torch.nn.Module.to(model, "cpu", resolve_dtype(how.dtype))
    made_of = {
        "base": read_record(given.base)["digest"] if given.base else None,
        "examples": digest([list(one) for one in taught]),
        "recipe": how.recipe._asdict(),
    }
    with atomic(out) as part:
        write_model(model, chat_of(chat), part, license_=how.license_, trained=made_of)
        write_parquet(losses, part / LOSSES)
    shutil.rmtree(work, ignore_errors=True)


def _taught(given: Given, how: Making) -> list[Taught]:
    dpo = how.recipe.beta is not None
    refusals = given_responses(given.files["refusals"]) if "refusals" in given.files else []
    found: list[Taught] = []
    for number, lesson in enumerate(how.lessons):
        file = given.files.get(f"lessons.{number}")
        if file is not None:
            found += of_file(file, lesson_columns(lesson, dpo=dpo), lesson["limit"])
        else:
            paths = {name: given.pairs[name] for name in lesson["behaviours"]}
            found += of_pairs(paths, lesson["answer"], refusals, lesson["limit"], dpo=dpo)
    return found


def _beginning(given: Given, taught: Sequence[Taught], how: Making) -> Loaded:
    if given.base is not None:
        return load(given.base, "float32", how.threads, how.device_map)
    from lesion.training.scratch import Shape, make_tokenizer, new_model

    assert how.new is not None
    torch.set_num_threads(how.threads)
    texts = [text for one in taught for text in (one.prompt, one.chosen.text) if text is not None]
    tokenizer = make_tokenizer(texts)
    return Loaded(new_model(Shape(**how.new), tokenizer, how.recipe.seed), tokenizer)
