import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

import lesion.scores.collect
from lesion.io.formats import LesionError
from lesion.models.candidates import Candidate, find_candidates
from lesion.models.load import Loaded
from lesion.models.text import Example
from lesion.pairs.tables import encode_pairs
from lesion.scores.collect import CollectedScores, Wanted, score
from lesion_testing import families, tiny
from lesion_testing.families import autograd_scores


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return tiny.loaded(tiny.checkpoint(tmp_path_factory.mktemp("collect")))


@pytest.fixture(scope="module")
def examples(subject: Loaded) -> list[Example]:
    found = encode_pairs(subject.chat, tiny.pairs("gamma", 6))
    return [Example(one.tokens[row:], one.start - row) for row, one in enumerate(found)]


@pytest.fixture(scope="module")
def gpt2() -> nn.Module:
    torch.manual_seed(0)
    config = GPT2Config(
        n_layer=2,
        n_embd=8,
        n_head=2,
        vocab_size=200,
        n_positions=64,
        initializer_range=0.3,
        eos_token_id=1,
        bos_token_id=1,
    )
    return GPT2LMHeadModel(config).eval()


def _score(
    model: nn.Module,
    examples: Sequence[Example],
    budget: int = 60,
    preservation: bool = False,
    norms: bool = False,
) -> CollectedScores:
    return score(model, find_candidates(model), examples, budget, Wanted(preservation, norms))


def _by_autograd(model: nn.Module, examples: Sequence[Example]) -> list[dict[str, Tensor]]:
    """W * dL(x)/dW of every example, each by a pass of its own."""
    return [autograd_scores(model, one) for one in examples]


