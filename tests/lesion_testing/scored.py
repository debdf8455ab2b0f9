"""Scores to select from: few values and many places, so that most of them are ties."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesion.models.layout import Flat, FlatIndices, Layout
from lesion.scores.shards import shard_groups, shard_names, write_index, write_shard
from lesion.scores.store import StoredScores

SHAPES = {"a.weight": (6, 8), "b.experts": (2, 3, 8), "c.weight": (10, 8), "d.weight": (4, 20)}
LAYOUT = Layout.of(SHAPES, ["c.weight"])


class Held:
    """A source of scores: flat values over a layout."""

    def __init__(self, values: NDArray[np.float32], layout: Layout = LAYOUT) -> None:
        self.values, self.layout = values.astype(np.float32), layout

    def open(self, name: str) -> Flat:
        number = self.layout.names.index(name)
        first, last = self.layout.offsets[number : number + 2]
        return self.values[first:last]


def tied(seed: int, layout: Layout = LAYOUT, values: int = 9) -> tuple[Held, Held]:
    """Signed scores and importances of few different values."""
    dice = np.random.default_rng(seed)
    scores = dice.integers(-values + 3, 3, layout.size)
    importance = dice.integers(0, values, layout.size)
    return Held(scores, layout), Held(importance, layout)


def units(layout: Layout, scope: str) -> list[FlatIndices]:
    """The places of everything that a fraction counts over."""
    if scope == "global":
        return [np.arange(layout.size)]
    found: list[FlatIndices] = []
    for name, shape, start in zip(layout.names, layout.shapes, layout.offsets, strict=False):
        places = np.arange(start, start + shape[0] * shape[1]).reshape(shape)
        if scope == "matrix":
            found.append(places.reshape(-1))
        else:
            found += list(places.T if name in layout.transposed else places)
    return found


def by_value(
    values: NDArray[np.float32], places: FlatIndices, count: int, sign: int = 1
) -> list[int]:
    """The first `count` of the places by value, then by their order in `places`."""
    order = sorted(range(places.size), key=lambda n: (sign * values[places[n]], n))
    return places[order[:count]].tolist()


def brute(scores: Held, importance: Held, p: float, q: float, rule: str, scope: str) -> list[int]:
    """A mask by sorting everything."""
    found: list[int] = []
    for places in units(scores.layout, scope):
        count = round(q * places.size)
        held = set(by_value(importance.values, places, round(p * places.size), -1))
        order = by_value(scores.values, places, places.size)
        order = [place for place in order if scores.values[place] < 0]
        if rule == "difference":
            found += [place for place in order[:count] if place not in held]
        else:
            found += [place for place in order if place not in held][:count]
    return sorted(found)


def sizes(masks: Mapping[str, FlatIndices]) -> dict[str, int]:
    """How many weights each mask has."""
    return {name: mask.size for name, mask in masks.items()}


def flat(stored: StoredScores) -> Flat:
    """All scores in the order of the shapes, float32 [candidates]."""
    sizes = {name: int(np.prod(shape)) for name, shape in stored.shapes.items()}
    return np.concatenate([stored.open(name)[0:size] for name, size in sizes.items()])


def write_scores(
    scores: Mapping[str, Any], folder: Path, kind: str, shards: int, metadata: Mapping[str, str]
) -> None:
    """Write one kind of score (float32 torch tensors) as about equal shards, and an index."""
    groups = shard_groups({name: value.numel() for name, value in scores.items()}, shards)
    for name, group in zip(shard_names(kind, shards), groups, strict=True):
        write_shard({key: scores[key].cpu() for key in group}, folder / name, metadata)
    write_index(folder, kind, groups, metadata)
