"""Rankings: the order in which a mask takes weights as it grows.

The first K weights of a ranking are its mask of K weights, so that every size can be had from one
read of the scores.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lesion.models.layout import FlatIndices, Layout
from lesion.scores.store import Source


class Ranking(NamedTuple):
    """Weights in the order in which a growing mask takes them."""

    indices: FlatIndices
    """Flat indices."""
    place: NDArray[np.float64]
    """The fraction q at which a mask takes each of them, ascending."""

    def within(self, mask: FlatIndices) -> "Ranking":
        """The ranking of the weights that `mask` contains, at their places."""
        kept = np.isin(self.indices, mask)
        return Ranking(self.indices[kept], self.place[kept])

    def first(self, count: int) -> FlatIndices:
        """The mask of the first `count` weights: sorted flat indices."""
        return np.sort(self.indices[:count])


def rank(mask: FlatIndices, scores: Source, layout: Layout, scope: str) -> Ranking:
    """The weights of the largest mask, by their signed scores.

    Args:
        mask: sorted flat indices.
        scores: the scores that the mask was selected by; the most negative come first.
        layout: the prunable parameters.
        scope: `global`, `matrix` or `row`: the set within which weights are ranked. With several
            sets, a weight's place is its rank divided by the size of its set.
    """
    values, units, sizes = [np.empty(0, np.float32)], [np.empty(0, np.int64)], [layout.size]
    for name, own in layout.by_name(mask).items():
        size = layout.sizes[name]
        values.append(scores.open(name)[0:size][own])
        if scope != "global":
            arrange, _ = layout.units(name, scope)
            lines = arrange(np.arange(size))
            unit_of = np.empty(size, np.int64)
            unit_of[lines.reshape(-1)] = np.repeat(np.arange(lines.shape[0]), lines.shape[1])
            units.append(unit_of[own] + len(sizes))
            sizes += [lines.shape[1]] * lines.shape[0]
        else:
            units.append(np.zeros(own.size, np.int64))
    unit, value = np.concatenate(units), np.concatenate(values)
    order = np.lexsort((mask, value, unit))
    in_order = unit[order]
    first = np.searchsorted(in_order, in_order, side="left")
    places = np.empty(mask.size)
    places[order] = (np.arange(mask.size) - first + 1) / np.array(sizes)[in_order]
    return _sorted(mask, places)


def vote_ranking(rankings: Sequence[Ranking], at_least: int) -> Ranking:
    """The ranking of the votes (`lesion.masks.algebra.vote`) of masks that grow together.

    A weight is taken at the fraction q at which the masks of `at_least` rankings contain it.
    """
    indices = np.concatenate([ranking.indices for ranking in rankings])
    places = np.concatenate([ranking.place for ranking in rankings])
    order = np.lexsort((places, indices))
    indices, places = indices[order], places[order]
    nth = np.arange(indices.size) - np.searchsorted(indices, indices, side="left") + 1
    taken = nth == at_least
    return _sorted(indices[taken], places[taken])


def rankings(
    largest: Mapping[str, FlatIndices], scores: Mapping[str, Source], layout: Layout, scope: str
) -> dict[str, Ranking]:
    """The ranking of every behaviour, given its largest mask and its signed scores."""
    return {name: rank(mask, scores[name], layout, scope) for name, mask in largest.items()}


def _sorted(indices: FlatIndices, places: NDArray[np.float64]) -> Ranking:
    order = np.lexsort((indices, places))
    return Ranking(indices[order], places[order])
