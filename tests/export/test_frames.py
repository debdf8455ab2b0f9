"""An invented study's tables, as CSV files and in JailbreakBench's fields."""

from pathlib import Path

import polars as pl
import pytest

from lesion.export.frames import JAILBREAKBENCH, harmful_prompts, read_tables, write_csv
from lesion.io.formats import LesionError, read_parquet, write_parquet
from lesion.responses import COMPLETIONS
from lesion.tables import TABLES
from lesion.tables.schemas import SCHEMAS
from lesion_testing.invented import write_study


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A results folder with tables, and the answers that their examples are of."""
    folder = tmp_path / "results"
    examples = read_parquet(write_study(folder / "tables") / "examples.parquet")
    for (model, variant), rows in examples.group_by("model", "variant"):
        answers = rows.select(
            *("behaviour", "role", "attack", "prompt", "completion"),
            user_turn="Please: " + pl.col("prompt"),
        )
        missing = {name: pl.lit(None, kind) for name, kind in COMPLETIONS.items()}
        missing = {name: one for name, one in missing.items() if name not in answers.columns}
        table = answers.with_columns(**missing).select(*COMPLETIONS)
        write_parquet(table, folder / "responses" / model / variant / "completions.parquet")
    for name in TABLES:
        if not (path := folder / "tables" / f"{name}.parquet").exists():
            write_parquet(pl.DataFrame(schema=SCHEMAS[name]), path)
    return folder


def test_harmful_requests_and_their_answers_are_listed(made: Path) -> None:
    tables = read_tables(made)
    harm = tables["examples"].filter(role="harm")
    rows = tables["jailbreaks"]
    assert set(tables) == {*TABLES, "jailbreaks"}
    assert tuple(rows.columns) == JAILBREAKBENCH
    assert rows.height == harm.height > 0
    assert (rows["prompt"] == "Please: " + rows["goal"]).all()
    assert rows.group_by("index").agg(pl.col("goal").n_unique())["goal"].unique().to_list() == [1]
    assert rows["jailbroken"].sum() == harm["harmful"].sum()
    prompts = harm.select("behaviour", "prompt").unique()
    assert rows["index"].n_unique() == prompts.height
    assert (
        harmful_prompts(made, "smol")
        .sort("behaviour", "prompt")
        .equals(prompts.sort("behaviour", "prompt"))
    )


def test_every_table_is_a_csv_file(made: Path, tmp_path: Path) -> None:
    files = write_csv(made, tmp_path / "out")
    assert {path.stem for path in files} == {*TABLES, "jailbreaks"}
    found = pl.read_csv(tmp_path / "out" / "measurements.csv")
    assert found.height == read_parquet(made / "tables" / "measurements.parquet").height


def test_prompts_of_an_unknown_model_are_refused(made: Path) -> None:
    with pytest.raises(LesionError, match=r"has no completions of `small`\. Give one of: smol\."):
        harmful_prompts(made, "small")
