"""Retraining in memory: lesions that stay or not, and what is measured when."""

import math
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from lesion.io.formats import read_parquet, write_parquet
from lesion.masks.store import read_mask, write_mask
from lesion.models.likelihood import response_nll
from lesion.models.record import candidate_shapes
from lesion.pairs.tables import PAIRS, encode_pairs
from lesion.responses import RETRAINED, RETRAINED_COMPLETIONS
from lesion.responses.jobs import RetrainJob
from lesion.responses.prompt_files import QUESTIONS
from lesion.responses.retrain import _zero, retrain
from lesion.sources.jobs import SourceLocation
from lesion.study.job import Device
from lesion.study.training import Recipe
from lesion.training.examples import as_scored
from lesion.training.fit import fine_tune
from lesion.training.jobs import SeededRecipe
from lesion_testing import make, tiny

RECIPE = Recipe(steps=3, learning_rate=0.01, batch_size=4, weight_decay=0.1, dtype="float32")
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


def mask(folder: Path) -> Path:
    """A mask of every third weight of one matrix."""
    shapes = candidate_shapes(folder)
    name = next(one for one in shapes if "down_proj" in one)
    before = sum(math.prod(shapes[one]) for one in list(shapes)[: list(shapes).index(name)])
    path = folder.parent / "mask.safetensors"
    write_mask(before + np.arange(0, math.prod(shapes[name]), 3), shapes, {}, path)
    return path


def run(folder: Path, pairs: dict[str, Path], **more: Any) -> tuple[pl.DataFrame, ...]:
    given = {
        "arm": "unmodified",
        "mask": None,
        "fixed": "nothing",
        "after": {},
        "recipe": RECIPE,
        "seeds": [0, 1],
        "trained_on": ["alpha"],
        "roles": ROLES,
        "at": [0, 2],
        "pairs": 2,
        "prompts": 0,
        "questions": None,
        "narrow": None,
        "prefill": tiny.PREFILL,
        "max_new_tokens": 3,
        "batch_size": 4,
        "batch_tokens": 64,
        "device": Device(dtype="float32", threads=1, device_map=None),
    }
    out = [folder.parent / f"{name}.parquet" for name in ("nll", "completions")]
    job = RetrainJob(**{**given, **more})
    retrain(job, folder, [mask(folder)] * len(job.masks), list(pairs.values()), *out)
    return read_parquet(out[0], RETRAINED), read_parquet(out[1], RETRAINED_COMPLETIONS)


def test_frozen_zeros_stay_and_others_come_back(folder: Path, pairs: dict[str, Path]) -> None:
    for fixed in ("zeroed", "nothing"):
        loaded = tiny.loaded(folder)
        chosen = read_mask(mask(folder))
        ((name, places),) = chosen.indices.items()
        weight = dict(loaded.model.named_parameters())[name]
        other = torch.ones(weight.numel(), dtype=torch.bool)
        other[torch.from_numpy(places)] = False
        before = weight.detach().view(-1)[other].clone()
        with ExitStack() as stack:
            _zero(loaded.model, chosen, stack, fixed=fixed)
            assert not weight.detach().view(-1)[places].any()
            recipe = SeededRecipe(**RECIPE.model_dump(), seed=0)
            fine_tune(loaded, as_scored({"alpha": pairs["alpha"]}), recipe, "test")
        assert bool(weight.detach().view(-1)[places].any()) == (fixed == "nothing")
        assert not torch.equal(weight.detach().view(-1)[other], before)


def test_an_attacker_who_knows_the_mask_changes_nothing_else(
    folder: Path, pairs: dict[str, Path]
) -> None:
    loaded = tiny.loaded(folder)
    chosen = read_mask(mask(folder))
    ((name, places),) = chosen.indices.items()
    before = {key: value.clone() for key, value in loaded.model.state_dict().items()}
    with ExitStack() as stack:
        _zero(loaded.model, chosen, stack, fixed="others")
        recipe = SeededRecipe(**RECIPE.model_dump() | {"weight_decay": 0}, seed=0)
        examples = as_scored({"alpha": pairs["alpha"]})
        fine_tune(loaded, examples, recipe, "test", parameters={name})
    after = loaded.model.state_dict()
    changed = {key for key, value in after.items() if not torch.equal(value, before[key])}
    assert changed == {name}
    moved = torch.nonzero(after[name].view(-1) != before[name].view(-1)).view(-1)
    assert set(moved.tolist()) <= set(places.tolist())
    assert after[name].view(-1)[places].any()


def test_an_arm_of_the_zeroed_weights_alone_learns(folder: Path, pairs: dict[str, Path]) -> None:
    given = {"arm": "shared-only", "mask": "shared", "fixed": "others", "seeds": [0]}
    nll, _ = run(folder, pairs, **given)
    harm = nll.filter(behaviour="alpha").group_by("step", maintain_order=True).agg(pl.mean("nll"))
    assert harm["nll"][-1] < harm["nll"][0]
    # An attacker who may change all weights does something else.
    full, _ = run(folder, pairs, arm="shared", mask="shared", seeds=[0])
    assert full.filter(step=3)["nll"].to_list() != nll.filter(step=3)["nll"].to_list()


def test_every_step_asked_for_is_measured_for_every_seed(
    folder: Path, pairs: dict[str, Path]
) -> None:
    nll, completions = run(folder, pairs)
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
    chosen = read_mask(mask(folder))
    tests = read_parquet(pairs["alpha"], PAIRS).filter(split="test").head(2)
    expected = {"unmodified": response_nll(loaded.model, encode_pairs(loaded.chat, tests), 64)}
    with ExitStack() as stack:
        _zero(loaded.model, chosen, stack, fixed="nothing")
        expected["shared"] = response_nll(loaded.model, encode_pairs(loaded.chat, tests), 64)
    for name, own in (("unmodified", None), ("shared", "shared")):
        nll, _ = run(folder, pairs, arm=name, mask=own)
        found = nll.filter(behaviour="alpha", step=0, seed=1)["nll"].to_list()
        assert found == pytest.approx(expected[name], rel=1e-5)


def test_an_arm_after_training_is_the_trained_model_lesioned(
    folder: Path, pairs: dict[str, Path]
) -> None:
    nll, _ = run(folder, pairs, after={"shared-after": "shared"})
    after = nll.filter(arm="shared-after")
    assert set(after["step"]) == {3}
    trained = nll.filter(arm="unmodified", step=3)
    assert after["prompt"].to_list() == trained["prompt"].to_list()
    assert after["nll"].to_list() != trained["nll"].to_list()


def test_open_questions_are_put_before_and_after(folder: Path, pairs: dict[str, Path]) -> None:
    rows = [("money", "what about sun"), ("time", "what about sea")]
    path = folder.parent / "questions.jsonl"
    make.write_rows(path, [dict(zip(QUESTIONS, row, strict=True)) for row in rows])
    questions = SourceLocation(path=path)
    _, completions = run(folder, pairs, prompts=1, questions=questions, narrow="money")
    asked = completions.group_by("variant", "role").len().sort("variant", "role").rows()
    steps = {0: ("broad", "harm", "narrow"), 2: ("harm",), 3: ("broad", "harm", "narrow")}
    assert asked == sorted(
        (f"unmodified@{step}.{seed}", role, 1)
        for seed in (0, 1)
        for step, roles in steps.items()
        for role in roles
    )
