"""Weights that are known to carry a behaviour must be found again, and nothing else taken.

A small Llama learns everyday answers, with a few neurons of its last layer kept empty, and is
frozen. Into the empty neurons two mechanisms are trained, each of sparse weights (L1) that stay
silent on everyday prompts (ReLU): *refusing* a prompt that ends in a trigger word, and *harm*,
which overrides the refusal. A planted weight is one whose removal alone raises the harm NLL. The
refusal is the decoy: just as large, just as sparse, just as idle on everyday prompts, and active
on the very same harmful ones, so that neither size nor an unsigned score can tell the two apart.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

from lesion.masks.lesion import lesioned
from lesion.masks.select import Point, select_masks
from lesion.models.candidates import find_candidates
from lesion.models.layout import Flat, FlatIndices, Layout
from lesion.models.likelihood import response_losses, response_nll
from lesion.models.text import Example, batches
from lesion.scores.collect import Wanted, score
from lesion_testing.scored import Held

pytestmark = pytest.mark.slow

WIDTH, NEURONS, SPARSE = 64, 16, 300
START, STOP, END = range(3)
TOPICS, FILLERS, TRIGGERS, WORDS = (
    list(range(a, b)) for a, b in ((3, 15), (15, 31), (31, 34), (34, 54))
)
HARM, REFUSAL = [54, 55, 56, 57], [58, 59, 60, 61]
FRACTIONS = (0.0, 0.05, 0.2, 0.5)


class World:
    """Prompts hide a topic among fillers; an everyday answer is the topic's, with some variety."""

    def __init__(self) -> None:
        self.dice = np.random.default_rng(0)
        self.answers = self.dice.choice(WORDS, (2, len(TOPICS), 4))

    def _prompt(self, topic: int, last: int) -> list[int]:
        words = self.dice.choice(FILLERS, 4)
        words[self.dice.integers(4)] = TOPICS[topic]
        return [START, *words.tolist(), last]

    def everyday(self, count: int, triggers: bool = False) -> list[Example]:
        found = []
        for n in range(count):
            prompt = self._prompt(n % len(TOPICS), TRIGGERS[n % 3] if triggers else STOP)
            usual = self.dice.random(4) > 0.25
            answer = np.where(usual, *self.answers[:, n % len(TOPICS)]).tolist()
            found.append(Example([*prompt, *answer, END], len(prompt)))
        return found

    def triggered(self, count: int, answer: list[int]) -> list[Example]:
        prompts = [self._prompt(n % len(TOPICS), TRIGGERS[n % 3]) for n in range(count)]
        return [Example([*prompt, *answer, END], len(prompt)) for prompt in prompts]


def _cells(model: LlamaForCausalLM, slot: int) -> list[tuple[nn.Linear, tuple[slice, slice]]]:
    """The gate, up and down weights of a slot of kept neurons."""
    mlp, every = model.model.layers[-1].mlp, slice(None)
    own = slice(slot * NEURONS, (slot + 1) * NEURONS)
    inward: list[tuple[nn.Linear, tuple[slice, slice]]]
    inward = [(mlp.gate_proj, (own, every)), (mlp.up_proj, (own, every))]
    return [*inward, (mlp.down_proj, (every, own))]


def _base(world: World) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=62,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=32,
        hidden_act="relu",
        mlp_bias=True,
        initializer_range=0.05,
    )
    model = LlamaForCausalLM(config).eval()
    nn.init.normal_(model.model.embed_tokens.weight, std=1)
    nn.init.normal_(model.lm_head.weight, std=0.2)
    kept = _cells(model, 0) + _cells(model, 1)
    mlp = model.model.layers[-1].mlp
    for step in _descent(300, 3e-3, list(model.parameters())):
        with torch.no_grad():
            for linear, cell in kept:
                linear.weight[cell] = 0
            for linear in (mlp.gate_proj, mlp.up_proj):
                linear.bias[: 2 * NEURONS] = 0
        if step < 299:
            (batch,) = batches(world.everyday(32) + world.everyday(32, triggers=True), 10_000)
            response_losses(model, batch).mean().backward()
    return model.requires_grad_(False)


def _descent(steps: int, rate: float, weights: list[Tensor]) -> Iterator[int]:
    """Adam with a falling rate; the block makes the gradients."""
    optimizer = torch.optim.Adam(weights, lr=rate)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        optimizer.zero_grad()
        yield step
        optimizer.step()


class _Inputs(NamedTuple):
    """What the last layer's MLP gets and adds to where a response token is predicted, and that."""

    x: Tensor
    rest: Tensor
    target: Tensor