def _close(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert list(found) == list(wanted)
    for name, one in wanted.items():
        torch.testing.assert_close(found[name], one, rtol=1e-3, atol=1e-6, msg=name)


def _mean(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([part[name] for part in parts]).mean(0) for name in parts[0]}


@pytest.mark.parametrize("preservation", [False, True])
def test_signed_scores_are_weight_times_gradient(
    subject: Loaded, examples: list[Example], preservation: bool
) -> None:
    found = _score(subject.model, examples, preservation=preservation)
    _close(found.snip, _mean(_by_autograd(subject.model, examples)))
    assert any(bool((one < 0).any()) for one in found.snip.values())
    assert found.examples == len(examples)
    assert (found.preservation is not None) == preservation


def test_preservation_is_the_mean_of_each_examples_absolute_score(
    subject: Loaded, examples: list[Example]
) -> None:
    found = _score(subject.model, examples, preservation=True).preservation
    assert found is not None
    parts = _by_autograd(subject.model, examples)
    _close(found, _mean([{name: one.abs() for name, one in part.items()} for part in parts]))


def test_conv1d_scores_lie_as_its_weight_does(gpt2: nn.Module, examples: list[Example]) -> None:
    parts = _by_autograd(gpt2, examples)
    found = _score(gpt2, examples, preservation=True)
    _close(found.snip, _mean(parts))
    assert found.preservation is not None
    _close(
        found.preservation,
        _mean([{name: one.abs() for name, one in part.items()} for part in parts]),
    )
    assert found.snip["transformer.h.0.mlp.c_fc.weight"].shape == (8, 32)


@torch.no_grad()
def _loss(model: nn.Module, examples: Sequence[Example]) -> float:
    """The mean over examples of the mean NLL of the response, in the model's own precision."""
    total = 0.0
    for tokens, start in examples:
        logits = model(input_ids=torch.tensor([tokens])).logits[0].log_softmax(-1)
        places = torch.arange(start - 1, len(tokens) - 1)
        total -= float(logits[places, torch.tensor(tokens[start:])].mean())
    return total / len(examples)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_shrinking_a_weight_changes_the_loss_by_minus_its_score(
    subject: Loaded, gpt2: nn.Module, examples: list[Example], kind: str
) -> None:
    model = copy.deepcopy(subject.model if kind == "llama" else gpt2).double()
    scores = _score(model, examples).snip
    candidates = find_candidates(model)
    epsilon = 1e-2
    signs = set()
    for name in list(candidates)[::3]:
        weight = candidates[name].weight
        flat = scores[name].flatten()
        for place in (int(flat.argmin()), int(flat.argmax())):
            cell = divmod(place, weight.shape[1])
            losses = []
            for factor in (1 - epsilon, 1 + epsilon):
                with torch.no_grad():
                    before = weight[cell].item()
                    weight[cell] = before * factor
                    losses.append(_loss(model, examples))
                    weight[cell] = before
            added = (losses[0] - losses[1]) / 2
            wanted = -epsilon * flat[place].item()
            assert added == pytest.approx(wanted, rel=0.02, abs=1e-6), name
            assert abs(wanted) > 1e-5
            signs.add(wanted > 0)
    assert signs == {True, False}


def test_a_bf16_model_is_summed_in_fp32(subject: Loaded, examples: list[Example]) -> None:
    model = copy.deepcopy(subject.model).to(torch.bfloat16)
    once = _score(model, examples[:1])
    often = _score(model, examples[:1] * 64, budget=1)
    for name, one in often.snip.items():
        assert one.dtype == torch.float32
        # Sums of 64 equal bf16 numbers are exact in fp32, and far from it in bf16.
        assert torch.equal(one, once.snip[name])


def test_the_loss_is_the_mean_over_examples(subject: Loaded, examples: list[Example]) -> None:
    each = [_score(subject.model, [one]).loss for one in examples]
    assert _score(subject.model, examples).loss == pytest.approx(sum(each) / len(each), rel=1e-5)


def test_a_score_that_is_not_finite_names_its_parameter(
    subject: Loaded, examples: list[Example]
) -> None:
    model = copy.deepcopy(subject.model)
    with torch.no_grad():
        model.model.norm.weight.fill_(float("inf"))
    with pytest.raises(LesionError, match=r"^model\.layers\.\S+\.weight: its score is not finite"):
        _score(model, examples)


def test_nothing_to_score_is_an_error(subject: Loaded) -> None:
    with pytest.raises(LesionError, match="no examples to score"):
        _score(subject.model, [])


def _inputs_squared(
    model: nn.Module, candidates: Mapping[str, Candidate], examples: Sequence[Example]
) -> dict[str, Tensor]:
    """Sums of squares of what plain hooks see, an example at a time and so without padding."""
    found = {name: torch.zeros(()) for name in candidates}

    def note(name: str, _: nn.Module, inputs: tuple[Tensor, ...], __: object) -> None:
        found[name] = found[name] + inputs[0].flatten(0, -2).square().sum(0)

    handles = [
        one.module.register_forward_hook(partial(note, name)) for name, one in candidates.items()
    ]
    with torch.no_grad():
        for tokens, _ in examples:
            model(input_ids=torch.tensor([tokens]))
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("kind", ["llama", "gpt2", "opt"])
@pytest.mark.parametrize("preservation", [False, True])
def test_norms_are_sums_of_squares_of_the_inputs_without_padding(
    subject: Loaded, gpt2: nn.Module, examples: list[Example], kind: str, preservation: bool
) -> None:
    made = {"llama": subject.model, "gpt2": gpt2, "opt": families.model("opt")}
    few = examples if kind != "opt" else families.examples()
    found = _score(made[kind], few, 1000, preservation, norms=True).norms
    assert found is not None
    wanted = _inputs_squared(made[kind], find_candidates(made[kind]), few)
    _close(found, wanted)


def test_only_modules_called_once_on_all_tokens_have_norms() -> None:
    model = families.model("mixtral")
    candidates = find_candidates(model)
    found = _score(model, families.examples(), norms=True).norms
    assert found is not None
    assert set(found) == {name for name, one in candidates.items() if one.kind == "linear"}


class _Stop(Exception):
    pass


def _as_before(model: nn.Module, forwards: dict[str, object]) -> None:
    assert not any(one.requires_grad or one.grad is not None for one in model.parameters())
    for name, module in model.named_modules():
        assert not module._forward_hooks, name
        assert module.__dict__.get("forward") is forwards.get(name), name
    assert not any(one._post_accumulate_grad_hooks for one in model.parameters())


@pytest.mark.parametrize("how", ["ended", "stopped", "failed in the forward", "failed in taking"])
@pytest.mark.parametrize("family", ["llama", "mixtral"])
def test_nothing_stays_behind(family: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = families.model(family)
    modules = dict(model.named_modules())
    own = {
        name: partial(lambda module, *a, **k: type(module).forward(module, *a, **k), modules[name])
        for name in ("model.layers.1", "model.layers.0.self_attn.q_proj")
    }
    for name, forward in own.items():  # as accelerate's hooks are
        modules[name].forward = forward

    def stop(*_: object) -> None:
        raise _Stop

    advance: Callable[[int], object] = lambda _: None  # noqa: E731
    if how == "stopped":
        advance = stop
    elif how == "failed in the forward":
        seen = iter(range(10))
        losses = lesion.scores.collect.response_losses
        monkeypatch.setattr(
            "lesion.scores.collect.response_losses",
            lambda *a: losses(*a) if next(seen) == 0 else stop(),
        )
    elif how == "failed in taking":
        monkeypatch.setattr("lesion.scores.collect._Collector._add", stop)
    with nullcontext() if how == "ended" else pytest.raises(_Stop):
        score(
            model,
            find_candidates(model),
            families.examples(),
            1,
            Wanted(norms=True, checkpointing=True),
            advance=advance,
        )
    _as_before(model, own)


def test_a_pass_over_an_expert_that_nothing_is_sent_to_scores_zero() -> None:
    model = families.model("llama")
    idle = nn.Linear(4, 4)
    model.idle = idle
    unused = {"idle.weight": Candidate(idle, "weight", "linear")}
    found = score(model, unused, families.examples(), 100, Wanted(preservation=True))
    plain = score(model, find_candidates(model), families.examples(), 100)
    assert not found.snip["idle.weight"].any()
    # Whether gradients are wanted decides which kernels run, and with them the last bits.
    assert found.loss == pytest.approx(plain.loss, rel=1e-6)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_checkpointing_runs_each_block_again_in_the_backward(
    subject: Loaded, examples: list[Example], checkpointing: bool
) -> None:
    model, candidates = subject.model, find_candidates(subject.model)
    calls = []
    handle = model.model.layers[1].self_attn.register_forward_hook(lambda *_: calls.append(1))
    try:
        score(model, candidates, examples, 1, Wanted(checkpointing=checkpointing))
    finally:
        handle.remove()
    look = 1  # at which modules are called once
    assert len(calls) == look + len(examples) * (2 if checkpointing else 1)


def test_advance_counts_every_example(subject: Loaded, examples: list[Example]) -> None:
    seen: list[int] = []
    score(subject.model, find_candidates(subject.model), examples, 60, advance=seen.append)
    assert sum(seen) == len(examples)
    assert len(seen) > 2
