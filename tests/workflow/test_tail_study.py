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


TARGET = "results/tiny/masks/llama/shared.safetensors"


# The stages after the masks are the same for any scope, so that one study goes on to its end.
@pytest.mark.parametrize(("scope", "end"), [("matrix", "report"), ("row", "select_masks")])
def test_a_study_of_tails_takes_the_same_weights(done: Place, scope: str, end: str) -> None:
    def choose(config: dict[str, Any]) -> None:
        config["masks"] |= {"preservation_pooling": "max", "scope": scope}
        config["scores"]["tail"] = None  # `auto` would truncate them as soon as it is exact

    done.configure(choose)
    assert set(done.jobs(TARGET)) == {"sweep", "choose", "select_masks"}
    whole, size = _masks(done), _bytes_of_scores(done)

    done.configure(lambda config: config["scores"].update(tail=TAIL))
    targets = [] if end == "report" else [TARGET]
    assert {"signed_scores alpha", "signed_scores letters", end} <= set(done.jobs(*targets))
    assert _masks(done) == whole
    assert _bytes_of_scores(done) < 0.7 * size  # p takes a fifth of all weights here
    assert not done.jobs("-n", *targets)
    if end == "report":
        assert read_parquet(done.made / "tables" / "measurements.parquet").height