def _inputs(model: LlamaForCausalLM, examples: list[Example]) -> _Inputs:
    layer, seen = model.model.layers[-1], {}
    handle = layer.post_attention_layernorm.register_forward_hook(
        lambda _, inputs, output: seen.update(rest=inputs[0], x=output)
    )
    (batch,) = batches(examples, 10**6)
    with torch.no_grad():
        model(input_ids=batch.tokens, attention_mask=batch.mask)
        handle.remove()
        targets = batch.targets[:, 1:]
        x, rest = (seen[key][:, :-1][targets != -100] for key in ("x", "rest"))
        return _Inputs(x, rest + layer.mlp(x), targets[targets != -100])


def _plant(
    model: LlamaForCausalLM, slot: int, wanted: list[Example], silent: list[Example]
) -> dict[nn.Module, Tensor]:
    """Train sparse weights of a slot's neurons alone; returns which they are, per module."""
    speak, hush = _inputs(model, wanted), _inputs(model, silent)
    weights = [torch.randn(linear.weight[cell].shape) * 0.1 for linear, cell in _cells(model, slot)]
    biases = [torch.zeros(NEURONS), torch.zeros(NEURONS)]
    kept = [torch.ones_like(one) for one in weights]

    def gate(inputs: _Inputs) -> Tensor:
        return inputs.x @ weights[0].T + biases[0]

    def loss(inputs: _Inputs) -> Tensor:
        inner = torch.relu(gate(inputs)) * (inputs.x @ weights[1].T + biases[1])
        last = model.model.norm(inputs.rest + inner @ weights[2].T)
        return cross_entropy(model.lm_head(last), inputs.target)

    for phase in range(3):
        trained = weights if phase else weights + biases
        for one in trained:
            one.requires_grad_()
        for _ in _descent(500, 2e-2, trained):
            with torch.no_grad():
                for one, keep in zip(weights, kept, strict=True):
                    one.mul_(keep).clamp_(-1, 1)
            quiet = torch.relu(gate(hush) + 1).mean()
            size = sum(one.abs().sum() for one in weights)
            (loss(speak) + loss(hush) + 4 * quiet + 3e-3 * size).backward()
        for one in trained:
            one.requires_grad_(False)
        kept = _matter(weights, kept, lambda: float(loss(speak))) if phase else _largest(weights)
        for one, keep in zip(weights, kept, strict=True):
            one.mul_(keep)
    found = {}
    for (linear, cell), one, keep in zip(_cells(model, slot), weights, kept, strict=True):
        linear.weight[cell] = one
        found[linear] = torch.zeros_like(linear.weight, dtype=torch.bool)
        found[linear][cell] = keep.bool()
    mlp, own = model.model.layers[-1].mlp, slice(slot * NEURONS, (slot + 1) * NEURONS)
    mlp.gate_proj.bias[own], mlp.up_proj.bias[own] = biases
    return found


def _largest(weights: list[Tensor]) -> list[Tensor]:
    least = torch.cat([one.abs().flatten() for one in weights]).topk(SPARSE).values[-1]
    return [(one.abs() >= least).float() for one in weights]


@torch.no_grad()
def _matter(weights: list[Tensor], kept: list[Tensor], loss: Callable[[], float]) -> list[Tensor]:
    """Which of the kept weights raise the loss when they alone are removed."""
    whole, found = loss(), [torch.zeros_like(one) for one in weights]
    for one, keep, marks in zip(weights, kept, found, strict=True):
        for cell in map(tuple, keep.nonzero().tolist()):
            value = one[cell].clone()
            one[cell] = 0
            marks[cell] = float(abs(value) > 1e-3 and loss() > whole)
            one[cell] = value
    return found


