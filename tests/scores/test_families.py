"""Scores of every family are what plain autograd gives, however memory is spent on them."""

import warnings
from collections.abc import Mapping
from functools import cache

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from lesion.models.candidates import find_candidates
from lesion.scores.collect import CollectedScores, Wanted, score
from lesion_testing import families
from lesion_testing.families import FAMILIES, autograd_scores

pytestmark = pytest.mark.slow

BATCH = 30
"""Padded tokens: the three examples make a batch of two and one of one."""

every = pytest.mark.parametrize("family", FAMILIES)


@cache
def _model(family: str) -> PreTrainedModel:
    return families.model(family)


@cache
def _by_autograd(family: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Means over the examples of each one's scores, and of their absolute values."""
    parts = [autograd_scores(_model(family), one) for one in families.examples()]
    stacked = {name: torch.stack([part[name] for part in parts]) for name in parts[0]}
    signed = {name: one.mean(0) for name, one in stacked.items()}
    return signed, {name: one.abs().mean(0) for name, one in stacked.items()}


def _score(family: str, wanted: Wanted, batch: int = BATCH) -> CollectedScores:
    model = _model(family)
    return score(model, find_candidates(model), families.examples(), batch, wanted)


def _equal(found: Mapping[str, Tensor] | None, wanted: Mapping[str, Tensor]) -> None:
    """Equal but for rounding, which is relative to the largest score of a matrix at best."""
    assert found is not None
    assert list(found) == list(wanted)
    largest = max(float(one.abs().max()) for one in wanted.values())
    assert largest > 0
    for name, one in wanted.items():
        own = max(float(one.abs().max()), 1e-3 * largest)
        torch.testing.assert_close(
            found[name], one, rtol=1e-3, atol=1e-5 * own, msg=lambda text, n=name: f"{n}: {text}"
        )


@every
def test_scores_are_autograds(family: str) -> None:
    signed, absolute = _by_autograd(family)
    both = _score(family, Wanted(preservation=True))
    _equal(both.snip, signed)
    _equal(both.preservation, absolute)
    _equal(_score(family, Wanted()).snip, signed)


@every
@pytest.mark.parametrize("preservation", [False, True])
def test_checkpointing_and_offload_change_nothing(family: str, preservation: bool) -> None:
    signed, absolute = _by_autograd(family)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        found = _score(family, Wanted(preservation=preservation, offload=True, checkpointing=True))
    _equal(found.snip, signed)
    if preservation:
        _equal(found.preservation, absolute)


@every
def test_several_passes_give_what_one_does(family: str) -> None:
    signed, absolute = _by_autograd(family)
    model = _model(family)
    names = list(find_candidates(model))
    parts = []
    for group in (names[: len(names) // 3], names[len(names) // 3 :]):
        candidates = {name: find_candidates(model)[name] for name in group}
        wanted = Wanted(preservation=True)
        parts.append(score(model, candidates, families.examples(), BATCH, wanted))
    assert parts[0].loss == pytest.approx(parts[1].loss, rel=1e-6)
    _equal(parts[0].snip | parts[1].snip, signed)
    assert all(part.preservation is not None for part in parts)
    _equal((parts[0].preservation or {}) | (parts[1].preservation or {}), absolute)


@every
def test_a_batch_is_what_its_examples_are_one_at_a_time(family: str) -> None:
    wanted = Wanted(preservation=True, norms=True)
    batched, single = (_score(family, wanted, batch) for batch in (1000, 1))
    _equal(batched.snip, single.snip)
    assert single.preservation
    _equal(batched.preservation, single.preservation)
    if single.norms:
        _equal(batched.norms, single.norms)
    assert batched.loss == pytest.approx(single.loss, rel=1e-4)
