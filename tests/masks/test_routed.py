"""Weights that harm was routed to in training carry it, and masks find them again.

benchmarks/routed.py says how they are trained, and measures more worlds, rules and seeds.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from lesion_testing import ROOT

pytestmark = pytest.mark.slow


class Measured(NamedTuple):
    ablated: dict[str, float]
    recall: dict[str, float]
    """Of masks as large as the set."""


@pytest.fixture(scope="module")
def routed() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        import routed

        yield routed
        for name in ("routed", "routed_world"):
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def measured(routed: Any, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    torch.set_num_threads(1)
    language = routed.Language(0)
    base = routed.base_model(language, 0)
    known = routed.routed("shared", language, base, 0)
    scores = routed.Scores(known, Path(tmp_path_factory.mktemp("scores")))
    recalls = routed.recalls(known, scores, 0)
    return Measured(
        routed.ablated(known, base),
        {rule: float(values[1]) for rule, values in recalls.items()},
    )


def test_the_routed_weights_carry_the_harm_and_nothing_else(measured: Measured) -> None:
    nll = measured.ablated
    print(f"\n{nll}")
    assert nll["weights"] <= 96
    assert nll["harm without"] - nll["harm"] > 1
    assert nll["harm left"] < 0.1
    assert nll["matched without"] == pytest.approx(nll["matched"], abs=0.1)
    assert nll["benign without"] == pytest.approx(nll["benign"], abs=0.02)
    # Harm and refusal answer the same prompts, so that without the former the latter is likelier.
    assert nll["refusal without"] < nll["refusal"]


def test_masks_find_them_and_the_controls_do_not(
    measured: Measured, record_property: Callable[[str, object], None]
) -> None:
    recall = measured.recall
    record_property("recall of routed weights", recall)
    print("\n" + ", ".join(f"{name} {value:.2f}" for name, value in recall.items()))
    # Another processor's rounding trains other weights.
    assert recall["contrast"] > 0.7
    assert recall["plain"] > 0.7
    signless = {"wanda", "random", "random-magnitude", "random-importance", "unimportant"}
    for control in (*signless, "opposite-sign", "second-q", "matched", "refusal", "benign-signed"):
        assert recall[control] < 0.5, control
