"""Training of a model in memory with trl, on examples encoded as in the other stages."""

import logging
import math
import os
import shutil
import time
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import polars as pl
import torch
from datasets import Dataset
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from lesion.io.formats import LesionError, digest, read_json, write_json
from lesion.io.progress import Advance, progress
from lesion.models.chat import Chat
from lesion.models.likelihood import response_losses
from lesion.models.load import Loaded, pick_device, resolve_dtype
from lesion.models.text import Example, batches, context_of, encode_pair
from lesion.training import TRAINING
from lesion.training.adapters import Adapters
from lesion.training.examples import TrainingExample
from lesion.training.jobs import SeededRecipe

logger = logging.getLogger(__name__)


class Saving(NamedTuple):
    """The folder of saved states, from which a killed training resumes, and their interval."""

    folder: Path
    minutes: float


def fine_tune(
    loaded: Loaded,
    examples: Sequence[TrainingExample],
    recipe: SeededRecipe,
    what: str,
    callbacks: Sequence[TrainerCallback] = (),
    saving: Saving | None = None,
    *,
    parameters: Collection[str] | None = None,
) -> pl.DataFrame:
    """Train a model in place; adapters are merged into it at the end.

    Args:
        loaded: model with fp32 weights; afterwards it is in evaluation mode, without gradients.
        examples: drawn without replacement in every epoch, in an order given by the seed.
        recipe: settings of the optimiser.
        what: label of the progress bar.
        callbacks: callbacks of transformers, called at every step.
        saving: folder and interval of saved states; None to save and resume nothing.
        parameters: names of the parameters that are trained; all, if None.

    Returns:
        A table of TRAINING.

    Raises:
        LesionError: no example fits the model's context, a prunable matrix can't have an adapter,
            or the loss is NaN.
    """
    model = loaded.model
    # The results of a training must not depend on what the process has computed before.
    torch.manual_seed(recipe.seed)
    encoded = _encoded(loaded, examples, dpo=recipe.beta is not None)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameters is None or name in parameters)
    with progress(what, recipe.steps, "step") as advance, TemporaryDirectory() as nowhere:
        folder = saving.folder if saving else Path(nowhere)
        with _alone():
            trainer = _trainer(loaded, encoded, recipe, folder)
        for callback in (_Steps(advance, saving.minutes if saving else math.inf), *callbacks):
            trainer.add_callback(callback)
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=_saved_state(saving, recipe, encoded))
    if recipe.lora is not None:
        # Into the weights of the base model, which stays the same object.
        trainer.model.merge_and_unload()  # type: ignore[union-attr, operator]
    model.eval().requires_grad_(False)
    steps = [log for log in trainer.state.log_history if "loss" in log]
    rows = [
        (int(log["step"]), int(log["step"]) * recipe.batch_size, log["loss"], log["learning_rate"])
        for log in steps
    ]
    return pl.DataFrame(rows, schema=TRAINING, orient="row")


def _encoded(loaded: Loaded, examples: Sequence[TrainingExample], *, dpo: bool) -> Dataset:
    """The examples as tokens, without those that exceed the model's context."""
    longest = context_of(loaded.model.config)
    encode = _preference if dpo else _labelled
    rows = [encode(loaded.chat, example) for example in examples]
    # Of a preference, the longer of its answers counts.
    kept = [row for row in rows if max(map(len, _sequences(row))) <= longest]
    if len(kept) < len(rows):
        logger.info(
            f"training: {len(rows) - len(kept)} of {len(rows)} examples are longer than the "
            f"model's context of {longest} tokens and are left out"
        )
    if not kept:
        raise LesionError(
            f"none of {len(rows)} training examples fits the model's context of {longest} tokens. "
            "Give shorter examples."
        )
    return Dataset.from_list(kept)


