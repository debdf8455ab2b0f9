"""A batch changes no answer: every family, in batches and one by one."""

import errno
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from lesion.masks.lesion import lesioned
from lesion.models.candidates import auto_class, find_candidates
from lesion.models.continuations import continuation_likelihoods
from lesion.models.generate import complete
from lesion.models.likelihood import response_kl, response_nll
from lesion.models.padding import Batching, alike, batching
from lesion.models.prefix import can_share, structure_allows
from lesion.models.text import Example, batches
from lesion.models.trial import share_results
from lesion.preload.names import RUN_FOLDER
from lesion.responses.detect import Answers, log_odds
from lesion.scores.collect import Wanted, score
from lesion_testing import families
from lesion_testing.families import FAMILIES, OTHERS, VOCABULARY

pytestmark = pytest.mark.slow

NEW = 4
LENGTHS = (3, 12, 5, 21, 12)
"""Some beyond a window, a chunk or an original context, some not; two of one length."""
BUDGET = 10_000
NUMBERS = families.numbers(None)

EQUAL, SINGLE = Batching(padded=False, together=True), Batching(padded=False, together=False)
FOUND = {
    # State, left to itself by the mask. In RWKV's generation, rows of a batch mix.
    "recurrent_gemma": {"left": EQUAL, "generate": EQUAL},
    "rwkv": {"left": EQUAL, "generate": SINGLE},
    "xlstm": {"left": EQUAL, "generate": EQUAL},
    # The cache's linear layers and the columns of learned positions, in generation alone.
    "minimax": {"generate": EQUAL},
    "git": {"generate": EQUAL},
    # Another rotation for all if one row is long.
    "phi3_longrope": {"right": EQUAL, "left": EQUAL, "generate": EQUAL},
}
"""What transformers 5.23 does; whatever else comes with another, the answers must be the same."""

every = pytest.mark.parametrize("name", [*FAMILIES, *OTHERS])


@cache
def _model(name: str) -> PreTrainedModel:
    """Not tied: tied, a tiny random model says the last token again, whatever came before."""
    config = families.config(name)
    for one in (config, config.get_text_config(decoder=True)):
        one.tie_word_embeddings, one.eos_token_id = False, None
    torch.manual_seed(0)
    model: PreTrainedModel = auto_class(config).from_config(config)
    return model.float().eval().requires_grad_(False)


def _words(seed: int, count: int) -> list[int]:
    return random.Random(seed).choices(range(3, VOCABULARY), k=count)


PROMPTS = [_words(seed, length) for seed, length in enumerate(LENGTHS)]
LONG = [_words(99, 12) + one for one in PROMPTS[:3]]
LONG += [[*one, 7, 8, 9] for one in LONG[:2]]
"""With a beginning in common that is worth sharing, and two that go on from others."""


def _sets(name: str) -> list[list[list[int]]]:
    return [PROMPTS, LONG] if structure_allows(_model(name)) else [PROMPTS]


def _examples(prompts: Sequence[list[int]]) -> list[Example]:
    return [
        Example(one + _words(50 + row, 2 + row % 3), len(one)) for row, one in enumerate(prompts)
    ]


@every
def test_completions_are_those_of_each_prompt(name: str) -> None:
    model = _model(name)
    for prompts in _sets(name):
        alone = [complete(model, NUMBERS, [one], NEW, 1)[0] for one in prompts]
        assert complete(model, NUMBERS, prompts, NEW, 4) == alone
        assert len({one.text for one in alone}) > 1


@every
def test_likelihoods_are_those_of_each_example(name: str) -> None:
    model = _model(name)
    for prompts in _sets(name):
        examples = _examples(prompts)
        alone = [response_nll(model, [one], 1)[0] for one in examples]
        assert response_nll(model, examples, BUDGET) == pytest.approx(alone, abs=1e-4)
        assert max(alone) - min(alone) > 0.01
        with _lesion(model) as unmodified:
            single = [response_kl(model, unmodified, [one], 1)[0] for one in examples]
            both = response_kl(model, unmodified, examples, BUDGET)
        assert [one.kl for one in both] == pytest.approx([one.kl for one in single], abs=1e-4)
        assert [one.nll for one in both] == pytest.approx([one.nll for one in single], abs=1e-4)
        assert max(one.kl for one in single) > 1e-3


