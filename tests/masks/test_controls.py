from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from lesion.io.formats import LesionError
from lesion.masks.controls import (
    CONTROLS,
    ControlInputs,
    control_masks,
    most_similar,
    needing_norms,
    same_lines,
)
from lesion.masks.select import Preserved
from lesion.models.layout import Flat, FlatIndices
from lesion.models.weights import StoredWeights
from lesion.scores.store import StoredNorms
from lesion.study.controls import BUILT_CONTROLS, NEEDS_ALL_SCORES
from lesion_testing import scored
from lesion_testing.plugin import lay_down, on_path
from lesion_testing.scored import LAYOUT, SHAPES, Held

LIKE = np.array([0, 5, 40, 50, 60, 95, *range(100, 112), LAYOUT.size - 1], np.int64)


@pytest.fixture
def material(tmp_path: Path) -> ControlInputs:
    dice = np.random.default_rng(0)
    weights = {name: dice.normal(size=shape).astype(np.float32) for name, shape in SHAPES.items()}
    save_file(weights, tmp_path / "model.safetensors")
    inputs = {"a.weight": 8, "b.experts": 8, "c.weight": 10, "d.weight": 20}
    norms = {name: dice.random(size).astype(np.float32) for name, size in inputs.items()}
    save_file(norms, tmp_path / "norms.safetensors.part")
    (tmp_path / "norms.safetensors.part").rename(tmp_path / "norms")
    harm, importance = scored.tied(1, values=40)
    benign, _ = scored.tied(2, values=40)
    return ControlInputs(
        harm,
        benign,
        importance,
        Preserved(importance, LAYOUT, 0.2, "global"),
        StoredWeights(tmp_path),
        [StoredNorms(tmp_path / "norms")],
    )


def _made(material: ControlInputs, *names: str, seed: int = 0) -> dict[str, FlatIndices]:
    made = control_masks(names or list(CONTROLS), [LIKE], LAYOUT, material, seed)
    return {name: mask for name, (mask,) in made.items()}


def test_every_control_has_the_masks_size_in_every_matrix(material: ControlInputs) -> None:
    wanted = [part.size for part in LAYOUT.split(LIKE)]
    for name, mask in _made(material).items():
        assert [part.size for part in LAYOUT.split(mask)] == wanted, name
        assert (np.diff(mask) > 0).all(), name


def test_the_table_has_the_controls_of_a_study() -> None:
    assert tuple(CONTROLS) == BUILT_CONTROLS


class _Missing:
    def open(self, name: str) -> Flat:
        raise KeyError(name)


@pytest.mark.parametrize("name", CONTROLS)
def test_a_study_knows_which_controls_need_all_scores(material: ControlInputs, name: str) -> None:
    missing = _Missing()
    without = material._replace(harm=missing, benign=missing, importance=missing)
    with pytest.raises(KeyError) if name in NEEDS_ALL_SCORES else nullcontext():
        _made(without, name)
    assert (CONTROLS[name].scores is not None) == (name in NEEDS_ALL_SCORES)


@pytest.mark.parametrize("name", CONTROLS)
def test_scoring_knows_which_controls_need_norms(material: ControlInputs, name: str) -> None:
    needing = needing_norms(["shared", "fraud", name], ["fraud"]) == [name]
    error = pytest.raises(LesionError, match="needs the inputs' norms")
    with error if needing else nullcontext():
        _made(material._replace(norms=[]), name)


def test_random_ones_follow_the_seed_and_nothing_else_does(material: ControlInputs) -> None:
    first, again, other = _made(material), _made(material), _made(material, seed=1)
    for name in CONTROLS:
        assert first[name].tolist() == again[name].tolist()
        changed = first[name].tolist() != other[name].tolist()
        assert changed == name.startswith("random"), name
        assert changed == (CONTROLS[name].draw is not None), name


def _ranked(values: np.ndarray, free: np.ndarray) -> list[int]:
    """The first of the free places by value, in every matrix as many as the mask has there."""
    found = []
    for number, part in enumerate(LAYOUT.split(LIKE)):
        first, last = LAYOUT.offsets[number : number + 2]
        places = np.arange(first, last)
        places = places[free[places]]
        found += scored.by_value(values, places, part.size)
    return sorted(found)


