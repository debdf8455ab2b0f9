"""Rankings: the order in which a mask takes weights as it grows.

The first K weights of a ranking are its mask of K weights, so that every size can be had from one
read of the scores.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lesion.models.layout import Flat, FlatIndices, Layout
from lesion.scores.store import Source


class Ranking(NamedTuple):
    """Weights in the order in which a growing mask takes them."""

    indices: FlatIndices
    """Flat indices."""
    place: NDArray[np.float64]
    """The fraction q at which a mask takes each of them, ascending."""

    def within(self, mask: FlatIndices) -> "Ranking":
        """The ranking of the weights in `mask` (sorted flat indices), at their places."""
        at = np.searchsorted(mask, self.indices)
        kept = np.append(mask, -1)[at] == self.indices
        return Ranking(self.indices[kept], self.place[kept])

    def first(self, count: int) -> FlatIndices:
        """The mask of the first `count` weights: sorted flat indices."""
        return np.sort(self.indices[:count])


def rankings(
    largest: Mapping[str, FlatIndices], scores: Mapping[str, Source], layout: Layout, scope: str
) -> dict[str, Ranking]:
    """The weights of every behaviour's largest mask, by its signed scores.

    Args:
        largest: sorted flat indices by behaviour.
        scores: the scores that each mask was selected by; the most negative come first. They are
            read one parameter after another, so that what several share is read once.
        layout: the prunable parameters.
        scope: `global`, `matrix` or `row`: the set within which weights are ranked. With several
            sets, a weight's place is its rank divided by the size of its set.
    """
    values: dict[str, list[Flat]] = {name: [np.empty(0, np.float32)] for name in largest}
    units: dict[str, list[NDArray[np.int64]]] = {name: [np.empty(0, np.int64)] for name in largest}
    sizes = [layout.size]
    by_parameter = {name: layout.by_name(mask) for name, mask in largest.items()}
    for parameter in layout.names:
        size = layout.sizes[parameter]
        unit_of = np.zeros(size if scope != "global" else 0, np.int64)
        if scope != "global":
            arrange, _ = layout.units(parameter, scope)
            lines = arrange(np.arange(size))
            numbers = np.arange(len(sizes), len(sizes) + lines.shape[0])
            unit_of[lines.reshape(-1)] = np.repeat(numbers, lines.shape[1])
            sizes += [lines.shape[1]] * lines.shape[0]
        for name, own in by_parameter.items():
            if parameter in own:
                taken = own[parameter]
                values[name].append(scores[name].open(parameter)[0:size][taken])
                units[name].append(unit_of[taken] if scope != "global" else np.zeros_like(taken))
    return {
        name: _by_place(mask, np.concatenate(values[name]), np.concatenate(units[name]), sizes)
        for name, mask in largest.items()
    }


def _by_place(
    mask: FlatIndices, values: Flat, unit: NDArray[np.int64], sizes: Sequence[int]
) -> Ranking:
    """The ranking of a mask, given each weight's score, the number of its set, and the sets' sizes.

    All sorts are stable, so that of equal scores or places the lower index comes first.
    """
    if len(sizes) == 1:
        # Within a single set, places come in the order of the scores.
        order = np.argsort(values, kind="stable")
        return Ranking(mask[order], np.arange(1, mask.size + 1) / sizes[0])
    order = np.lexsort((values, unit))
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


def _sorted(indices: FlatIndices, places: NDArray[np.float64]) -> Ranking:
    """The ranking of ascending indices at these places."""
    order = np.argsort(places, kind="stable")
    return Ranking(indices[order], places[order])