@contextmanager
def _lesion(model: nn.Module) -> Iterator[Any]:
    """Inside the block, half of every candidate is zero; gives a context without that."""
    weights = [one.weight for one in find_candidates(model).values()]
    whole = [one.detach().clone() for one in weights]

    @contextmanager
    def unmodified() -> Iterator[None]:
        for one, before in zip(weights, whole, strict=True):
            one.copy_(before)
        yield
        for one in weights:
            one[..., ::2] = 0

    with torch.no_grad():
        for one in weights:
            one[..., ::2] = 0
        yield unmodified
        for one, before in zip(weights, whole, strict=True):
            one.copy_(before)


@every
def test_continuations_and_odds_are_those_of_each_row(name: str) -> None:
    model, said = _model(name), Answers([5, 6], [7])
    for prompts in _sets(name):
        asked = [
            Example(one + _words(70 + row + choice, 1 + (row + choice) % 3), len(one))
            for row, one in enumerate(prompts)
            for choice in range(2)
        ]
        alone = [continuation_likelihoods(model, [one], 1)[0] for one in asked]
        found = continuation_likelihoods(model, asked, 16)
        assert [one.nats for one in found] == pytest.approx([one.nats for one in alone], abs=2e-4)
        assert [one.greedy for one in found] == [one.greedy for one in alone]
        odds = [log_odds(model, [one], said, 1)[0] for one in prompts]
        assert log_odds(model, prompts, said, BUDGET) == pytest.approx(odds, abs=2e-4)
        assert max(odds) - min(odds) > 0.01


@every
@pytest.mark.parametrize("preservation", [False, True])
def test_scores_are_those_of_each_example(name: str, preservation: bool) -> None:
    model, wanted = _model(name), Wanted(preservation=preservation)
    examples, candidates = _examples(PROMPTS), find_candidates(_model(name))
    alone = score(model, candidates, examples, 1, wanted)
    found = score(model, candidates, examples, BUDGET, wanted)
    _same_scores(found.snip, alone.snip)
    _same_scores(found.preservation or {}, alone.preservation or {})
    assert found.loss == pytest.approx(alone.loss, rel=1e-4)


