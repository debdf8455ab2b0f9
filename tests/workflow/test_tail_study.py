"""Whole studies that store only tails of the scores: the masks are those of whole scores."""

from typing import Any

import pytest

from lesion.io.formats import read_parquet
from lesion.masks.store import read_mask
from lesion_testing.workflow import MASKS, Place

pytestmark = pytest.mark.slow

TAIL = {"p": 0.2, "q": 0.1}


def _masks(place: Place) -> dict[str, dict[str, list[int]]]:
    files = sorted((place.made / "masks" / "llama").glob("*.safetensors"))
    assert {path.stem for path in files} >= set(MASKS)
    return {
        path.stem: {name: one.tolist() for name, one in read_mask(path).indices.items()}
        for path in files
    }


def _bytes_of_scores(place: Place) -> int:
    return sum(path.stat().st_size for path in place.made.glob("scores/**/*.safetensors"))


@pytest.mark.parametrize("scope", ["matrix", "row"])
def test_a_study_of_tails_takes_the_same_weights(done: Place, scope: str) -> None:
    def choose(config: dict[str, Any]) -> None:
        config["masks"] |= {"preservation_pooling": "max", "scope": scope}

    done.configure(choose)
    target = "results/tiny/masks/llama/shared.safetensors"
    assert set(done.jobs(target)) == {"sweep", "masks"}
    whole, size = _masks(done), _bytes_of_scores(done)

    done.configure(lambda config: config["scores"].update(tail=TAIL))
    assert {"scores alpha", "scores letters", "report"} <= set(done.run())
    assert _masks(done) == whole
    assert _bytes_of_scores(done) < 0.7 * size  # p takes a fifth of all weights here
    assert read_parquet(done.made / "tables" / "measurements.parquet").height
    assert not done.plan()
