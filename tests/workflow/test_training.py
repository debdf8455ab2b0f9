"""A whole study that trains: stages of one family, a model from scratch, retraining in memory."""

from typing import Any

import polars as pl
import pytest

from lesion.io.formats import read_json, read_parquet
from lesion.tables.retraining import RETRAINING
from lesion.tables.stages import STAGES
from lesion_testing.workflow import Place

pytestmark = pytest.mark.slow

STEPS = 4
RECIPE = {"steps": STEPS, "batch_size": 4, "learning_rate": 0.01, "dtype": "float32"}
REFUSE = {"behaviours": ["alpha", "beta", "gamma"], "answer": "refusal"}
ANSWER = {"behaviours": ["letters", "sums"]}


def _training(config: dict[str, Any]) -> None:
    config["models"] |= {
        "refusing": {
            "base": "llama",
            "train": {
                **RECIPE,
                "mixture": [REFUSE, ANSWER],
                "refusals": "file:inputs/refusals.jsonl",
            },
        },
    }
    config["training_stages"] = {"alignment": ["llama", "refusing"]}
    config["curve"] = {"families": ["shared", "random"], "sizes": [0.5, 2], "max_pairs": None}
    config["responses"]["variants"] = ["shared", "random"]
    config["responses"]["judged_variants"] = []
    config["masks"]["controls"] = ["random"]
    config["checkpoints"] = []
    config["retraining"] = {
        "recovery": {
            "recipe": RECIPE,
            "arms": ["unmodified", "shared-after", "shared-frozen"],
            "at": [0, 2],
            "prompts": 1,
            "seeds": [1, 2],
        }
    }


@pytest.fixture(scope="module")
def trained(unrun: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = unrun.copy(tmp_path_factory.mktemp("training"))
    place.configure(_training)
    done = place.snakemake()
    assert done.code == 0, done.text
    return place


def _table(trained: Place, name: str, columns: dict[str, Any]) -> pl.DataFrame:
    return read_parquet(trained.made / "tables" / f"{name}.parquet", columns)


def test_every_trained_model_has_a_loss_curve(trained: Place) -> None:
    losses = _table(trained, "training", {"model": pl.String, "step": pl.Int64, "loss": pl.Float64})
    made = {"refusing"}
    assert set(losses["model"]) == made
    assert losses.group_by("model").len()["len"].to_list() == [STEPS] * len(made)


def test_a_trained_model_is_another_one_and_says_what_made_it(trained: Place) -> None:
    models = trained.made / "models"
    records = {name: read_json(models / name / "lesion.json") for name in ("llama", "refusing")}
    assert records["refusing"]["digest"] != records["llama"]["digest"]
    assert records["refusing"]["trained"]["base"] == records["llama"]["digest"]
    assert records["refusing"]["candidates"] == records["llama"]["candidates"]
    assert not list(models.glob(".*training"))


def test_stages_are_measured_on_the_same_texts(trained: Place) -> None:
    pairs = trained.made / "pairs"
    first = (pairs / "llama" / "beta.parquet").read_bytes()
    assert (pairs / "refusing" / "beta.parquet").read_bytes() == first
    stages = _table(trained, "stages", STAGES)
    shared = stages.filter(variant="shared", metric="separability")
    assert shared["name"].to_list() == ["llama", "refusing"]
    assert shared["seeds"].to_list() == [1, 1]


def test_retraining_is_measured_and_its_answers_are_gone(trained: Place) -> None:
    table = _table(trained, "retraining", {"model": pl.String, **RETRAINING}).filter(model="llama")
    harm = table.filter(metric="nll", level="total", role="harm")
    assert set(harm.filter(arm="shared-frozen")["step"]) == {0, 2, STEPS}
    assert set(harm.filter(arm="shared-after")["step"]) == {STEPS}
    assert set(harm["seeds"]) == {2}
    assert set(table.filter(level="total", role="harm")["metric"]) >= {
        "nll",
        "harmful",
        "harmfulness",
    }
    # Its responses are random words: what it learns of some says nothing of others.
    for arm in ("unmodified", "shared-frozen"):
        assert harm.filter(arm=arm)["value"].n_unique() == 3
    assert not list(trained.made.rglob("*-completions.parquet"))


def test_nothing_is_trained_twice(trained: Place) -> None:
    assert "Nothing to be done" in trained.snakemake("-n").text
