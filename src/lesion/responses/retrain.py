"""Fine-tuning of an ablated model in memory: NLL and completions during the training.

The trained model exists only in this process, and its completions are deleted once they are judged
(workflow/rules/responses.smk).
"""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Literal

import polars as pl
import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lesion.io.formats import write_parquet
from lesion.masks.lesion import lesioned, zero
from lesion.masks.store import Mask, read_mask
from lesion.models.generate import complete
from lesion.models.likelihood import response_nll
from lesion.models.load import Loaded, load, resolve_dtype
from lesion.models.text import encode_prompt
from lesion.pairs.tables import encode_pairs
from lesion.responses import (
    RETRAINED,
    RETRAINED_COMPLETIONS,
    completion_columns,
    first_rows,
    read_tests,
    retrained,
)
from lesion.responses.jobs import RetrainJob
from lesion.responses.prompt_files import read_questions
from lesion.sources.fetch import locate
from lesion.training.examples import as_scored
from lesion.training.fit import fine_tune
from lesion.training.jobs import SeededRecipe


def retrain(
    job: RetrainJob,
    model: Path,
    masks: Sequence[Path],
    pairs: Sequence[Path],
    nll: Path,
    completions: Path,
) -> None:
    """Train a model in memory, once for every seed, and measure it at the job's steps.

    Args:
        job: the training, and what is measured.
        model: checkpoint folder.
        masks: mask files, in the order of the job's `masks`.
        pairs: tables of PAIRS, in the order of the job's `roles`.
        nll: table of RETRAINED, NLL in nats per response token.
        completions: table of RETRAINED_COMPLETIONS, which only the judges read.
    """
    chosen = {name: read_mask(path) for name, path in zip(job.masks, masks, strict=True)}
    tests = read_tests(job.roles, pairs)
    tables = dict(zip(job.roles, pairs, strict=True))
    examples = as_scored({name: tables[name] for name in job.trained_on})
    rows: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    for seed in job.seeds:
        # Training changes the model, so it is loaded again for every seed.
        loaded = load(model, job.device)
        measure = _Measure(loaded, tests, job, seed)
        with ExitStack() as stack:
            trained = None
            if job.mask is not None:
                own = chosen[job.mask]
                _zero(loaded.model, own, stack, fixed=job.fixed)
                trained = frozenset(own.indices) if job.fixed == "others" else None
            recipe = SeededRecipe(**job.recipe.model_dump(), seed=seed)
            what = f"{job.arm}: training"
            fine_tune(loaded, examples, recipe, what, [measure], parameters=trained)
        for arm, name in job.after.items():
            with lesioned(loaded.model, chosen[name].indices):
                measure.take(arm, job.recipe.steps, last=True)
        rows += measure.rows
        answers += measure.answers
    write_parquet(pl.DataFrame(rows, schema=RETRAINED), nll)
    write_parquet(pl.DataFrame(answers, schema=RETRAINED_COMPLETIONS), completions)


def _zero(
    model: nn.Module,
    mask: Mask,
    stack: ExitStack,
    *,
    fixed: Literal["nothing", "zeroed", "others"],
) -> None:
    """Ablate the mask's weights. Until `stack` closes, training leaves at zero those that are
    `zeroed`, or leaves the `others` of the mask's matrices as they are.
    """

    def without(where: Tensor, gradient: Tensor) -> Tensor:
        return gradient.contiguous().view(-1).index_fill(0, where, 0).view_as(gradient)

    def within(where: Tensor, gradient: Tensor) -> Tensor:
        flat = gradient.contiguous().view(-1)
        return torch.zeros_like(flat).index_copy(0, where, flat[where]).view_as(gradient)

    for weight, where, _ in zero(model, mask.indices):
        if fixed != "nothing":
            weight.requires_grad_(True)  # required by `register_hook`
            # With a gradient of zero, AdamW keeps a zero weight at zero under any weight decay, and
            # any other weight as it is without weight decay.
            hook = without if fixed == "zeroed" else within
            stack.callback(weight.register_hook(partial(hook, where)).remove)


class _Measure(TrainerCallback):
    """Measures the model before the first step, if step 0 is requested, and after other steps."""

    def __init__(self, loaded: Loaded, tests: pl.DataFrame, job: RetrainJob, seed: int) -> None:
        self._loaded, self._job, self._seed = loaded, job, seed
        self._steps = {*job.at, job.recipe.steps}
        kept = first_rows(tests.filter(outcome="kept"), job.pairs)
        self._examples = encode_pairs(loaded.chat, kept)
        self._pairs = kept.select("behaviour", "role", "prompt").rows(named=True)
        harm = first_rows(tests.filter(role="harm"), job.prompts)
        self._prompts = [
            {**row, "attack": "prefill", "prefill": job.prefill}
            for row in harm.select("behaviour", "role", "prompt").rows(named=True)
        ]
        self._questions = _questions(job)
        self.rows: list[dict[str, Any]] = []
        self.answers: list[dict[str, Any]] = []

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if 0 in self._steps:
            self.take(self._job.arm, 0, last=True)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if state.global_step in self._steps:
            last = state.global_step == self._job.recipe.steps
            self.take(self._job.arm, state.global_step, last=last)

    def take(self, arm: str, step: int, *, last: bool) -> None:
        """Measure the model now; `last` adds the open questions."""
        model, chat = self._loaded
        job = self._job
        training = model.training
        model.eval()
        native = resolve_dtype(job.recipe.dtype) == torch.bfloat16
        with torch.autocast(model.device.type, torch.bfloat16, enabled=native):
            columns = {"arm": arm, "seed": self._seed, "step": step}
            columns["examples"] = step * job.recipe.batch_size
            losses = response_nll(model, self._examples, job.batch_tokens)
            self.rows += [
                {**columns, **pair, "nll": loss}
                for pair, loss in zip(self._pairs, losses, strict=True)
            ]
            questions = [*self._prompts, *(self._questions if last else [])]
            if questions:
                prompts = [encode_prompt(chat, row["prompt"], row["prefill"]) for row in questions]
                completions = complete(model, chat, prompts, job.max_new_tokens, job.batch_size)
                identity = {"variant": retrained(arm, self._seed, step), "key": ""}
                self.answers += [
                    {
                        **identity,
                        **row,
                        "user_turn": row["prompt"],
                        **completion_columns(completion),
                    }
                    for row, completion in zip(questions, completions, strict=True)
                ]
        model.train(training)


def _questions(job: RetrainJob) -> list[dict[str, str]]:
    if job.questions is None:
        return []
    return [
        {
            "behaviour": row["domain"],
            "role": "narrow" if row["domain"] == job.narrow else "broad",
            "attack": "direct",
            "prompt": row["prompt"],
            "prefill": "",
        }
        for row in read_questions(locate(job.questions)).iter_rows(named=True)
    ]