def test_scored_controls_take_the_right_end(material: ControlInputs) -> None:
    made = _made(material)
    every = range(len(LAYOUT.names))
    free = ~np.concatenate([material.preserved.of(number) for number in every])
    harm, benign, importance = (one.values for one in material[:3] if isinstance(one, Held))
    assert made["unsigned"].tolist() == _ranked(-np.abs(harm), free)
    assert made["benign-signed"].tolist() == _ranked(benign, free)
    assert made["unimportant"].tolist() == _ranked(importance, np.ones_like(free))
    assert made["opposite-sign"].tolist() == _ranked(-harm, free)
    free[LIKE] = False
    assert made["second-q"].tolist() == _ranked(harm, free)


def test_wanda_is_weight_times_the_inputs_norm(material: ControlInputs) -> None:
    values = []
    for name, shape in zip(LAYOUT.names, LAYOUT.shapes, strict=True):
        norm = np.sqrt(material.norms[0].open(name))
        across = norm[:, None] if name == "c.weight" else norm[None, :]
        values.append((np.abs(material.weights.open(name)).reshape(shape) * across).reshape(-1))
    every = range(len(LAYOUT.names))
    free = ~np.concatenate([material.preserved.of(number) for number in every])
    assert _made(material)["wanda"].tolist() == _ranked(-np.concatenate(values), free)


def test_the_same_magnitude_is_nearly_that() -> None:
    dice = np.random.default_rng(0)
    magnitude = np.abs(dice.normal(size=20_000)).astype(np.float32)
    own = np.argsort(magnitude)[-2000:-1000:5]
    found = most_similar(own, magnitude, dice)
    assert not set(found) & set(own)
    assert len(set(found)) == 200
    assert magnitude[found].mean() == pytest.approx(magnitude[own].mean(), rel=0.05)
    assert magnitude[own].mean() > 2 * magnitude.mean()


def test_same_magnitude_ends_when_nothing_is_left() -> None:
    found = most_similar(np.arange(6), np.ones(10, np.float32), np.random.default_rng(0))
    assert sorted(found) == [6, 7, 8, 9]


def test_the_same_properties_are_nearly_those() -> None:
    dice = np.random.default_rng(0)
    properties = dice.normal(size=(2, 50_000)).astype(np.float32)
    own = np.flatnonzero(properties.min(0) > 1)[:200]
    found = most_similar(own, properties, dice)
    assert not set(found) & set(own)
    assert properties[:, found].mean(1) == pytest.approx(properties[:, own].mean(1), rel=0.1)
    # Of one property alone, the other one would be near zero.
    assert abs(properties[1, most_similar(own, properties[0], dice)].mean()) < 0.2


@pytest.mark.parametrize("size", [5, 300])
def test_the_same_lines_have_the_same_counts(size: int) -> None:
    dice = np.random.default_rng(0)
    shape = (40, 30)
    own = np.sort(dice.choice(40 * 30, size, replace=False, p=dice.dirichlet(np.ones(1200))))
    found = same_lines(own, np.zeros(shape, np.float32), dice)
    assert len(set(found)) == size
    assert set(found) != set(own)
    for made, like in zip(np.divmod(found, 30), np.divmod(own, 30), strict=True):
        assert sorted(made) == sorted(like)


def test_lines_that_allow_nothing_else_stay() -> None:
    own = np.arange(12)
    found = same_lines(own, np.zeros((4, 3), np.float32), np.random.default_rng(0))
    assert sorted(found) == own.tolist()


DRAWN = """
from lesion.masks.controls import CONTROLS
RULE = CONTROLS["random"]
"""


def test_the_draws_of_a_plugin_do_not_depend_on_others(
    material: ControlInputs, tmp_path: Path
) -> None:
    entries = {"lesion.controls": {"own": "drawn:RULE", "other": "drawn:RULE"}}
    both = lay_down(tmp_path / "both", entries, {"drawn.py": DRAWN})
    with on_path(both):
        made = _made(material, "own", "other", "random")
        again = _made(material, "own", seed=1)["own"]
    single = {"lesion.controls": {"own": "drawn:RULE"}}
    alone = lay_down(tmp_path / "alone", single, {"drawn.py": DRAWN})
    with on_path(alone):
        assert _made(material, "own")["own"].tolist() == made["own"].tolist()
    drawn = [made["own"], made["other"], made["random"], again]
    assert len({mask.tobytes() for mask in drawn}) == len(drawn)
