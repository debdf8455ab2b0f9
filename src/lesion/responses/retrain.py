"""Fine-tuning of an ablated model in memory: NLL and completions during the training.

The trained model exists only in this process, and its completions are deleted once they are judged
(workflow/rules/responses.smk).
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lesion.io.formats import read_parquet, write_parquet
from lesion.masks.lesion import lesioned, zero
from lesion.masks.store import Mask, read_mask
from lesion.models.generate import complete
from lesion.models.likelihood import response_nll
from lesion.models.load import Loaded, load, resolve_dtype
from lesion.models.text import Example, encode_prompt
from lesion.pairs.tables import PAIRS, encode_pairs, kept_pairs
from lesion.responses import RETRAINED, RETRAINED_COMPLETIONS, completion_columns, retrained
from lesion.responses.jobs import RetrainJob
from lesion.responses.questions import read_questions
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
    found: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    given = {name: read_mask(path) for name, path in zip(job.masks, masks, strict=True)}
    tables = dict(zip(job.roles, pairs, strict=True))
    examples = as_scored({name: tables[name] for name in job.trained_on})
    for seed in job.seeds:
        # Training changes the model, so it is loaded again for every seed.
        loaded = load(model, job.device)
        measure = _Measure(loaded, tables, job, seed)
        with ExitStack() as stack:
            if job.mask is not None:
                _zero(loaded.model, given[job.mask], stack, frozen=job.frozen)
            recipe = SeededRecipe(**job.recipe.model_dump(), seed=seed)
            fine_tune(loaded, examples, recipe, f"{job.arm}: training", [measure])
        for arm, name in job.after.items():
            with lesioned(loaded.model, given[name].indices):
                measure.take(arm, job.recipe.steps, last=True)
        found += measure.rows
        answers += measure.answers
    write_parquet(pl.DataFrame(found, schema=RETRAINED), nll)
    write_parquet(pl.DataFrame(answers, schema=RETRAINED_COMPLETIONS), completions)


def _zero(model: nn.Module, mask: Mask, stack: ExitStack, *, frozen: bool) -> None:
    """Ablate the mask's weights; if `frozen`, training keeps them at zero until `stack` closes."""
    for weight, where, _ in zero(model, mask.indices):
        if frozen:
            weight.requires_grad_(True)  # required by `register_hook`
            # With a gradient of zero, AdamW keeps a zero weight at zero under any weight decay.
            handle = weight.register_hook(_without(where))
            stack.callback(handle.remove)


def _without(where: Tensor) -> Any:
    return lambda gradient: gradient.contiguous().view(-1).index_fill(0, where, 0).view_as(gradient)


class _Measure(TrainerCallback):
    """Measures the model before the first step, if step 0 is requested, and after other steps."""

    def __init__(
        self, loaded: Loaded, pairs: Mapping[str, Path], job: RetrainJob, seed: int
    ) -> None:
        self._loaded, self._job, self._seed = loaded, job, seed
        self._steps = {*job.at, job.recipe.steps}
        self._pairs = _test_pairs(pairs, job)
        self._examples = encode_pairs(loaded.chat, self._pairs)
        self._prompts = _prompts(pairs, job)
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
        model = self._loaded.model
        training = model.training
        model.eval()
        native = resolve_dtype(self._job.recipe.dtype) == torch.bfloat16
        with torch.autocast(model.device.type, torch.bfloat16, enabled=native):
            self._nll(arm, step, self._examples)
            asked = [*self._prompts, *(self._questions if last else [])]
            self._answer(arm, step, asked)
        model.train(training)

    def _nll(self, arm: str, step: int, examples: Sequence[Example]) -> None:
        losses = response_nll(self._loaded.model, examples, self._job.batch_tokens)
        seed, seen = self._seed, step * self._job.recipe.batch_size
        self.rows += [
            {"arm": arm, "seed": seed, "step": step, "examples": seen, **pair, "nll": loss}
            for pair, loss in zip(
                self._pairs.select("behaviour", "role", "prompt").iter_rows(named=True),
                losses,
                strict=True,
            )
        ]

    def _answer(self, arm: str, step: int, asked: Sequence[Mapping[str, str]]) -> None:
        if not asked:
            return
        model, chat = self._loaded
        prompts = [encode_prompt(chat, one["prompt"], one["prefill"]) for one in asked]
        how = self._job
        done = complete(model, chat, prompts, how.max_new_tokens, how.batch_size)
        variant = retrained(arm, self._seed, step)
        self.answers += [
            {
                **one,
                "variant": variant,
                "asked": one["prompt"],
                **completion_columns(made),
                "key": "",
            }
            for one, made in zip(asked, done, strict=True)
        ]


def _test_pairs(pairs: Mapping[str, Path], job: RetrainJob) -> pl.DataFrame:
    tables = [
        kept_pairs(path, "test")[: job.pairs].with_columns(
            behaviour=pl.lit(name), role=pl.lit(job.roles[name])
        )
        for name, path in pairs.items()
    ]
    return pl.concat(tables)


def _prompts(pairs: Mapping[str, Path], job: RetrainJob) -> list[dict[str, str]]:
    about = {"role": "harm", "attack": "prefill", "prefill": job.prefill}
    return [
        {"behaviour": name, "prompt": prompt, **about}
        for name, path in pairs.items()
        if job.roles[name] == "harm"
        for prompt in read_parquet(path, PAIRS)
        .filter(split="test")["prompt"]
        .head(job.prompts)
        .to_list()
    ]


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
