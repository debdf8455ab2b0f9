"""What the shipped tasks cost a variant, and what the default model scores in them:
`python benchmarks/utility.py`.

After the default study. Prints for each task the seconds of a run through the harness, of the bare
forward passes in it, and of lm-eval's own HFLM on the same tasks; then accuracy with its interval.
Seconds are of the processor, since other work on the machine must not count.
"""

import argparse
import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from lm_eval.api.task import Task
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM

from lesion.models.load import Loaded, load
from lesion.responses.harness import open_tasks, run_tasks
from lesion.responses.tasks import local_tasks, task_changes
from lesion.study import load_study, read_config
from lesion.study.job import Device
from lesion.tables.intervals import rate


@contextmanager
def counted(loaded: Loaded) -> Iterator[dict[str, float]]:
    """Count the seconds and the padded tokens of the model's forward passes."""
    spent = {"seconds": 0.0, "tokens": 0, "passes": 0}
    forward = loaded.model.forward

    @functools.wraps(forward)
    def timed(*args: Any, **how: Any) -> Any:
        started = time.process_time()
        output = forward(*args, **how)
        spent["seconds"] += time.process_time() - started
        spent["tokens"] += (args[0] if args else how["input_ids"]).numel()
        spent["passes"] += 1
        return output

    loaded.model.forward = timed
    try:
        yield spent
    finally:
        loaded.model.forward = forward


def plain(loaded: Loaded, tasks: dict[str, Task], batch_size: int) -> float:
    """Seconds that lm-eval's own model class takes, with the softmax in fp32."""
    started = time.process_time()
    model = HFLM(
        pretrained=loaded.model,
        tokenizer=loaded.tokenizer,
        batch_size=batch_size,
        softmax_dtype="float32",
    )
    evaluate(model, {"tasks": tasks}, bootstrap_iters=0)
    return time.process_time() - started


def main() -> None:
    """Print a line a task, then the sum."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=Path("config.yaml"))
    parser.add_argument("--plain", action="store_true", help="time lm-eval's HFLM as well")
    arguments = parser.parse_args()
    study = load_study(read_config(arguments.config))
    folder, size = Path(study.utility.folder), study.utility.batch_size
    model = Path(study.results) / study.study / "models" / next(iter(study.models))
    loaded = load(model, Device(dtype=study.responses.dtype, threads=study.threads))
    total = 0.0
    with TemporaryDirectory() as cache:
        own = local_tasks(folder)
        changes = {name: task_changes(path, Path(cache)) for name, path in own.items()}
        for name, tasks in open_tasks(sorted(own), folder, changes).items():
            with counted(loaded) as spent:
                started = time.process_time()
                scores = run_tasks(loaded, tasks, size, None, study.utility.chat, name)
                seconds = time.process_time() - started
            total += seconds
            main_metric = scores[0].metric
            estimate = rate([np.array([s.value for s in scores if s.metric == main_metric])], 0.95)
            print(
                f"{name:18} {seconds:5.1f} s, {spent['seconds']:5.1f} s of them in "
                f"{spent['passes']:.0f} passes, {spent['tokens']:.0f} tokens; "
                f"{main_metric} {estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"
            )
            if arguments.plain:
                print(f"{'':18} {plain(loaded, tasks, size):5.1f} s with lm-eval's own HFLM")
    print(f"{'all':18} {total:5.1f} s")


if __name__ == "__main__":
    main()