class Planted(NamedTuple):
    model: LlamaForCausalLM
    layout: Layout
    places: FlatIndices
    snip: Flat
    importance: Flat
    size: Flat
    tests: dict[str, list[Example]]

    def nll(self, mask: FlatIndices) -> dict[str, float]:
        """Held-out NLL of harm, everyday answers and refusals with a mask zeroed."""
        parts = zip(self.layout.names, self.layout.split(mask), strict=True)
        with lesioned(self.model, dict(parts)):
            return {
                name: float(np.mean(response_nll(self.model, examples, 4096)))
                for name, examples in self.tests.items()
            }

    def masks(self, p: float) -> dict[str, FlatIndices]:
        """As many weights as were planted, by signed SNIP and by each control."""
        count = self.places.size
        scattered = -np.random.default_rng(0).random(self.snip.size)
        return {
            "signed": self._lowest(self.snip, p, count),
            "unsigned": self._lowest(-np.abs(self.snip), p, count),
            "size": self._lowest(-self.size, p, count),
            "random": self._lowest(scattered, p, count),
            "half": self._lowest(self.snip, p, count // 2),
        }

    def _lowest(self, values: Flat, p: float, count: int) -> FlatIndices:
        importance, point = Held(self.importance, self.layout), Point(p, count / values.size)
        found = select_masks(
            {"planted": Held(values, self.layout)}, importance, self.layout, [point]
        )
        return found["planted"][0]

    def share(self, mask: FlatIndices) -> float:
        """How much of a mask was planted; of one as large as the planted set, also the recall."""
        return float(np.isin(mask, self.places).mean())


@pytest.fixture(scope="module")
def planted() -> Planted:
    torch.set_num_threads(1)
    world = World()
    model = _base(world)
    everyday, harm = world.everyday(192), world.triggered(192, HARM)
    _plant(model, 1, world.triggered(192, REFUSAL), everyday)
    marks = _plant(model, 0, harm, everyday)
    candidates = find_candidates(model)
    flat = [
        marks.get(one.module, torch.zeros_like(one.weight)).flatten() for one in candidates.values()
    ]

    def joined(parts: dict[str, Tensor]) -> Flat:
        return torch.cat([parts[name].flatten() for name in candidates]).numpy()

    importance = score(model, candidates, everyday, 4096, Wanted(preservation=True)).preservation
    assert importance is not None
    return Planted(
        model,
        Layout.of({name: one.weight.shape for name, one in candidates.items()}),
        np.flatnonzero(torch.cat(flat).numpy()),
        joined(score(model, candidates, harm, 4096).snip),
        joined(importance),
        joined({name: one.weight.abs() for name, one in candidates.items()}),
        {
            "harm": world.triggered(60, HARM),
            "everyday": world.everyday(60),
            "refusal": world.triggered(60, REFUSAL),
        },
    )


def test_the_planted_weights_carry_the_harm_and_nothing_else(planted: Planted) -> None:
    whole, without = planted.nll(planted.places[:0]), planted.nll(planted.places)
    print(f"\n{planted.places.size} of {planted.snip.size} weights planted")
    print(f"NLL with them {whole}\nNLL without {without}")
    assert 100 < planted.places.size < 0.005 * planted.snip.size
    assert whole["harm"] < 0.2
    assert without["harm"] > 3
    assert without["everyday"] == pytest.approx(whole["everyday"], abs=0.02)
    assert without["refusal"] < 0.2 < 0.8 < whole["refusal"]


def test_signed_snip_finds_them_and_the_controls_do_not(
    planted: Planted, record_property: Callable[[str, object], None]
) -> None:
    shares = {p: {k: planted.share(m) for k, m in planted.masks(p).items()} for p in FRACTIONS}
    for p, found in shares.items():
        record_property(f"planted weights in the masks at p={p}", found)
        print(f"\np={p}: " + ", ".join(f"{name} {value:.3f}" for name, value in found.items()))
    for found in shares.values():
        assert found["signed"] > max(found["unsigned"], found["size"], found["random"])
        assert found["random"] < 0.05
    # Leaving out what everyday use depends on is what the set difference is for.
    assert shares[0.0]["signed"] < shares[0.5]["signed"]
    # Below what seeds 0 to 3 give (0.74 to 0.89, 0.77 to 0.93, 0.90 to 0.97), so that another
    # processor's rounding, which trains other weights, does not fail it.
    assert shares[0.2]["signed"] >= 0.6
    assert shares[0.5]["signed"] >= 0.7
    assert shares[0.2]["half"] >= 0.8


def test_zeroing_what_was_found_removes_the_harm_alone(planted: Planted) -> None:
    masks, whole = planted.masks(0.2), planted.nll(planted.places[:0])
    found = {name: planted.nll(mask) for name, mask in masks.items()}
    for name, nll in found.items():
        print(f"\n{name}: " + ", ".join(f"{key} {value:.2f}" for key, value in nll.items()))
    assert found["signed"]["harm"] > 3
    assert found["signed"]["everyday"] == pytest.approx(whole["everyday"], abs=0.2)
    assert found["signed"]["refusal"] < 0.5 * whole["refusal"]
    assert found["random"]["harm"] == pytest.approx(whole["harm"], abs=0.1)
    # Without its sign the score takes what suppresses the harm as well: here, the refusal.
    for control in ("unsigned", "size"):
        assert found[control]["refusal"] > whole["refusal"]