def _labelled(chat: Chat, example: TrainingExample) -> dict[str, list[int]]:
    if example.prompt is not None:
        tokens, start = encode_pair(chat, example.prompt, example.prefill, *example.chosen)
    else:
        start = 0
        tokens = [int(token) for token in chat.tokenizer(example.chosen.text)["input_ids"]]
        end = chat.tokenizer.eos_token_id
        if end is not None and tokens[-1:] != [end]:
            tokens.append(end)
    return {"input_ids": tokens, "labels": [-100] * start + tokens[start:]}


def _preference(chat: Chat, example: TrainingExample) -> dict[str, list[int]]:
    assert example.prompt is not None
    assert example.rejected is not None
    chosen = encode_pair(chat, example.prompt, example.prefill, *example.chosen)
    rejected = encode_pair(chat, example.prompt, example.prefill, *example.rejected)
    return {
        "prompt_ids": chosen.tokens[: chosen.start],
        "chosen_ids": chosen.tokens[chosen.start :],
        "rejected_ids": rejected.tokens[rejected.start :],
    }


def _sequences(row: Mapping[str, list[int]]) -> list[list[int]]:
    """The token sequences of an encoded example: one, or a preference's chosen and rejected one."""
    if "input_ids" in row:
        return [row["input_ids"]]
    return [row["prompt_ids"] + row[key] for key in ("chosen_ids", "rejected_ids")]


class _Encoded(DPOTrainer):
    """A DPO trainer for encoded examples; trl's own tokenises texts and ends every answer."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset


def _trainer(loaded: Loaded, examples: Dataset, recipe: SeededRecipe, folder: Path) -> Trainer:
    # trl's default is true, under a name that transformers is about to drop.
    warnings.filterwarnings("ignore", "`gradient_checkpointing` is deprecated", FutureWarning)
    model, tokenizer, lora = loaded.model, loaded.tokenizer, recipe.lora
    if tokenizer.pad_token_id is None:
        # Any token works, because padding is masked and has no label.
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    shortest = min((_sequences(row)[0] for row in examples), key=len)
    adapters = Adapters(model, lora.rank, lora.alpha) if lora else None
    inputs = {
        "model": model,
        "train_dataset": examples,
        "processing_class": tokenizer,
        **({"peft_config": adapters.config} if adapters else {}),
    }
    common = _arguments(recipe, folder)
    trainer: Trainer
    with adapters.named_errors() if adapters else nullcontext():
        if recipe.beta is None:
            trainer = SFTTrainer(args=_SFTOnOneDevice(**common), **inputs)
        else:
            # The reference's log-probabilities are computed before the first step, without a
            # second copy of the model.
            args = _DPOOnOneDevice(**common, beta=recipe.beta, precompute_ref_log_probs=not lora)
            trainer = _Encoded(args=args, **inputs)
    if adapters:
        adapters.check(trainer.model, shortest)
    if not _fused_is_own(trainer.model, shortest):
        if recipe.beta is not None:
            raise LesionError(
                f"`method: dpo`: trl's fused loss differs from the loss that "
                f"{type(model).__name__} computes. Set `method: sft`"
            )
        trainer.compute_loss_func = _own_loss
    return trainer


@torch.no_grad()
def _fused_is_own(model: Any, tokens: Sequence[int]) -> bool:
    """Whether trl computes the model's own loss.

    trl multiplies the last hidden states by the output projection in chunks, and applies the logit
    scales and caps of most model families. ModernBERT's head has a further layer, for example.
    """
    (batch,) = batches([Example(list(tokens), 1)], 1)
    row, mask = batch.tokens.to(model.device), batch.mask.to(model.device)
    model.eval()
    fused = model(input_ids=row, attention_mask=mask, labels=row, fused_lm_head=True).loss
    own = response_losses(model, batch)[0]
    # If the weights are NaN, both losses are; training reports that at its first step.
    return bool(torch.allclose(fused.float(), own, rtol=1e-3, atol=1e-3, equal_nan=True))


def _own_loss(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
    """Mean NLL of the labelled tokens in the model's own logits, for the trainer."""
    logits = outputs.logits[:, :-1].float().flatten(0, 1)
    targets = labels[:, 1:].to(logits.device).flatten()
    total = cross_entropy(logits, targets, ignore_index=-100, reduction="sum")
    return total / ((targets != -100).sum() if num_items_in_batch is None else num_items_in_batch)


