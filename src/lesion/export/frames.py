"""A study's tables for other tools: CSV files, pandas frames, JailbreakBench's fields.

`made` is the study's results folder, such as `results/default`.
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


def read_tables(made: Path) -> dict[str, pl.DataFrame]:
    """Every table of a finished study, and its completions of harmful prompts as `jailbreaks`.

    Raises:
        BadFile: a table is missing or damaged.
    """
    tables = {name: read_parquet(made / "tables" / f"{name}.parquet") for name in TABLES}
    return {**tables, "jailbreaks": jailbreaks(made, tables["examples"])}


def pandas_tables(made: Path) -> "dict[str, pd.DataFrame]":
    """The tables of `read_tables` as pandas data frames, for notebooks.

    Raises:
        BadFile: a table is missing or damaged.
    """
    return {name: table.to_pandas() for name, table in read_tables(made).items()}


def asked_prompts(made: Path, model: str) -> pl.DataFrame:
    """The harmful test prompts of a study, with their behaviour.

    Raises:
        BadFile: the table of examples is missing or damaged.
        LesionError: the study has no completions of this model.
    """
    examples = read_parquet(made / "tables" / "examples.parquet")
    found = examples.filter(role="harm", model=model).select("behaviour", "prompt")
    if found.is_empty():
        known = ", ".join(examples["model"].unique().sort())
        raise LesionError(f"{made}: has no completions of `{model}`. Give one of: {known}.")
    return found.unique(maintain_order=True)


def study_of(made: Path) -> Study:
    """The study that wrote a results folder.

    Raises:
        BadFile: the study is not finished.
    """
    return load_study(read_json(made / "tables" / "study.json")["config"])


def learned_judge(made: Path) -> "LearnedJudge":
    """The learned judge that a study has trained.

    Raises:
        BadFile: the judge is missing or damaged.
        LesionError: the embedder is no longer where the study had it.
    """
    from lesion.judgements.embed import Embedder
    from lesion.judgements.learned import LearnedJudge

    study = study_of(made)
    place = source_place(study, made, study.judgements.embedder, "judgements.embedder")
    return LearnedJudge.load(made / "judgements" / "judge.safetensors", Embedder(locate(place)))


def jailbreaks(made: Path, examples: pl.DataFrame) -> pl.DataFrame:
    """Completions of harmful prompts, one row for each, with the fields of JAILBREAKBENCH."""
    place = ["model", "variant", "behaviour", "attack", "prompt"]
    found = examples.filter(role="harm")
    asked = [
        read_parquet(
            made / "responses" / model / variant / "completions.parquet", COMPLETIONS
        ).with_columns(model=pl.lit(model), variant=pl.lit(variant))
        for model, variant in found.select("model", "variant").unique(maintain_order=True).rows()
    ]
    if not asked:
        return pl.DataFrame(schema=dict.fromkeys(JAILBREAKBENCH, pl.String))
    goals = found.select("behaviour", "prompt").unique(maintain_order=True).with_row_index("index")
    return (
        found.join(pl.concat(asked).select(*place, "asked"), on=place, how="left")
        .join(goals, on=["behaviour", "prompt"], how="left")
        .rename({"prompt": "goal", "asked": "prompt", "completion": "response"})
        .with_columns(behavior="behaviour", category="behaviour", jailbroken="harmful")
        .sort("model", "variant", "attack", "index")
        .select(JAILBREAKBENCH)
    )


def write_csv(made: Path, out: Path) -> list[Path]:
    """Write every table as a CSV file into `out`, and return the files.

    Raises:
        BadFile: a table is missing or damaged.
        LesionError: `out` can't be written.
    """
    files = []
    for name, table in read_tables(made).items():
        path = out / f"{name}.csv"
        with atomic(path) as part:
            table.write_csv(part)
        files.append(path)
    return files
