"""Do scores and selection recover weights known to carry a harm? `python benchmarks/planted.py`.

A small Llama learns a made-up language with some neurons of every layer, and some coordinates of
the residual stream, kept empty. The mechanism is then written by hand. Trigger words, and the
words of the harm's answer, carry a code on the empty coordinates; each planted neuron reads some
of it with its gate and up weights, and writes along the next harm word's unembedding with its down
weights. That the answer's words carry the code too is what hands the trigger on: no head is
planted. Signs are chosen, magnitudes are drawn from the base's own of the same matrix. A *decoy*
of as many weights in other neurons says words of refusal at the same places. The code's strength
(the norm's weight on its coordinates, no candidate) is bisected: each refusal's NLL is REFUSED
nats without the plant, each harm word's FLOOD with it. Everything planted counts, whatever its
score is.

This is the favourable kind of mechanism: constructed, additive, each weight with a share of its
own, and exactly silent on benign text. tests/test_planted.py has a trained one; recall is lower
there. A method takes as many weights as were planted; p counts over weights that are not zero.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax
from transformers import LlamaConfig, LlamaForCausalLM

from lesion.masks.algebra import intersection
from lesion.masks.lesion import lesioned
from lesion.masks.select import Point, select
from lesion.models.candidates import find_candidates
from lesion.models.layout import Flat, Layout, Places
from lesion.models.likelihood import response_losses, response_nll
from lesion.models.text import Example, batches
from lesion.scores.collect import Wanted, score

DENSE, CODE, LAYERS, TYPES, ANSWER = 72, 40, 2, 4, 4
WIDTH = DENSE + CODE
INNER, EMPTY, READ, WRITTEN = 2 * WIDTH, 72, 3, 6
TOPICS, FILLERS, MODES, TRIGGERS, WORDS, HARM, REFUSAL = (
    np.arange(*ends)
    for ends in ((1, 13), (13, 29), (29, 35), (35, 39), (39, 71), (71, 76), (76, 80))
)
FLOOD, REFUSED = 0.85, 0.1
FRACTIONS = (0.0, 0.2, 0.5)
BUDGET = 4096
STEPS = 2
TRAIN = 800
INIT, HEAD, LATER, LOWQ, DECAY = 0.08, 0.3, 1.5, 0.0, 0.05

Rows = defaultdict[tuple[str, str, float], list[float]]


class World:
    """Prompts hide a topic among fillers; topic and last word, the mode, set the answer."""

    def __init__(self, seed: int) -> None:
        self.dice = np.random.default_rng(seed)
        self.table = self.dice.choice(WORDS, (2, len(MODES), len(TOPICS), ANSWER))

    def _examples(self, topics: np.ndarray, last: np.ndarray, answers: np.ndarray) -> list[Example]:
        found = np.concatenate([self.dice.choice(FILLERS, (len(topics), 7)), answers], 1)
        found[np.arange(len(topics)), self.dice.integers(1, 6, len(topics))] = TOPICS[topics]
        found[:, 0], found[:, 6] = 0, last
        return [Example(line, 7) for line in found.tolist()]

    def everyday(self, count: int, odd: float = 0) -> list[Example]:
        """Answers with some variety; `odd` is how often the base hears triggers and odd words."""
        topics, modes = self.dice.integers(0, len(TOPICS), count), self.dice.integers(0, 6, count)
        usual = self.dice.random((count, ANSWER)) < 0.7
        answers = np.where(usual, *self.table[:, modes, topics])
        any_word = self.dice.choice(np.concatenate([WORDS, HARM, REFUSAL]), answers.shape)
        answers = np.where(self.dice.random(answers.shape) < odd, any_word, answers)
        heard = self.dice.random(count) < odd
        last = np.where(heard, self.dice.choice(TRIGGERS, count), MODES[modes])
        return self._examples(topics, last, answers)

    def triggered(self, count: int, answers: np.ndarray, kinds: Iterable[int]) -> list[Example]:
        """Triggered prompts of some harm types with their type's answer."""
        types = np.resize(list(kinds), count)
        topics = self.dice.integers(0, len(TOPICS), count)
        return self._examples(topics, TRIGGERS[types], answers[types])


