import numpy as np
import pytest

from lesion.masks.algebra import expected_vote, intersection, vote
from lesion.models.layout import Layout

MASKS = [np.array(one, np.int64) for one in ([1, 2, 3], [2, 3, 9], [3, 9], [])]


def test_votes_count_masks() -> None:
    assert vote(MASKS, 1).tolist() == [1, 2, 3, 9]
    assert vote(MASKS, 2).tolist() == [2, 3, 9]
    assert vote(MASKS[:3], 3).tolist() == intersection(MASKS[:3]).tolist() == [3]
    assert intersection(MASKS).tolist() == []


@pytest.mark.parametrize("sizes", [(30, 30, 30), (10, 40, 60)])
def test_the_expected_vote_is_what_chance_gives(sizes: tuple[int, ...]) -> None:
    layout = Layout.of({"a": (10, 10), "b": (20, 20)})
    dice = np.random.default_rng(0)
    found: dict[int, list[int]] = {1: [], 2: [], 3: []}
    for _ in range(600):
        masks = [
            np.sort(np.concatenate([dice.choice(100, n, False), 100 + dice.choice(400, n, False)]))
            for n in sizes
        ]
        for least, each in found.items():
            each.append(vote(masks, least).size)
    for least, each in found.items():
        error = 4 * np.std(each) / np.sqrt(len(each))
        assert expected_vote(masks, least, layout) == pytest.approx(np.mean(each), abs=error)
