"""What fine-tuning in memory does to a lesioned model: NLL and answers after so many steps.

The trained model lives in this process alone, and no answer of it is kept but for the judge
(workflow/rules/training.smk).
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, NamedTuple

import polars as pl
import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lesion.io.formats import read_parquet, write_parquet
from lesion.masks.lesion import lesioned, zero
from lesion.masks.store import Mask
from lesion.models.generate import complete
from lesion.models.likelihood import response_nll
from lesion.models.load import Loaded, load, resolve_dtype
from lesion.models.text import Example, encode_prompt
from lesion.pairs.tables import PAIRS, encode_pairs, kept_pairs
from lesion.responses import RETRAINED, RETRAINED_COMPLETIONS, retrained, written
from lesion.study.job import Device
from lesion.training.fit import fine_tune
from lesion.training.jobs import SeededRecipe
from lesion.training.lessons import as_scored


class Arm(NamedTuple):
    """One training: what is lesioned before it, and what after it."""

    name: str
    mask: Mask | None
    frozen: bool
    after: Mapping[str, Mask]
    """Arms that are this one lesioned at the end, by name."""


class Asked(NamedTuple):
    """What a model is asked while it is trained."""

    at: Sequence[int]
    pairs: int | None
    prompts: int
    questions: pl.DataFrame | None
    """A table of QUESTIONS, put to it before and after; None for none."""
    narrow: str | None
    prefill: str
    max_new_tokens: int
    batch_size: int
    batch_tokens: int


class Machine(NamedTuple):
    """Where it is trained."""

    threads: int
    device_map: Literal["auto"] | None


def retrain(
    model: Path,
    pairs: Mapping[str, Path],
    roles: Mapping[str, str],
    taught: Sequence[str],
    arm: Arm,
    recipes: Sequence[SeededRecipe],
    asked: Asked,
    machine: Machine,
    out: Path,
    completions: Path,
) -> None:
    """Train a model in memory, once for every recipe, and measure it at the steps asked for.

    Args:
        model: checkpoint folder.
        pairs: tables of PAIRS by behaviour.
        roles: their roles.
        taught: the behaviours whose train pairs it is trained on.
        arm: lesions.
        recipes: one a seed.
        asked: what is measured, and when.
        machine: where.
        out: table of RETRAINED, NLL in nats per response token.
        completions: table of RETRAINED_COMPLETIONS; for the judges alone.
    """
    found: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    lessons = as_scored({name: pairs[name] for name in taught})
    for recipe in recipes:
        # Loaded anew for each: the one before is trained.
        where = Device(dtype="float32", threads=machine.threads, device_map=machine.device_map)
        loaded = load(model, where)
        measure = _Measure(loaded, pairs, roles, arm, recipe, asked)
        with ExitStack() as stack:
            if arm.mask is not None:
                _zero(loaded.model, arm.mask, stack, frozen=arm.frozen)
            fine_tune(loaded, lessons, recipe, f"{arm.name}: training", [measure])
        for name, mask in arm.after.items():
            with lesioned(loaded.model, mask.indices):
                measure.take(name, recipe.steps, last=True)
        found += measure.rows
        answers += measure.answers
    write_parquet(pl.DataFrame(found, schema=RETRAINED), out)
    write_parquet(pl.DataFrame(answers, schema=RETRAINED_COMPLETIONS), completions)


def _zero(model: nn.Module, mask: Mask, stack: ExitStack, *, frozen: bool) -> None:
    """Zero the mask's weights for good; `frozen` holds them there while the block lasts."""
    for weight, where, _ in zero(model, mask.indices):
        if frozen:
            weight.requires_grad_(True)  # else it takes no hook
            # Without a gradient AdamW leaves a zero alone, whatever its decay.
            handle = weight.register_hook(_without(where))
            stack.callback(handle.remove)


def _without(where: Tensor) -> Any:
    return lambda gradient: gradient.contiguous().view(-1).index_fill(0, where, 0).view_as(gradient)


class _Measure(TrainerCallback):
    """Measures the model before the first step, and after those asked for."""

    def __init__(
        self,
        loaded: Loaded,
        pairs: Mapping[str, Path],
        roles: Mapping[str, str],
        arm: Arm,
        recipe: SeededRecipe,
        asked: Asked,
    ) -> None:
        self._loaded, self._arm, self._recipe, self._asked = loaded, arm, recipe, asked
        self._steps = {*asked.at, recipe.steps}
        self._pairs = _test_pairs(pairs, roles, asked.pairs)
        self._examples = encode_pairs(loaded.chat, self._pairs)
        self._prompts = _prompts(pairs, roles, asked)
        self._questions = _questions(asked)
        self.rows: list[dict[str, Any]] = []
        self.answers: list[dict[str, Any]] = []

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if 0 in self._steps:
            self.take(self._arm.name, 0, last=True)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if state.global_step in self._steps:
            last = state.global_step == self._recipe.steps
            self.take(self._arm.name, state.global_step, last=last)

    def take(self, arm: str, step: int, *, last: bool) -> None:
        """Measure now; the open questions only before and after."""
        model = self._loaded.model
        training = model.training
        model.eval()
        native = resolve_dtype(self._recipe.dtype) == torch.bfloat16
        with torch.autocast(model.device.type, torch.bfloat16, enabled=native):
            self._nll(arm, step, self._examples)
            asked = [*self._prompts, *(self._questions if last else [])]
            self._answer(arm, step, asked)
        model.train(training)

    def _nll(self, arm: str, step: int, examples: Sequence[Example]) -> None:
        losses = response_nll(self._loaded.model, examples, self._asked.batch_tokens)
        seed, seen = self._recipe.seed, step * self._recipe.batch_size
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
        how = self._asked
        done = complete(model, chat, prompts, how.max_new_tokens, how.batch_size)
        variant = retrained(arm, self._recipe.seed, step)
        self.answers += [
            {
                **one,
                "variant": variant,
                "asked": one["prompt"],
                **written(made),
                "key": "",
            }
            for one, made in zip(asked, done, strict=True)
        ]


def _test_pairs(
    pairs: Mapping[str, Path], roles: Mapping[str, str], limit: int | None
) -> pl.DataFrame:
    tables = [
        kept_pairs(path, "test")[:limit].with_columns(
            behaviour=pl.lit(name), role=pl.lit(roles[name])
        )
        for name, path in pairs.items()
    ]
    return pl.concat(tables)


def _prompts(
    pairs: Mapping[str, Path], roles: Mapping[str, str], asked: Asked
) -> list[dict[str, str]]:
    about = {"role": "harm", "attack": "prefill", "prefill": asked.prefill}
    return [
        {"behaviour": name, "prompt": prompt, **about}
        for name, path in pairs.items()
        if roles[name] == "harm"
        for prompt in read_parquet(path, PAIRS)
        .filter(split="test")["prompt"]
        .head(asked.prompts)
        .to_list()
    ]


def _questions(asked: Asked) -> list[dict[str, str]]:
    if asked.questions is None:
        return []
    return [
        {
            "behaviour": row["domain"],
            "role": "narrow" if row["domain"] == asked.narrow else "broad",
            "attack": "direct",
            "prompt": row["prompt"],
            "prefill": "",
        }
        for row in asked.questions.iter_rows(named=True)
    ]
