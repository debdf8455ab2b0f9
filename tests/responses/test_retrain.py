"""Retraining in memory: lesions that stay or not, and what is measured when."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from lesion.io.formats import read_parquet, write_parquet
from lesion.masks.store import Mask
from lesion.models.likelihood import response_nll
from lesion.models.load import Loaded
from lesion.pairs.tables import PAIRS, encode_pairs
from lesion.responses import RETRAINED, RETRAINED_COMPLETIONS
from lesion.responses.questions import QUESTIONS
from lesion.responses.retrain import Arm, Asked, Machine, _zero, retrain
from lesion.training.fit import fine_tune
from lesion.training.jobs import SeededRecipe
from lesion.training.lessons import as_scored
from lesion_testing import tiny

RECIPE = SeededRecipe(
    steps=3, learning_rate=0.01, batch_size=4, weight_decay=0.1, dtype="float32", seed=0
)
ROLES = {"alpha": "harm", "letters": "benign"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny.checkpoint(tmp_path / "checkpoint")


@pytest.fixture
def pairs(tmp_path: Path) -> dict[str, Path]:
    found = {}
    for name in ROLES:
        parts = [tiny.pairs(name, 8, split) for split in ("train", "test")]
        found[name] = tmp_path / f"{name}.parquet"
        write_parquet(pl.concat(parts), found[name])
    return found


def mask(loaded: Loaded) -> Mask:
    """Every third weight of one matrix."""
    name, weight = next(
        (name, one) for name, one in loaded.model.named_parameters() if "down_proj" in name
    )
    places = np.arange(0, weight.numel(), 3)
    return Mask({name: places}, {name: tuple(weight.shape)}, {})


def run(folder: Path, pairs: dict[str, Path], arm: Arm, **more: Any) -> tuple[pl.DataFrame, ...]:
    given = {
        "at": [0, 2],
        "pairs": 2,
        "prompts": 0,
        "questions": None,
        "narrow": None,
        "prefill": tiny.PREFILL,
        "max_new_tokens": 3,
        "batch_size": 4,
        "batch_tokens": 64,
    }
    out = [folder.parent / f"{name}.parquet" for name in ("nll", "completions")]
    asked = Asked(**{**given, **more})
    recipes = [RECIPE, RECIPE.model_copy(update={"seed": 1})]
    retrain(folder, pairs, ROLES, ["alpha"], arm, recipes, asked, Machine(1, None), *out)
    return read_parquet(out[0], RETRAINED), read_parquet(out[1], RETRAINED_COMPLETIONS)


def test_frozen_zeros_stay_and_others_come_back(folder: Path, pairs: dict[str, Path]) -> None:
    for frozen in (True, False):
        loaded = tiny.loaded(folder)
        chosen = mask(loaded)
        ((name, places),) = chosen.indices.items()
        weight = dict(loaded.model.named_parameters())[name]
        other = torch.ones(weight.numel(), dtype=torch.bool)
        other[torch.from_numpy(places)] = False
        before = weight.detach().view(-1)[other].clone()
        with ExitStack() as stack:
            _zero(loaded.model, chosen, stack, frozen=frozen)
            assert not weight.detach().view(-1)[places].any()
            fine_tune(loaded, as_scored({"alpha": pairs["alpha"]}), RECIPE, "test")
        assert bool(weight.detach().view(-1)[places].any()) != frozen
        assert not torch.equal(weight.detach().view(-1)[other], before)


def test_every_step_asked_for_is_measured_for_every_seed(
    folder: Path, pairs: dict[str, Path]
) -> None:
    nll, completions = run(folder, pairs, Arm("intact", None, False, {}))
    assert completions.is_empty()
    counted = (
        nll.group_by("seed", "step", "examples", "behaviour", "role")
        .len()
        .sort("seed", "step", "behaviour")
    )
    assert counted.rows() == [
        (seed, step, 4 * step, name, ROLES[name], 2)
        for seed in (0, 1)
        for step in (0, 2, 3)
        for name in ("alpha", "letters")
    ]
    harm = (
        nll.filter(behaviour="alpha")
        .group_by("step", maintain_order=True)
        .agg(pl.col("nll").mean())
    )
    assert harm["nll"][-1] < harm["nll"][0]


def test_step_0_is_the_model_and_its_lesion(folder: Path, pairs: dict[str, Path]) -> None:
    loaded = tiny.loaded(folder)
    chosen = mask(loaded)
    tests = read_parquet(pairs["alpha"], PAIRS).filter(split="test").head(2)
    expected = {"intact": response_nll(loaded.model, encode_pairs(loaded.chat, tests), 64)}
    with ExitStack() as stack:
        _zero(loaded.model, chosen, stack, frozen=False)
        expected["shared"] = response_nll(loaded.model, encode_pairs(loaded.chat, tests), 64)
    for name, own in (("intact", None), ("shared", chosen)):
        nll, _ = run(folder, pairs, Arm(name, own, False, {}))
        found = nll.filter(behaviour="alpha", step=0, seed=1)["nll"].to_list()
        assert found == pytest.approx(expected[name], rel=1e-5)


def test_an_arm_after_training_is_the_trained_model_lesioned(
    folder: Path, pairs: dict[str, Path]
) -> None:
    chosen = mask(tiny.loaded(folder))
    nll, _ = run(folder, pairs, Arm("intact", None, False, {"shared-after": chosen}))
    after = nll.filter(arm="shared-after")
    assert set(after["step"]) == {3}
    trained = nll.filter(arm="intact", step=3)
    assert after["prompt"].to_list() == trained["prompt"].to_list()
    assert after["nll"].to_list() != trained["nll"].to_list()


def test_open_questions_are_put_before_and_after(folder: Path, pairs: dict[str, Path]) -> None:
    rows = [("money", "what about sun"), ("time", "what about sea")]
    questions = pl.DataFrame(rows, schema=QUESTIONS, orient="row")
    _, completions = run(
        folder,
        pairs,
        Arm("intact", None, False, {}),
        prompts=1,
        questions=questions,
        narrow="money",
    )
    asked = completions.group_by("variant", "role").len().sort("variant", "role").rows()
    steps = {0: ("broad", "harm", "narrow"), 2: ("harm",), 3: ("broad", "harm", "narrow")}
    assert asked == sorted(
        (f"intact@{step}.{seed}", role, 1)
        for seed in (0, 1)
        for step, roles in steps.items()
        for role in roles
    )