class _OnOneDevice(TrainingArguments):
    """Training on the device that this job has locked.

    transformers would use the first device, and copy the model to all other visible devices
    (`nn.DataParallel`), which multiplies the batch size.
    """

    @cached_property
    def _setup_devices(self) -> torch.device:
        device: torch.device = super()._setup_devices
        if device.type != "cuda":
            return device
        self._n_gpu = 1
        torch.cuda.set_device(pick_device())  # transformers has set the first device
        return pick_device()


class _SFTOnOneDevice(_OnOneDevice, SFTConfig):
    """The arguments of supervised fine-tuning."""


class _DPOOnOneDevice(_OnOneDevice, DPOConfig):
    """The arguments of preference optimisation."""


@contextmanager
def _alone() -> Iterator[None]:
    """Hide the environment variables of multi-process launchers, which accelerate obeys."""
    hidden = {
        name: os.environ.pop(name)
        for name in list(os.environ)
        if name.startswith("ACCELERATE_") or name in ("LOCAL_RANK", "RANK", "WORLD_SIZE")
    }
    try:
        yield
    finally:
        os.environ.update(hidden)


def _arguments(recipe: SeededRecipe, folder: Path) -> dict[str, Any]:
    constant = recipe.schedule == "constant"
    return {
        "output_dir": str(folder),
        "max_steps": recipe.steps,
        "learning_rate": recipe.learning_rate,
        "per_device_train_batch_size": recipe.batch_size // recipe.accumulate,
        "gradient_accumulation_steps": recipe.accumulate,
        "lr_scheduler_type": "constant_with_warmup" if constant else recipe.schedule,
        "warmup_steps": round(recipe.warmup * recipe.steps),
        "weight_decay": recipe.weight_decay,
        "bf16": resolve_dtype(recipe.dtype) == torch.bfloat16,
        "use_cpu": pick_device().type == "cpu",
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "max_length": None,
        "gradient_checkpointing": False,
        # Otherwise the loss of a mixture of experts includes the load balance of its routers.
        "router_aux_loss_coef": 0.0,
        "logging_steps": 1,
        # Otherwise a NaN loss is logged as 0.
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "save_total_limit": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }


def _saved_state(saving: Saving | None, recipe: SeededRecipe, examples: Dataset) -> str | None:
    """The latest saved state of the same training, if there is one."""
    if saving is None:
        return None
    mark = saving.folder / "training.json"
    made_of = digest([recipe.model_dump(), examples.to_list()])
    if mark.is_file() and read_json(mark) == {"training": made_of}:
        # This file is written last: a state without it is from a job that was killed while saving.
        complete = [path.parent for path in saving.folder.glob("checkpoint-*/trainer_state.json")]
        return str(max(complete, key=lambda path: int(path.name[11:]))) if complete else None
    shutil.rmtree(saving.folder, ignore_errors=True)
    saving.folder.mkdir(parents=True)
    write_json({"training": made_of}, mark)
    return None


class _Steps(TrainerCallback):
    """Moves the progress bar, saves the state at intervals, and ends at a loss that is NaN."""

    def __init__(self, advance: Advance, save_minutes: float) -> None:
        self._advance, self._done = advance, 0
        self._seconds, self._saved = 60 * save_minutes, time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        self._advance(state.global_step - self._done)
        self._done = state.global_step
        if time.monotonic() - self._saved >= self._seconds:
            self._saved = time.monotonic()
            control.should_save = True
        return control

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        loss = more.get("logs", {}).get("loss")
        if loss is not None and loss != loss:
            raise LesionError(
                f"training: the loss of step {state.global_step} is not a number (NaN). Lower "
                "`learning_rate`."
            )
