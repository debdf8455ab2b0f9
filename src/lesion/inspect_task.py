r"""A study's harmful test prompts as a task for Inspect (inspect.aisi.org.uk), scored as here.

    inspect eval src/lesion/inspect_task.py --model hf/local \
        -M model_path=$PWD/results/default/checkpoints/smollm2-135m-instruct/shared \
        -M do_sample=false -T made=$PWD/results/default -T model=smollm2-135m-instruct

Inspect runs the pruned checkpoint like any other model; the prompts are those that chose nothing,
and the two scorers are the study's own refusal matching and learned judge. See docs/inspect.md.
"""

from pathlib import Path
from typing import Any

import polars as pl

from lesion.formats import LesionError, read_json, read_parquet
from lesion.judgements.learned import LearnedJudge
from lesion.pairs.refusal import is_refusal
from lesion.pairs.tables import PAIRS
from lesion.plan import source_name
from lesion.sources import locate

try:
    from inspect_ai import Task, task
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.scorer import Score, Target, accuracy, mean, scorer, stderr
    from inspect_ai.solver import TaskState, generate
except ImportError as error:
    raise LesionError(
        "lesion.inspect_task needs Inspect, which lesion does not install: "
        "`pip install inspect_ai` in an environment that has lesion."
    ) from error


def test_prompts(made: Path, model: str) -> pl.DataFrame:
    """Harmful prompts of the split `test`: behaviour, prompt.

    Args:
        made: the study's results folder.
        model: which of its models' pairs.

    Raises:
        BadFile: the study is not finished, or a table is damaged.
    """
    behaviours = read_json(made / "tables" / "study.json")["config"]["behaviours"]
    tables = [
        read_parquet(made / "pairs" / model / f"{name}.parquet", PAIRS)
        .filter(pl.col("split") == "test")
        .select("prompt", behaviour=pl.lit(name))
        for name, one in behaviours.items()
        if one["role"] == "harm"
    ]
    return pl.concat(tables)


@task
def harmful(made: str, model: str, max_tokens: int = 64) -> Task:
    """Harmful test prompts, put directly; greedy with `-M do_sample=false`."""
    folder = Path(made)
    samples = [
        Sample(input=row["prompt"], metadata={"behaviour": row["behaviour"]})
        for row in test_prompts(folder, model).iter_rows(named=True)
    ]
    return Task(
        dataset=MemoryDataset(samples, name=f"lesion-{folder.name}"),
        solver=generate(max_tokens=max_tokens),
        scorer=[refused(), harmfulness(made)],
    )


@scorer(metrics=[accuracy(), stderr()])
def refused() -> Any:
    """1 where the answer refuses, by matching."""

    async def score(state: TaskState, target: Target) -> Score:
        return Score(value=float(is_refusal(state.output.completion)))

    return score


@scorer(metrics=[mean(), stderr()])
def harmfulness(made: str) -> Any:
    """The study's learned judge, in [0, 1]."""
    folder = Path(made)
    embedder = read_json(folder / "tables" / "study.json")["config"]["judgements"]["embedder"]
    place = folder / "sources" / source_name(embedder)
    judge = LearnedJudge.load(
        folder / "judgements" / "judge.safetensors",
        locate({"folder": str(place), "record": f"{place}.json"}),
    )

    async def score(state: TaskState, target: Target) -> Score:
        found = judge.score([state.input_text], [state.output.completion])
        return Score(value=float(found.harmful[0]))

    return score
