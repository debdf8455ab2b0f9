"""The job that trains a model and writes it as a checkpoint folder."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import torch

from lesion.io.formats import atomic, digest, write_parquet
from lesion.models.chat_format import chat_of
from lesion.models.load import Loaded, load, resolve_dtype, silence_libraries
from lesion.models.prepare import write_model
from lesion.models.record import read_record
from lesion.pairs.prompts import given_responses
from lesion.sources.fetch import locate
from lesion.training.examples import TrainingExample, of_file, of_pairs
from lesion.training.fit import Saving, fine_tune
from lesion.training.jobs import TrainJob
from lesion.training.scratch import make_tokenizer, new_model

LOSSES = "training.parquet"
"""The loss curve, beside the checkpoint's own files: a table of TRAINING."""


def train(
    job: TrainJob, base: Path | None, pairs: Mapping[str, Path], out: Path, save_minutes: float
) -> None:
    """Write the checkpoint folder `out`; a killed run resumes from the state saved next to it.

    The model is trained from the checkpoint folder `base`, or from scratch if that is None.
    `pairs` are the base's tables of PAIRS, by behaviour. The state is saved at most every
    `save_minutes`.

    Raises:
        LesionError: a file of the mixture is unusable, or the training failed.
    """
    silence_libraries()
    examples = _training_examples(job, pairs)
    if base is not None:
        loaded = load(base, job.device)
    else:
        assert job.new is not None
        torch.set_num_threads(job.device.threads)
        answers = [(example.prompt, example.chosen.text) for example in examples]
        tokenizer = make_tokenizer(
            [text for texts in answers for text in texts if text is not None]
        )
        loaded = Loaded(new_model(job.new, tokenizer, job.recipe.seed), chat_of(tokenizer))
    work = out.with_name(f".{out.name}.training")
    losses = fine_tune(
        loaded, examples, job.recipe, f"{out.name}: training", saving=Saving(work, save_minutes)
    )
    model, chat = loaded
    torch.nn.Module.to(model, "cpu", resolve_dtype(job.dtype))
    made_of = {
        "base": read_record(base)["digest"] if base else None,
        "examples": digest([list(example) for example in examples]),
        "recipe": job.recipe.model_dump(),
    }
    with atomic(out) as part:
        write_model(model, chat, part, license_=job.license, trained=made_of)
        write_parquet(losses, part / LOSSES)
    shutil.rmtree(work, ignore_errors=True)


def _training_examples(job: TrainJob, pairs: Mapping[str, Path]) -> list[TrainingExample]:
    dpo = job.recipe.beta is not None
    refusals = given_responses(locate(job.refusals)) if job.refusals else []
    examples: list[TrainingExample] = []
    for component in job.mixture:
        if component.source is not None:
            examples += of_file(locate(component.source), component.columns, component.limit)
        else:
            paths = {name: pairs[name] for name in component.behaviours}
            examples += of_pairs(paths, component.answer, refusals, component.limit, dpo=dpo)
    return examples