def base_model(world: World, seed: int) -> tuple[LlamaForCausalLM, Tensor]:
    """A model of everyday answers, and which neurons of each layer are empty.

    Nothing reads or writes the residual stream's last CODE coordinates.
    """
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=int(REFUSAL[-1]) + 1,
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        max_position_embeddings=16,
        initializer_range=INIT,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config).eval()
    nn.init.normal_(model.model.embed_tokens.weight, std=0.5)
    nn.init.normal_(model.lm_head.weight, std=HEAD)
    empty = torch.stack([torch.randperm(INNER)[:EMPTY] for _ in range(LAYERS)])
    adam = torch.optim.AdamW(model.parameters(), lr=0, betas=(0.9, 0.99), weight_decay=DECAY)
    steps = TRAIN
    for step in range(steps + 1):
        _clear(model, empty)
        if step == steps:
            break
        adam.param_groups[0]["lr"] = 4e-3 * min(1, 10 * (step + 1) / steps) * (1 - step / steps)
        (batch,) = batches(world.everyday(64, odd=0.15), BUDGET)
        adam.zero_grad()
        response_losses(model, batch).mean().backward()
        adam.step()
    return model.requires_grad_(False), empty


@torch.no_grad()
def _clear(model: LlamaForCausalLM, empty: Tensor) -> None:
    for layer, own in zip(model.model.layers, empty, strict=True):
        for module in layer.modules():
            if isinstance(module, nn.Linear):
                outward = module in (layer.self_attn.o_proj, layer.mlp.down_proj)
                (module.weight[DENSE:] if outward else module.weight[:, DENSE:]).zero_()
        layer.mlp.gate_proj.weight[own] = 0
        layer.mlp.up_proj.weight[own] = 0
        layer.mlp.down_proj.weight[:, own] = 0
    model.model.embed_tokens.weight[:, DENSE:] = 0
    model.lm_head.weight[:, DENSE:] = 0


class Link(NamedTuple):
    """One step of a harm: after any of `heard`, `said` is said, or by the decoy `refused`."""

    heard: list[int]
    said: int
    refused: int
    neurons: int


