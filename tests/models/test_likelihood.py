from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lesion.masks.lesion import lesioned
from lesion.models.likelihood import response_kl, response_losses, response_nll
from lesion.models.load import Loaded
from lesion.models.prefix import accepts
from lesion.models.text import Example, batches
from lesion.pairs.tables import encode_pairs
from lesion_testing import tiny


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return tiny.loaded(tiny.checkpoint(tmp_path_factory.mktemp("likelihood")))


@pytest.fixture(scope="module")
def examples(subject: Loaded) -> list[Example]:
    found = encode_pairs(subject.chat, tiny.pairs("alpha", 7))
    # Prompts of other lengths too, so that responses of one batch begin at other places.
    return [Example(one.tokens[row:], one.start - row) for row, one in enumerate(found)]


@torch.no_grad()
def _naive(model: nn.Module, examples: Sequence[Example]) -> list[float]:
    found = []
    for tokens, start in examples:
        logits = model(input_ids=torch.tensor([tokens])).logits[0].double().log_softmax(-1)
        spent = [-float(logits[place - 1, tokens[place]]) for place in range(start, len(tokens))]
        found.append(sum(spent) / len(spent))
    return found


def test_it_is_the_mean_over_each_examples_response_tokens(
    subject: Loaded, examples: list[Example]
) -> None:
    wanted = _naive(subject.model, examples)
    assert response_nll(subject.model, examples, 10_000) == pytest.approx(wanted, rel=1e-5)
    assert max(wanted) - min(wanted) > 0.1


def test_padding_and_company_change_nothing(subject: Loaded, examples: list[Example]) -> None:
    alone = response_nll(subject.model, examples, 1)
    together = response_nll(subject.model, examples, 10_000)
    assert together == pytest.approx(alone, rel=1e-5)


def test_what_stands_in_the_padding_does_not_count(
    subject: Loaded, examples: list[Example]
) -> None:
    (batch,) = batches(examples, 10_000)
    other = batch.tokens.where(batch.mask == 1, 5)
    assert not torch.equal(other, batch.tokens)
    with torch.no_grad():
        plain = response_losses(subject.model, batch)
        filled = response_losses(subject.model, batch._replace(tokens=other))
    torch.testing.assert_close(plain, filled)


class _Old(nn.Module):
    """A model that cannot skip logits."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, input_ids: Tensor, attention_mask: Tensor, use_cache: bool) -> object:
        return self.inner(input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache)


def test_a_model_without_logits_to_keep_gives_the_same(
    subject: Loaded, examples: list[Example]
) -> None:
    assert accepts(subject.model, "logits_to_keep")
    old = _Old(subject.model)
    assert not accepts(old, "logits_to_keep")
    found = response_nll(old, examples, 200)
    assert found == pytest.approx(response_nll(subject.model, examples, 200), rel=1e-5)


def _logs(model: nn.Module, example: Example) -> Tensor:
    """Log-probabilities before each response token, float64 [tokens, vocabulary]."""
    logits = model(input_ids=torch.tensor([example.tokens])).logits[0]
    return logits.double().log_softmax(-1)[example.start - 1 : -1]  # type: ignore[no-any-return]


@torch.no_grad()
@pytest.mark.parametrize("budget", [1, 60, 10_000])
def test_kl_is_the_mean_over_each_examples_response_tokens(
    subject: Loaded, examples: list[Example], budget: int
) -> None:
    model = subject.model
    places = {"model.layers.1.mlp.down_proj.weight": np.arange(0, 2048, 3)}
    before = [_logs(model, one) for one in examples]
    pruning = lesioned(model, places)
    pruning.__enter__()
    after = [_logs(model, one) for one in examples]
    losses = _naive(model, examples)

    @contextmanager
    def unmodified() -> Iterator[None]:
        nonlocal pruning
        pruning.__exit__(None, None, None)
        yield
        pruning = lesioned(model, places)
        pruning.__enter__()

    found = response_kl(model, unmodified, examples, budget)
    pruning.__exit__(None, None, None)
    wanted = [
        float((one.exp() * (one - other)).sum(-1).mean())
        for one, other in zip(before, after, strict=True)
    ]
    assert [one.kl for one in found] == pytest.approx(wanted, rel=1e-3)
    assert [one.nll for one in found] == pytest.approx(losses, rel=1e-5)
    # The other way round it is another number.
    turned = [
        float((one.exp() * (one - other)).sum(-1).mean())
        for one, other in zip(after, before, strict=True)
    ]
    assert wanted != pytest.approx(turned, rel=1e-2)
    assert response_kl(model, nullcontext, examples, budget)[0].kl == 0