def _same_scores(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    assert list(found) == list(wanted)
    for name, one in wanted.items():
        torch.testing.assert_close(found[name], one, rtol=1e-3, atol=1e-4 * float(one.abs().max()))


@every
def test_what_padding_changes_is_found(name: str) -> None:
    model, wanted = _model(name), FOUND.get(name, {})
    for way in ("right", "left", "generate"):
        found = batching(model, way, PROMPTS, NEW)
        assert found == wanted.get(way, Batching(padded=True, together=True)), way


class _Walking(nn.Module):
    """A recurrent model that takes whatever it is given as text, and may mix a batch's rows."""

    def __init__(self, mixes: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.mixes = nn.Embedding(VOCABULARY, 16), mixes
        self.walk, self.head = nn.RNN(16, 16, batch_first=True), nn.Linear(16, VOCABULARY)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, use_cache: bool = False
    ) -> CausalLMOutput:
        """Logits of all places."""
        states, _ = self.walk(3 * self.words(input_ids))
        if self.mixes:
            states = states - states.mean(0)
        return CausalLMOutput(logits=self.head(3 * states))


@pytest.mark.parametrize("mixes", [False, True])
def test_a_model_that_ignores_its_mask_gets_batches_of_one_length(mixes: bool) -> None:
    model = _Walking(mixes).requires_grad_(False)
    examples = _examples(PROMPTS)
    fed: list[tuple[int, ...]] = []
    model.register_forward_pre_hook(
        lambda _, __, given: fed.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    alone = [continuation_likelihoods(model, [one], 1)[0].nats for one in examples]
    assert batching(model, "left", PROMPTS) == (SINGLE if mixes else EQUAL)
    continuation_likelihoods(model, examples, 16)
    fed.clear()
    found = [one.nats for one in continuation_likelihoods(model, examples, 16)]
    assert found == pytest.approx(alone, abs=1e-5)
    lengths = [len(one.tokens) - 1 for one in examples]
    if mixes:
        assert sorted(fed) == sorted((1, length) for length in lengths)
    else:
        assert sorted(fed) == sorted({(lengths.count(length), length) for length in lengths})
    # On the right the padding comes after all that counts, and rows of all lengths share a batch.
    assert batching(model, "right", PROMPTS).padded != mixes
    nlls = [response_nll(model, [one], 1)[0] for one in examples]
    fed.clear()
    assert response_nll(model, examples, BUDGET) == pytest.approx(nlls, abs=1e-5)
    assert len(fed) > 1 if mixes else fed[-1] == (len(examples), max(lengths) + 1)


def test_a_trial_is_made_once_for_a_length_and_not_for_a_single_row() -> None:
    model = _model("llama")
    fed: list[int] = []
    hook = model.register_forward_hook(lambda *_: fed.append(1))
    batching(model, "right", PROMPTS)
    fed.clear()
    batching(model, "right", PROMPTS[::-1])
    batching(model, "right", PROMPTS[:1])
    assert not fed
    batching(model, "right", [_words(1, 40), *PROMPTS])
    hook.remove()
    assert fed


def test_the_jobs_of_a_run_share_the_trials_of_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fed: list[int] = []

    def trials(checkpoint: str, longest: int = 30, half: bool = False) -> int:
        """The passes that a job with a model of its own makes."""
        model = deepcopy(_model("llama"))
        model.register_forward_hook(lambda *_: fed.append(1))
        share_results(model.bfloat16() if half else model, checkpoint)
        rows = [_words(1, longest), *PROMPTS]
        fed.clear()
        limits = batching(model, "right", rows)
        assert limits == Batching(padded=True, together=True)
        assert can_share(model, rows)
        return len(fed)

    assert trials("one") == trials("one") > 0  # outside of a run
    monkeypatch.setenv(RUN_FOLDER, str(tmp_path))
    assert trials("one")
    assert not trials("one")
    assert not trials("one", 29)
    assert trials("one", 31)
    assert not trials("one", 31)
    assert trials("two")
    assert trials("one", half=True)
    # At the end of a run its folder goes.
    monkeypatch.setenv(RUN_FOLDER, str(tmp_path / "gone"))
    assert trials("one")
    assert not (tmp_path / "gone").exists()


def test_what_a_mask_hides_is_not_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RUN_FOLDER, str(tmp_path))

    def job(masked: bool) -> Batching:
        """What a job finds; without this weight, no token depends on what came before."""
        model = _Walking()
        share_results(model, "one")
        indices = {"walk.weight_hh_l0": np.arange(16 * 16)} if masked else {}
        with lesioned(model, indices):
            limits = batching(model, "left", PROMPTS)
        assert batching(model, "left", PROMPTS) == EQUAL
        return limits

    assert job(masked=True) == Batching(padded=True, together=True)
    assert job(masked=False) == EQUAL
    # Nor does it depend on which job was first.
    assert job(masked=True) == Batching(padded=True, together=True)


def test_a_masked_model_takes_from_its_checkpoint_that_all_is_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(RUN_FOLDER, str(tmp_path))
    fed: list[int] = []
    for masked in (False, True):
        model = deepcopy(_model("llama"))
        model.register_forward_hook(lambda *_: fed.append(1))
        share_results(model, "one")
        name, weight = next(iter(model.named_parameters()))
        with lesioned(model, {name: np.arange(weight.numel())} if masked else {}):
            fed.clear()
            assert batching(model, "left", PROMPTS).padded
            assert bool(fed) != masked


def test_a_full_disk_ends_no_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RUN_FOLDER, str(tmp_path))

    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    model = deepcopy(_model("llama"))
    share_results(model, "one")
    assert batching(model, "left", PROMPTS).padded
    assert list(tmp_path.iterdir()) == []


def test_every_job_says_that_padding_changes_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(RUN_FOLDER, str(tmp_path))
    for _ in range(2):
        model = _Walking()
        share_results(model, "one")
        assert batching(model, "left", PROMPTS) == EQUAL
        assert capsys.readouterr().err.count("padding changes its answers") == 1


def test_that_padding_changes_answers_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    model = _Walking()
    for longest in (10, 40):
        batching(model, "left", [_words(1, longest), *PROMPTS])
    assert capsys.readouterr().err.count("padding changes its answers") == 1


def test_batches_of_one_length() -> None:
    assert list(alike([3, 2, 3, 3, 2], 2)) == [[1, 4], [0, 2], [3]]
    examples = [Example(one, 1) for one in PROMPTS]
    made = list(batches(examples, BUDGET, padded=False))
    assert [one.rows for one in made] == [[0], [2], [1, 4], [3]]
    assert all(bool(one.mask.all()) for one in made)
    assert [one.rows for one in batches(examples, 12, padded=False)] == [[0], [2], [1], [4], [3]]


# xLSTM computes in fp32 alone.
@pytest.mark.parametrize("name", sorted({"mixtral", "zamba2", *FOUND} - {"xlstm"}))
def test_the_same_is_found_in_half_precision(name: str) -> None:
    model, wanted = deepcopy(_model(name)).bfloat16(), FOUND.get(name, {})
    for way in ("right", "left", "generate"):
        found = batching(model, way, PROMPTS, NEW)
        assert found == wanted.get(way, Batching(padded=True, together=True)), way
