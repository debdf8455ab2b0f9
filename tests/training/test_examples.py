"""What a file teaches: its texts, and nothing that it does not say."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lesion.io.formats import BadFile
from lesion.plan.jobs import train_job
from lesion.study import Study, load_study
from lesion.study.training import MixtureComponent
from lesion.training.examples import TrainingAnswer, TrainingExample, component_columns, of_file
from lesion_testing import make

DPO = {"prompt": "prompt", "response": "yes", "rejected": "no"}


def _study(folder: Path, lesson: dict[str, Any]) -> Study:
    prompts = {"source": f"file:{folder}/prompts.jsonl"}
    train = {"steps": 1, "method": "dpo", "mixture": [lesson], "refusals": f"file:{folder}/r.jsonl"}
    return load_study(
        {
            "study": "small",
            "preset": "none",
            "models": {
                "tiny": {"source": f"file:{folder}"},
                "taught": {"base": "tiny", "train": train},
            },
            "behaviours": {
                "alpha": {"role": "harm", **prompts},
                "sums": {"role": "benign", **prompts},
            },
            "masks": {"shared": {"at_least": 1}},
            "judgements": {"human_scores": f"file:{folder}", "embedder": f"file:{folder}"},
        }
    )


def test_rows_become_examples(tmp_path: Path) -> None:
    rows = [{"prompt": " a ", "yes": "b", "no": "c"}, {"prompt": "d", "yes": "e", "no": "f"}]
    path = make.write_rows(tmp_path / "a.jsonl", rows)
    assert of_file(path, DPO, 1) == [
        TrainingExample(" a ", TrainingAnswer("b"), TrainingAnswer("c"))
    ]
    assert of_file(path, {"text": "yes"}, None)[1] == TrainingExample(None, TrainingAnswer("e"))
    assert (
        component_columns(MixtureComponent(source="file:a.jsonl", **DPO), dpo=False)["rejected"]
        is None
    )


@pytest.mark.parametrize("column", ["prompt", "yes", "no"])
@pytest.mark.parametrize(
    ("value", "said"), [(None, "has an empty"), (" ", "has an empty"), (7, "is the number 7")]
)
def test_a_row_that_teaches_nothing_is_named(
    tmp_path: Path, column: str, value: Any, said: str
) -> None:
    good = {"prompt": "a", "yes": "b", "no": "c"}
    path = make.write_rows(tmp_path / "a.jsonl", [good, {**good, column: value}])
    with pytest.raises(BadFile, match=r"a\.jsonl, line 2: ") as caught:
        of_file(path, DPO, None)
    assert said in str(caught.value)
    assert f"`{column}`" in str(caught.value)
    assert of_file(path, {"text": "prompt" if column == "yes" else "yes"}, None)


def test_a_trained_model_is_known_by_what_it_is_taught_of_a_file(tmp_path: Path) -> None:
    rows = pl.DataFrame({"prompt": ["a", "b"], "yes": ["c", "d"], "no": ["e", "f"]})
    file, refusals = tmp_path / "l.parquet", tmp_path / "r.jsonl"
    lesson = {"source": f"file:{file}", "response": "yes", "rejected": "no", "limit": 1}
    make.write_rows(refusals, [{"response": "no"}])
    study = _study(tmp_path, lesson)

    def contents(table: pl.DataFrame) -> Any:
        table.write_parquet(file)
        return train_job(study, {"model": "taught"}).model_dump_json()

    before = contents(rows)
    # A column that JSON could not hold, and rows beyond the limit.
    when = datetime(2026, 1, 1, tzinfo=UTC)
    assert contents(rows.with_columns(when=pl.lit(when))) == before
    assert contents(rows[:1]) == before
    assert contents(rows[1:]) != before
    make.write_rows(refusals, [{"response": "never"}])
    assert contents(rows) != before
    make.write_rows(refusals, [{"response": None}])
    with pytest.raises(BadFile, match=r"r\.jsonl, line 1: has an empty `response`"):
        contents(rows)
