"""The lm-evaluation-harness on a model that has already been loaded.

Source: EleutherAI, lm-evaluation-harness (MIT), `lm_eval.models.huggingface` and
`lm_eval.evaluator`. The import takes seconds, so it is done only when a task has to be run.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from datasets import disable_progress_bars
from lm_eval.api.task import Task
from lm_eval.defaults import DEFAULT_OTHER_SEED
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import set_seed

from lesion.io.formats import LesionError
from lesion.io.progress import progress
from lesion.models.chat import ChatError
from lesion.models.continuations import continuation_likelihoods
from lesion.models.load import Loaded
from lesion.models.padding import alike, batching
from lesion.models.prefix import accepts, gather, last_only, shared_prefix
from lesion.models.text import Example
from lesion.responses.tasks import check_safe, no_item_metric, no_template, unknown_task

Pair = tuple[tuple[str, str] | None, list[int], list[int]]
"""A request of the harness: its texts, and the tokens of context and continuation."""


class Score(NamedTuple):
    """One item's value of one metric."""

    task: str
    item: str
    metric: str
    value: float
    chance: float
    """The accuracy of guessing; 0 for items without choices, and for other metrics."""


class InMemory(HFLM):  # type: ignore[misc]
    """The harness's own model class around a loaded model, with the same tokens and requests.

    Log-likelihoods are computed by `continuation_likelihoods`: HFLM takes a softmax in the model's
    precision over every position, and runs a context again for every choice of several tokens.
    """

    def __init__(self, loaded: Loaded, batch_size: int, what: str) -> None:
        super().__init__(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=batch_size)
        self._what, self._chat = what, loaded.chat

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """A conversation in the model's chat format, as in the other stages.

        If there is no generation prompt, the last message is the beginning of the answer.
        """
        try:
            return self._chat.messages(chat_history)
        except ChatError:
            # As in HFLM, because some templates have no system role.
            return self._chat.messages(
                [message for message in chat_history if message["role"] != "system"]
            )

    def _loglikelihood_tokens(
        self, requests: Sequence[Pair], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        """Log-likelihood in nats and whether it is greedy, of each request's continuation."""
        longest = self.max_length + 1
        examples = [
            Example(tokens[-longest:], len(tokens[-longest:]) - len(continuation))
            for tokens, continuation in ((context + rest, rest) for _, context, rest in requests)
        ]
        with progress(self._what, len(examples), "choice") as advance:
            size = override_bs or self.batch_size
            likelihoods = continuation_likelihoods(self.model, examples, size, advance)
        for (texts, *_), likelihood in zip(requests, likelihoods, strict=True):
            if texts is not None:
                self.cache_hook.add_partial(
                    "loglikelihood", texts, (likelihood.nats, likelihood.greedy)
                )
        return [(likelihood.nats, likelihood.greedy) for likelihood in likelihoods]

    @torch.inference_mode()
    def _model_generate(
        self, context: torch.Tensor, max_length: int, **options: Any
    ) -> torch.Tensor:
        """Prompts [rows, width], as the harness pads them, followed by the generated tokens."""
        mask = options.pop("attention_mask").bool()
        rows = [row[seen].tolist() for row, seen in zip(context, mask, strict=True)]
        width = context.shape[1]
        limits = batching(self.model, "generate", rows, max_length - width)
        # The harness generates with the checkpoint's settings, unlike the other stages, and these
        # count padding as text.
        settings = ("no_repeat_ngram_size", "min_length")
        own = self.model.generation_config
        if limits.padded and not any(
            options.get(name, getattr(own, name, None)) for name in settings
        ):
            batches = [list(range(len(rows)))]
        else:
            batches = list(alike([len(row) for row in rows], limits.size(len(rows))))
        continuations: dict[int, torch.Tensor] = {}
        for batch in batches:
            chosen = [rows[row] for row in batch]
            length = max(map(len, chosen))
            prefix = None
            # With several beams, each would need a copy of the cache.
            if options.get("num_beams", 1) == 1 and accepts(self.model, "position_ids"):
                # What all rows share, such as few-shot examples, if that saves time.
                prefix = shared_prefix(self.model, [row[:-1] for row in chosen])
            past = {"past_key_values": gather(prefix, chosen, [0] * len(batch))} if prefix else {}
            generated = super()._model_generate(
                context[batch, width - length :],
                max_length - width + length,
                attention_mask=mask[batch, width - length :].long(),
                **options,
                **past,
                **last_only(self.model),
            )
            continuations |= dict(zip(batch, generated[:, length:], strict=True))
        # `generate` pads a row that ends before the others in the same way.
        written = torch.nn.utils.rnn.pad_sequence(
            [continuations[row] for row in range(len(rows))],
            batch_first=True,
            padding_value=self.tokenizer.pad_token_id,
        )
        return torch.cat([context, written], 1)


def open_tasks(
    names: Sequence[str], folder: Path, local: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Task]]:
    """Load the harness's tasks of each name: a single one, or those of a group or a tag.

    `local` has the changes to the configs of the tasks in the study's own folder, by name.

    Raises:
        LesionError: a name is unknown, the data of a task is not available, or a task would run
            code that the model writes.
    """
    # Its warnings are about settings that are intended here.
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    disable_progress_bars()
    # Reading lm-eval's thousands of configs takes ten seconds, so it is skipped if not needed.
    manager = TaskManager(include_path=str(folder), include_defaults=not set(names) <= set(local))
    opened: dict[str, dict[str, Task]] = {}
    for name in names:
        if name not in manager.task_index:
            raise unknown_task(name, str(manager.include_path), manager.all_tasks)
        # Checked before the task is built, because that fetches the program that runs the code.
        check_safe(name, bool((manager.task_index[name].cfg or {}).get("unsafe_code")))
        changed = local.get(name)
        # The config of a task can be changed where it is listed as the member of a group.
        spec = {"group": "study", "task": [{"task": name, **changed}]} if changed else name
        try:
            opened[name] = manager.load([spec])["tasks"]
        except Exception as error:
            # Errors of the hub, of data set builders and of proxies do not name the task.
            raise LesionError(
                f"`utility.tasks`: the data of `{name}` can't be loaded "
                f"({type(error).__name__}: {error}). Tasks of lm-eval take theirs from the "
                "Hugging Face hub: check that it can be reached, or use a task of `utility.folder`"
            ) from error
        # As the harness's `simple_evaluate` does before evaluation.
        for member, task in opened[name].items():
            check_safe(member, bool(getattr(task, "UNSAFE_CODE", False)))
            if task.get_config("num_fewshot") is None:
                task.set_config(key="num_fewshot", value=0)
            task.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)
    return opened


