"""A study's tables for other tools: CSV files, pandas frames, JailbreakBench's fields.

`results` is the study's results folder, such as `results/default`.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from lesion.io.formats import LesionError, atomic, read_json, read_parquet
from lesion.plan.places import source_place
from lesion.responses import COMPLETIONS
from lesion.sources.fetch import locate
from lesion.study import Study, load_study
from lesion.tables import TABLES

if TYPE_CHECKING:
    import pandas as pd

    from lesion.judgements.learned import LearnedJudge

JAILBREAKBENCH = (
    *("index", "goal", "behavior", "category", "prompt", "response", "jailbroken"),
    *("model", "variant", "attack", "harmfulness", "refused"),
)
"""The fields of JailbreakBench's attack artifacts (its README, "attack artifacts"), then our own.

`goal` is the request, `prompt` the request under the attack, and `category` and `behavior` are the
harm type.
"""


def read_tables(results: Path) -> dict[str, pl.DataFrame]:
    """Every table of a finished study, and its completions of harmful prompts as `jailbreaks`.

    Raises:
        BadFile: a table is missing or damaged.
    """
    tables = {name: read_parquet(results / "tables" / f"{name}.parquet") for name in TABLES}
    return {**tables, "jailbreaks": jailbreaks(results, tables["examples"])}


def pandas_tables(results: Path) -> "dict[str, pd.DataFrame]":
    """The tables of `read_tables` as pandas data frames, for notebooks.

    Raises:
        BadFile: a table is missing or damaged.
    """
    return {name: table.to_pandas() for name, table in read_tables(results).items()}


def harmful_prompts(results: Path, model: str) -> pl.DataFrame:
    """The harmful test prompts of a study, with their behaviour.

    Raises:
        BadFile: the table of examples is missing or damaged.
        LesionError: the study has no completions of this model.
    """
    examples = read_parquet(results / "tables" / "examples.parquet")
    prompts = examples.filter(role="harm", model=model).select("behaviour", "prompt")
    if prompts.is_empty():
        known = ", ".join(examples["model"].unique().sort())
        raise LesionError(f"{results}: has no completions of `{model}`. Give one of: {known}.")
    return prompts.unique(maintain_order=True)


def study_of(results: Path) -> Study:
    """The study that wrote a results folder.

    Raises:
        BadFile: the study is not finished.
    """
    return load_study(read_json(results / "tables" / "study.json")["config"])


def learned_judge(results: Path) -> "LearnedJudge":
    """The learned judge that a study has trained.

    Raises:
        BadFile: the judge is missing or damaged.
        LesionError: the embedder is no longer where the study had it.
    """
    from lesion.judgements.embed import Embedder
    from lesion.judgements.learned import LearnedJudge

    study = study_of(results)
    location = source_place(study, results, study.judgements.embedder, "judgements.embedder")
    return LearnedJudge.load(
        results / "judgements" / "judge.safetensors", Embedder(locate(location))
    )


def jailbreaks(results: Path, examples: pl.DataFrame) -> pl.DataFrame:
    """Completions of harmful prompts, one row for each, with the fields of JAILBREAKBENCH."""
    keys = ["model", "variant", "behaviour", "attack", "prompt"]
    harm = examples.filter(role="harm")
    completions = [
        read_parquet(
            results / "responses" / model / variant / "completions.parquet", COMPLETIONS
        ).with_columns(model=pl.lit(model), variant=pl.lit(variant))
        for model, variant in harm.select("model", "variant").unique(maintain_order=True).rows()
    ]
    if not completions:
        return pl.DataFrame(schema=dict.fromkeys(JAILBREAKBENCH, pl.String))
    goals = harm.select("behaviour", "prompt").unique(maintain_order=True).with_row_index("index")
    return (
        harm.join(pl.concat(completions).select(*keys, "user_turn"), on=keys, how="left")
        .join(goals, on=["behaviour", "prompt"], how="left")
        .rename({"prompt": "goal", "user_turn": "prompt", "completion": "response"})
        .with_columns(behavior="behaviour", category="behaviour", jailbroken="harmful")
        .sort("model", "variant", "attack", "index")
        .select(JAILBREAKBENCH)
    )


def write_csv(results: Path, out: Path) -> list[Path]:
    """Write every table as a CSV file into `out`, and return the files.

    Raises:
        BadFile: a table is missing or damaged.
        LesionError: `out` can't be written.
    """
    files = []
    for name, table in read_tables(results).items():
        path = out / f"{name}.csv"
        with atomic(path) as part:
            table.write_csv(part)
        files.append(path)
    return files