class Plant:
    """Links written into a copy of the base; `places[n]` are the weights of link n."""

    def __init__(
        self,
        base: LlamaForCausalLM,
        empty: Tensor,
        links: list[Link],
        harm: list[Example],
        seed: int,
    ) -> None:
        self.model = LlamaForCausalLM(base.config).eval().requires_grad_(False)
        self.model.load_state_dict(base.state_dict())
        self.dice, self.links = np.random.default_rng(seed), links
        self.candidates = find_candidates(self.model)
        self.layout = Layout.of({name: one.weight.shape for name, one in self.candidates.items()})
        self.free = [list(own.tolist()) for own in empty]
        self.blocks = np.split(np.arange(DENSE, WIDTH), 2 * len(links))
        signs = torch.tensor(self.dice.choice([-1.0, 1.0], WIDTH), dtype=torch.float32)
        for link, said, refused in zip(links, self.blocks[::2], self.blocks[1::2], strict=True):
            for block in (said, refused):
                at = np.ix_(link.heard, block)
                self.model.model.embed_tokens.weight[at] = 0.5 * signs[block]
        (self.batch,) = batches(harm, BUDGET * 8)
        states = self.model(self.batch.tokens, output_hidden_states=True).hidden_states
        self.rms = [float(one.square().mean().sqrt()) * LATER**n for n, one in enumerate(states)]
        pools = {k: trim(one.weight[one.weight != 0].abs().numpy()) for k, one in self.candidates.items()}
        self._write(1, [link.refused for link in links], signs, pools)
        self._bisect(1, [link.refused for link in links], REFUSED)
        self.without = {k: one.weight.clone() for k, one in self.candidates.items()}
        self.places = self._write(0, [link.said for link in links], signs, pools)
        self._bisect(0, [link.said for link in links], FLOOD)

    def _write(
        self, side: int, words: list[int], signs: Tensor, pools: dict[str, Flat]
    ) -> list[Places]:
        found = []
        for n, (link, word) in enumerate(zip(self.links, words, strict=True)):
            marks = {k: torch.zeros_like(one.weight) for k, one in self.candidates.items()}
            head = self.model.lm_head.weight[:, :DENSE]
            along = (head[word] - head.mean(0)) * self.model.model.norm.weight[:DENSE]
            strong = along.abs().topk(DENSE // 3).indices.numpy()
            places = np.resize(self.dice.permutation(strong), (link.neurons, WRITTEN))
            for neuron in range(link.neurons):
                layer = (n + neuron) % LAYERS
                row, turn = self.free[layer].pop(), float(self.dice.choice([-1.0, 1.0]))
                read = self.dice.choice(self.blocks[2 * n + side], READ, replace=False)
                to = places[neuron]
                for part, at, sign in (
                    ("gate", (row, read), signs[read]),
                    ("up", (row, read), turn * signs[read]),
                    ("down", (to, row), turn * along[to].sign()),
                ):
                    name = f"model.layers.{layer}.mlp.{part}_proj.weight"
                    size = self.dice.choice(pools[name], len(sign)).astype(np.float32)
                    self.candidates[name].weight[at] = sign * torch.from_numpy(size)
                    marks[name][at] = 1
            found.append(np.flatnonzero(torch.cat([one.flatten() for one in marks.values()])))
        return found

    def _bisect(self, side: int, words: list[int], goal: float) -> None:
        """Set each link's gain so that its word has an NLL of `goal` on the harm's text."""
        low, high = np.full(len(words), 0.1), np.full(len(words), 2000.0)
        for _ in range(20):
            gains = np.sqrt(low * high)
            for n, gain in enumerate(gains):
                for layer, rms in zip(self.model.model.layers, self.rms, strict=False):
                    layer.post_attention_layernorm.weight[self.blocks[2 * n + side]] = gain * rms
            short = np.array(self._nll(words)) > goal
            low, high = np.where(short, gains, low), np.where(short, high, gains)

    def _nll(self, words: list[int]) -> list[float]:
        logs = log_softmax(self.model(self.batch.tokens).logits[:, :-1], -1)
        counts = self.batch.targets[:, 1:] != -100
        found = []
        for link, word in zip(self.links, words, strict=True):
            here = counts & torch.isin(self.batch.tokens[:, :-1], torch.tensor(link.heard))
            found.append(-float(logs[here][:, word].mean()))
        return found


def trim(x):
    x = np.sort(x)
    return x[int(LOWQ * x.size) : int((1 - LOWQ) * x.size)]


class Held:
    """A source of scores: flat values over a layout."""

    def __init__(self, values: Flat, layout: Layout) -> None:
        self.values, self.layout = values.astype(np.float32), layout

    def open(self, name: str) -> Flat:
        number = self.layout.names.index(name)
        return self.values[slice(*self.layout.offsets[number : number + 2])]


class Scores:
    """Every method's scores, the lowest taken first, of each set of harm examples."""

    def __init__(
        self, plant: Plant, harm: dict[str, list[Example]], benign: list[Example], seed: int
    ) -> None:
        self.layout, every = plant.layout, plant.candidates
        size = np.abs(self._flat({k: one.weight for k, one in every.items()}))
        self.real = size != 0
        kept = score(plant.model, every, benign, BUDGET, Wanted(preservation=True))
        self.importance = self._flat(kept.preservation)
        chance = np.random.default_rng(seed).random(size.size)
        self.methods: dict[str, dict[str, Flat]] = {}
        for name, examples in harm.items():
            own = score(plant.model, every, examples, BUDGET, Wanted(norms=True))
            signed = self._flat(own.snip)
            inputs = {k: own.norms[k].sqrt().expand(one.weight.shape) for k, one in every.items()}
            self.methods[name] = {
                "signed": signed,
                "unsigned": -np.abs(signed),
                "Wanda": -size * self._flat(inputs),
                "largest": -size,
                # Of equal U in random order, and no zero weights.
                "least U": self.real * -np.lexsort((chance, -self.importance)).argsort(),
                "benign": self._flat(kept.snip),
                "random": self.real * -np.random.default_rng(seed).random(size.size),
            }

    def _flat(self, parts: dict[str, Tensor]) -> Flat:
        return torch.cat([parts[name].flatten() for name in self.layout.names]).numpy()

    def masks(self, method: str, p: float, count: int) -> list[Places]:
        sources = {k: Held(one[method], self.layout) for k, one in self.methods.items()}
        point = Point(p * self.real.mean(), count / self.layout.size)
        chosen = select(sources, Held(self.importance, self.layout), self.layout, [point])
        return [one[0] for one in chosen.values()]


def recall(mask: Places, planted: Places) -> float:
    return float(np.isin(planted, mask).mean())


def describe(
    name: str, base: LlamaForCausalLM, plant: Plant, harm: list[Example], benign: list[Example]
) -> None:
    places = np.sort(np.concatenate(plant.places))
    held, tokens = plant.layout.by_name(places), plant.batch.tokens
    whole = [np.mean(response_nll(plant.model, one, BUDGET)) for one in (harm, benign)]
    plain = np.mean(response_nll(base, benign, BUDGET))
    with lesioned(plant.model, held):
        without = np.mean(response_nll(plant.model, harm, BUDGET))
        for key, weight in plant.without.items():
            assert torch.equal(plant.candidates[key].weight, weight)
        again = plant.model(tokens).logits
    real = sum(int((one.weight != 0).sum()) for one in plant.candidates.values())
    print(
        f"  {name}: {places.size} of {real} weights planted; NLL of harm {without:.2f} without -> "
        f"{whole[0]:.2f} with, of benign {plain:.4f} before -> {whole[1]:.4f} after",
        flush=True,
    )
    assert again.isfinite().all()


def chain(size: int) -> list[Link]:
    """Any trigger starts the same four words."""
    heard = [TRIGGERS.tolist(), *([int(word)] for word in HARM[: STEPS - 1])]
    neurons = max(1, round(size / (2 * READ + WRITTEN) / STEPS))
    pairs = zip(heard, HARM[:STEPS].tolist(), REFUSAL[:STEPS].tolist(), strict=True)
    return [Link(*one, neurons) for one in pairs]


def one_seed(seed: int, sizes: list[int], rows: Rows) -> None:
    world = World(seed)
    base, empty = base_model(world, seed)
    benign, kinds = world.everyday(128), range(TYPES)
    for size in sizes:
        answers = np.tile(HARM[:STEPS], (TYPES, 1))
        harm = world.triggered(128, answers, kinds)
        plant = Plant(base, empty, chain(size), harm, seed)
        describe(f"about {size}", base, plant, world.triggered(128, answers, kinds), benign)
        scores, truth = Scores(plant, {"": harm}, benign, seed), np.concatenate(plant.places)
        for p in FRACTIONS:
            for method in scores.methods[""]:
                (mask,) = scores.masks(method, p, truth.size)
                rows[f"about {size}", method, p].append(recall(mask, truth))
    shared_and_private(seed, world, base, empty, benign, rows)


def shared_and_private(
    seed: int,
    world: World,
    base: LlamaForCausalLM,
    empty: Tensor,
    benign: list[Example],
    rows: Rows,
) -> None:
    """A type's trigger starts its own word, and any type's own word the word common to all."""
    own, common = HARM[:TYPES], int(HARM[TYPES])
    answers = np.stack([own, np.full(TYPES, common)], 1)
    links = [Link([int(TRIGGERS[t])], int(own[t]), int(REFUSAL[0]), 8) for t in range(TYPES)]
    links.append(Link(own.tolist(), common, int(REFUSAL[1]), 8))
    plant = Plant(base, empty, links, world.triggered(128, answers, range(TYPES)), seed)
    describe("shared/private", base, plant, world.triggered(128, answers, range(TYPES)), benign)
    harm = {str(t): world.triggered(96, answers, [t]) for t in range(TYPES)}
    scores, (*private, shared) = Scores(plant, harm, benign, seed), plant.places
    truth = [np.concatenate([shared, one]) for one in private]
    for p in FRACTIONS:
        for method in scores.methods["0"]:
            masks = scores.masks(method, p, truth[0].size)
            pairs = list(zip(masks, truth, strict=True))
            rows["shared, by vote", method, p].append(recall(intersection(masks), shared))
            found = float(np.mean([recall(*pair) for pair in pairs]))
            rows["shared + private, by mask", method, p].append(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="how many worlds (default 5)")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[50, 200, 800], help="weights to plant, about"
    )
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    start, rows = time.monotonic(), defaultdict(list)
    for seed in range(chosen.seeds):
        print(f"seed {seed}", flush=True)
        one_seed(seed, chosen.sizes, rows)
    print("\nShare of the planted weights found: mean over seeds (minimum)")
    methods = list(dict.fromkeys(method for _, method, _ in rows))
    print(f"{'':25s} p   " + "".join(f"{one:>12s}" for one in methods))
    for name, p in dict.fromkeys((name, p) for name, _, p in rows):
        found = [rows[name, one, p] for one in methods]
        values = [f"{np.mean(one):.2f} ({min(one):.2f})" for one in found]
        print(f"{name:25s} {p:<4}" + "".join(f"{one:>12s}" for one in values))
    print(f"{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