def run_tasks(
    loaded: Loaded,
    tasks: Mapping[str, Task],
    batch_size: int,
    limit: int | None,
    chat: bool,
    what: str,
) -> list[Score]:
    """Run tasks on a loaded model; return each item's metrics, a task's main metric first.

    This calls `evaluate` in place of `simple_evaluate`, which queries the hub for the model's
    commit and runs a dozen programs to describe the machine. At most `limit` items of each task are
    run; with `chat`, each item is the user's turn in the model's chat template. `what` is the label
    of the progress bar.

    Raises:
        LesionError: a task has no metric of single items, or the model has no chat template.
    """
    if chat and loaded.chat.plain:
        raise no_template("the model")
    set_seed(DEFAULT_OTHER_SEED)
    results = evaluate(
        InMemory(loaded, batch_size, what),
        {"tasks": dict(tasks)},
        limit=limit,
        bootstrap_iters=0,
        apply_chat_template=chat,
    )
    return [
        score
        for name, task in tasks.items()
        for score in _scores(name, task, results["samples"][name])
    ]


def _scores(name: str, task: Task, samples: Sequence[Mapping[str, Any]]) -> list[Score]:
    """The scores of each item; metrics of a whole corpus, such as BLEU and F1, are left out."""
    filters = list(dict.fromkeys(sample["filter"] for sample in samples))
    order = {metric: index for index, metric in enumerate(task.aggregation())}
    entries = [
        (filters.index(sample["filter"]), order.get(metric, len(order)), metric, sample)
        for sample in samples
        for metric in sample["metrics"]
        # Numbers of numpy and Python, and booleans.
        if hasattr(sample[metric], "__float__")
    ]
    if not entries:
        raise no_item_metric(name)
    entries.sort(key=lambda row: row[:2])
    scores = []
    for filtered, _, metric, sample in entries:
        # The harness names metrics in this way; the first filter is left out of the name.
        shown = f"{metric},{sample['filter']}" if filtered else metric
        chance = _chance(task, metric, sample)
        scores.append(Score(name, str(sample["doc_id"]), shown, float(sample[metric]), chance))
    return scores


def _chance(task: Task, metric: str, sample: Mapping[str, Any]) -> float:
    """The share of an item's choices that are right; 0 unless the metric is accuracy of choices."""
    # `exact_match` of choices asks what greedy decoding would write, which is no guess among them.
    if task.OUTPUT_TYPE != "multiple_choice" or not metric.startswith("acc"):
        return 0.0
    right = len({*sample["target"]}) if isinstance(sample["target"], list) else 1
    return right / len(task.doc_to_choice(sample["doc"]))
