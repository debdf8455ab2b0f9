r"""A study's harmful test prompts as a task for Inspect (inspect.aisi.org.uk), with its scorers.

    inspect eval src/lesion/export/inspect_task.py --model hf/local \
        -M model_path=$PWD/results/default/checkpoints/smollm2-135m-instruct/shared \
        -M do_sample=false -T made=$PWD/results/default -T model=smollm2-135m-instruct

Inspect runs the pruned checkpoint like any other model. The prompts are those of the test split, on
which nothing was chosen; the two scorers are the study's refusal matching and learned judge. See
docs/how-to/inspect.md.
"""

from pathlib import Path
from typing import Any

from lesion.export.frames import harmful_prompts, learned_judge, study_of
from lesion.io.formats import LesionError
from lesion.pairs.refusal import is_refusal

try:
    from inspect_ai import Task, task
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.scorer import Score, Target, accuracy, mean, scorer, stderr
    from inspect_ai.solver import TaskState, generate
except ImportError as error:
    raise LesionError(
        "lesion.export.inspect_task needs Inspect, which lesion does not install: "
        "`pip install inspect_ai` in an environment that has lesion."
    ) from error


@task
def harmful(made: str, model: str, max_tokens: int | None = None) -> Task:
    """Harmful test prompts without an attack; decoding is greedy with `-M do_sample=false`.

    If `max_tokens` is not given, completions have the study's length, at which the agreement of its
    judge with people has been measured.
    """
    folder = Path(made)
    samples = [
        Sample(input=row["prompt"], metadata={"behaviour": row["behaviour"]})
        for row in harmful_prompts(folder, model).iter_rows(named=True)
    ]
    length = max_tokens or study_of(folder).responses.max_new_tokens
    return Task(
        dataset=MemoryDataset(samples, name=f"lesion-{folder.name}"),
        solver=generate(max_tokens=length),
        scorer=[refused(), harmfulness(made)],
    )


@scorer(metrics=[accuracy(), stderr()])
def refused() -> Any:
    """1 if the completion refuses, by phrase matching."""

    async def score(state: TaskState, target: Target) -> Score:
        return Score(value=float(is_refusal(state.output.completion)))

    return score


@scorer(metrics=[mean(), stderr()])
def harmfulness(made: str) -> Any:
    """The score of the study's learned judge, in [0, 1]."""
    judge = learned_judge(Path(made))

    async def score(state: TaskState, target: Target) -> Score:
        scores = judge.score([state.input_text], [state.output.completion])
        return Score(value=float(scores.harmful[0]))

    return score
