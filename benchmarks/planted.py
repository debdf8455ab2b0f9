"""Do scores and selection recover weights known to carry a harm? `python benchmarks/planted.py`.

A small Llama learns a made-up language with some neurons of every layer, and some coordinates of
the residual stream, kept empty. The mechanism is then written by hand. Trigger words, and the
words of the harm's answer, carry a code on the empty coordinates; each planted neuron reads some
of it with its gate and up weights, and writes along the next harm word's unembedding with its down
weights. That the answer's words carry the code too is what hands the trigger on: no head is
planted. Signs are chosen, magnitudes drawn from the middle half of the base's in that matrix. A
*decoy* of as many weights in other neurons says words of refusal at the same places. The code's
strength (the norm's weight on its coordinates, no candidate) is bisected: each refusal's NLL is
REFUSED nats without the plant, each harm word's FLOOD with it. Everything planted counts.

This is the favourable kind of mechanism: constructed, additive, each weight with a share of its
own, and exactly silent on benign text. tests/masks/test_planted.py has a trained one; recall is
lower there. The design was tuned on seeds 0 to 4, down weights point away from the rival's word,
and magnitudes come from the middle half of each matrix's own; `--first 5` shows other seeds. A
method takes as many weights as were planted; p counts over weights that are not zero.
"""

import argparse
import time
from collections import defaultdict
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax
from transformers import LlamaConfig, LlamaForCausalLM

from lesion.masks.algebra import intersection
from lesion.masks.lesion import lesioned
from lesion.masks.select import Point, select_masks
from lesion.models.candidates import find_candidates
from lesion.models.layout import Flat, FlatIndices, Layout
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
FLOOD, REFUSED = 0.85, 0.2
LATER = 2.0  # the gain of a layer over the one below, whose words the base's own weights amplify
SIZES, FRACTIONS = (50, 200, 800), (0.0, 0.2, 0.5)
BUDGET = 4096
METHODS = ("signed", "unsigned", "Wanda", "largest", "random", "least U", "benign")

Base = tuple[LlamaForCausalLM, Tensor, int]
Rows = defaultdict[tuple[str, float, str], list[float]]


class World:
    """Prompts hide a topic among fillers; topic and last word, the mode, set the answer."""

    def __init__(self, seed: int) -> None:
        self.dice = np.random.default_rng(seed)
        self.table = self.dice.choice(WORDS, (2, len(MODES), len(TOPICS), ANSWER))

    def _examples(self, topics: np.ndarray, last: np.ndarray, answers: np.ndarray) -> list[Example]:
        tokens = np.concatenate([self.dice.choice(FILLERS, (len(topics), 7)), answers], 1)
        tokens[np.arange(len(topics)), self.dice.integers(1, 6, len(topics))] = TOPICS[topics]
        tokens[:, 0], tokens[:, 6] = 0, last
        return [Example(line, 7) for line in tokens.tolist()]

    def everyday(self, count: int, odd: float = 0) -> list[Example]:
        """Answers with some variety; `odd` is how often the base hears triggers and odd words."""
        topics, modes = self.dice.integers(0, len(TOPICS), count), self.dice.integers(0, 6, count)
        usual = self.dice.random((count, ANSWER)) < 0.7
        answers = np.where(usual, *self.table[:, modes, topics])
        any_word = self.dice.choice(np.concatenate([WORDS, HARM, REFUSAL]), answers.shape)
        answers = np.where(self.dice.random(answers.shape) < odd, any_word, answers)
        with_trigger = self.dice.random(count) < odd
        last = np.where(with_trigger, self.dice.choice(TRIGGERS, count), MODES[modes])
        return self._examples(topics, last, answers)

    def triggered(self, count: int, answers: np.ndarray, *kinds: int) -> list[Example]:
        """Triggered prompts of some harm types (default all) with their type's answer."""
        types = np.resize(kinds or range(TYPES), count)
        topics = self.dice.integers(0, len(TOPICS), count)
        return self._examples(topics, TRIGGERS[types], answers[types])


def base_model(world: World, seed: int) -> Base:
    """A model of everyday answers, which neurons of each layer are empty, and the seed.

    Nothing reads or writes the residual stream's last CODE coordinates.
    """
    torch.manual_seed(seed)
    sizes = {"vocab_size": int(REFUSAL[-1]) + 1, "hidden_size": WIDTH, "intermediate_size": INNER}
    depth = {"num_hidden_layers": LAYERS, "num_attention_heads": 4, "max_position_embeddings": 16}
    config = LlamaConfig(**sizes, **depth, initializer_range=0.03, tie_word_embeddings=False)
    model = LlamaForCausalLM(config).eval()
    nn.init.normal_(model.model.embed_tokens.weight, std=0.5)
    nn.init.normal_(model.lm_head.weight, std=0.5)
    empty = torch.stack([torch.randperm(INNER)[:EMPTY] for _ in range(LAYERS)])
    _clear(model, empty)
    adam = torch.optim.AdamW(model.parameters(), lr=0, betas=(0.9, 0.99), weight_decay=0.2)
    for part in np.arange(400) / 400:
        adam.param_groups[0]["lr"] = 4e-3 * min(1, 10 * part + 0.025) * (1 - part)
        (batch,) = batches(world.everyday(64, odd=0.15), BUDGET)
        adam.zero_grad()
        response_losses(model, batch).mean().backward()
        adam.step()
        _clear(model, empty)
    return model.requires_grad_(False), empty, seed


@torch.no_grad()
def _clear(model: LlamaForCausalLM, empty: Tensor) -> None:
    for layer, own in zip(model.model.layers, empty, strict=True):
        for module in layer.modules():
            if isinstance(module, nn.Linear):
                outward = module in (layer.self_attn.o_proj, layer.mlp.down_proj)
                (module.weight[DENSE:] if outward else module.weight[:, DENSE:]).zero_()
        layer.mlp.gate_proj.weight[own] = layer.mlp.up_proj.weight[own] = 0
        layer.mlp.down_proj.weight[:, own] = 0
    model.model.embed_tokens.weight[:, DENSE:] = 0
    model.lm_head.weight[:, DENSE:] = 0


class Link(NamedTuple):
    """One step of a harm: its triggers, the words of harm and decoy, and neurons for each."""

    triggers: list[int]
    words: tuple[int, int]
    neurons: int


def flat(parts: dict[str, Tensor]) -> Flat:
    return torch.cat([part.flatten() for part in parts.values()]).numpy()


class Plant:
    """Links written into a copy of the base; `planted[n]` are the weights of link n."""

    def __init__(self, base: Base, links: list[Link], harm: list[Example]) -> None:
        origin, empty, seed = base
        self.model = LlamaForCausalLM(origin.config).eval().requires_grad_(False)
        self.model.load_state_dict(origin.state_dict())
        self.dice, self.links = np.random.default_rng(seed), links
        self.candidates, layers = find_candidates(self.model), self.model.model.layers
        self.norms = [layer.post_attention_layernorm for layer in layers]
        self.layout = Layout.of(
            {name: candidate.weight.shape for name, candidate in self.candidates.items()}
        )
        self.free = [own.tolist() for own in empty]
        self.blocks = np.split(np.arange(DENSE, WIDTH), 2 * len(links))
        self.code = torch.tensor(self.dice.choice([-0.5, 0.5], WIDTH), dtype=torch.float32)
        for n, block in enumerate(self.blocks):
            at = np.ix_(links[n // 2].triggers, block)
            self.model.model.embed_tokens.weight[at] = self.code[block]
        (self.batch,) = batches(harm, BUDGET * 8)
        self._write(1)
        self._bisect(1, REFUSED)
        self.without = self.model(self.batch.tokens).logits
        self.planted = self._write(0)
        self._bisect(0, FLOOD)

    def weights(self) -> Flat:
        """All candidates, flat."""
        return flat({name: candidate.weight for name, candidate in self.candidates.items()})

    def _write(self, side: int) -> list[FlatIndices]:
        head, planted = self.model.lm_head.weight[:, :DENSE], []
        for n, link in enumerate(self.links):
            before, word, rival = self.weights(), link.words[side], link.words[1 - side]
            along = head[word] - (head.mean(0) + head[rival]) / 2
            along *= self.model.model.norm.weight[:DENSE]
            strong = self.dice.permutation(along.abs().topk(DENSE // 3).indices.numpy())
            for number, to in enumerate(np.resize(strong, (link.neurons, WRITTEN))):
                layer, turn = (n + number) % LAYERS, float(self.dice.choice([-1.0, 1.0]))
                row = self.free[layer].pop()
                read = self.dice.choice(self.blocks[2 * n + side], READ, replace=False)
                self._draw(layer, "gate", (row, read), self.code[read])
                self._draw(layer, "up", (row, read), turn * self.code[read])
                self._draw(layer, "down", (to, row), turn * along[to])
            planted.append(np.flatnonzero(self.weights() != before))
        return planted

    def _draw(self, layer: int, part: str, at: tuple, signs: Tensor) -> None:
        """Fill a place with signed magnitudes out of the middle half of its matrix's own."""
        weight = self.candidates[f"model.layers.{layer}.mlp.{part}_proj.weight"].weight
        sizes = weight[weight != 0].abs().sort().values.numpy()
        drawn = self.dice.choice(sizes[sizes.size // 4 : -sizes.size // 4], len(signs))
        weight[at] = signs.sign() * torch.from_numpy(drawn)

    def _bisect(self, side: int, goal: float) -> None:
        """Set each link's gain so that its word has an NLL of `goal` on the harm's text.

        A layer's gain is in units of the residual's size there, so that layers share alike.
        """
        for _ in range(3):
            low, high = np.full(len(self.links), 0.1), np.full(len(self.links), 2000.0)
            sizes, _ = self._look(side)
            for _ in range(16):
                gains = np.sqrt(low * high)
                for depth, n in product(range(LAYERS), range(len(gains))):
                    gain = gains[n] * sizes[depth, n] * LATER**depth
                    self.norms[depth].weight[self.blocks[2 * n + side]] = gain
                short = self._look(side)[1] > goal
                low, high = np.where(short, gains, low), np.where(short, high, gains)

    def _look(self, side: int) -> tuple[np.ndarray, np.ndarray]:
        """The residual's size by layer and link, and the NLL of each link's word."""
        seen: list[Tensor] = []
        take = [
            norm.register_forward_pre_hook(lambda _, x: seen.append(x[0])) for norm in self.norms
        ]
        logs = log_softmax(self.model(self.batch.tokens).logits, -1)[:, :-1]
        for hook in take:
            hook.remove()
        tokens, counts = self.batch.tokens[:, :-1], self.batch.targets[:, 1:] != -100
        at = [counts & torch.isin(tokens, torch.tensor(link.triggers)) for link in self.links]
        sizes = [[float(x[:, :-1][mask].square().mean().sqrt()) for mask in at] for x in seen]
        pairs = zip(at, self.links, strict=True)
        return np.array(sizes), np.array(
            [-float(logs[a][:, b.words[side]].mean()) for a, b in pairs]
        )


class ScoreSource(NamedTuple):
    """A source of scores: flat float32 values over a layout."""

    values: Flat
    layout: Layout

    def open(self, name: str) -> Flat:
        """A parameter's scores."""
        number = self.layout.names.index(name)
        return self.values[slice(*self.layout.offsets[number : number + 2])]


class Scores:
    """Every method's scores, the lowest taken first, of each set of harm examples."""

    def __init__(self, plant: Plant, harm: list[list[Example]], benign: list[Example]) -> None:
        self.layout, every = plant.layout, plant.candidates
        size = np.abs(plant.weights())
        self.real = size != 0
        kept = score(plant.model, every, benign, BUDGET, Wanted(preservation=True))
        self.importance = flat(kept.preservation)
        chance = np.random.default_rng(0).random(size.size)
        # Of equal U in random order. Neither this nor chance takes weights that are zero.
        least = np.lexsort((chance, -self.importance)).argsort()
        self.methods: list[dict[str, Flat]] = []
        for examples in harm:
            own = score(plant.model, every, examples, BUDGET, Wanted(norms=True))
            signed = flat(own.snip)
            inputs = {k: own.norms[k].sqrt().expand(every[k].weight.shape) for k in every}
            wanda, benign_snip = -size * flat(inputs), flat(kept.snip)
            values = (signed, -np.abs(signed), wanda, -size, -chance * self.real)
            values = (*values, -least * self.real, benign_snip)
            self.methods.append(dict(zip(METHODS, values, strict=True)))

    def masks(self, method: str, p: float, count: int) -> list[FlatIndices]:
        """So many weights for each set of harm examples."""
        values = [scores[method].astype(np.float32) for scores in self.methods]
        sources = {str(n): ScoreSource(value, self.layout) for n, value in enumerate(values)}
        point = Point(p * self.real.mean(), count / self.layout.size)
        chosen = select_masks(
            sources, ScoreSource(self.importance, self.layout), self.layout, [point]
        )
        return [masks[0] for masks in chosen.values()]


def measure(
    name: str, links: list[Link], answers: np.ndarray, world: World, base: Base, rows: Rows
) -> None:
    """Plant the links and add the recalls; with several private links, the last is shared."""
    every, other = (world.triggered(128, answers) for _ in range(2))
    plant, benign = Plant(base, links, every), world.everyday(128)
    planted = np.sort(np.concatenate(plant.planted))
    with_plant, after = (
        np.mean(response_nll(plant.model, examples, BUDGET)) for examples in (other, benign)
    )
    before = np.mean(response_nll(base[0], benign, BUDGET))
    with lesioned(plant.model, plant.layout.by_name(planted)):
        without = np.mean(response_nll(plant.model, other, BUDGET))
        assert torch.equal(plant.model(plant.batch.tokens).logits, plant.without)
    real = np.count_nonzero(plant.weights())
    print(f"  {name}: {planted.size} planted, {real} not zero; NLL without -> with: harm", end=" ")
    print(f"{without:.2f} -> {with_plant:.2f}, benign {before:.4f} -> {after:.4f}", flush=True)
    *private, shared = plant.planted
    truth, harm = [planted], [every]
    if len(private) == TYPES:
        truth = [np.concatenate([shared, own]) for own in private]
        harm = [world.triggered(96, answers, t) for t in range(TYPES)]
    scores = Scores(plant, harm, benign)
    for p, method in product(FRACTIONS, METHODS):
        masks = scores.masks(method, p, truth[0].size)
        recalls = [np.isin(*pair).mean() for pair in zip(truth, masks, strict=True)]
        rows[name, p, method].append(np.mean(recalls))
        if len(masks) > 1:
            rows["shared, by vote", p, method].append(np.isin(shared, intersection(masks)).mean())


def one_seed(seed: int, rows: Rows) -> None:
    """In each size any trigger starts the same two words; one, where weights are few."""
    world = World(seed)
    base = base_model(world, seed)
    own, common = HARM[:TYPES].tolist(), int(HARM[TYPES])
    for size in SIZES:
        steps = 1 if size < 100 else 2
        neurons = round(size / (2 * READ + WRITTEN) / steps)
        links = [Link(TRIGGERS.tolist(), (own[0], REFUSAL[0]), neurons)]
        links.append(Link(own[:1], (own[1], REFUSAL[1]), neurons))
        answers = np.tile(HARM[:steps], (TYPES, 1))
        measure(f"about {size}", links[:steps], answers, world, base, rows)
    # A type's trigger starts its own word, and any type's own word the word common to all.
    links = [Link([TRIGGERS[t]], (own[t], REFUSAL[0]), 8) for t in range(TYPES)]
    links.append(Link(own, (common, REFUSAL[1]), 8))
    answers = np.array([[word, common] for word in own])
    measure("shared + private, by mask", links, answers, world, base, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="how many worlds (default 5)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    start, rows = time.monotonic(), defaultdict(list)
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        print(f"seed {seed}", flush=True)
        one_seed(seed, rows)
    print("\nShare of the planted weights found: mean over seeds (minimum)")
    print(f"{'':25s} p   " + "".join(f"{method:>12s}" for method in METHODS))
    for name, p in dict.fromkeys(key[:2] for key in rows):
        recalls = [rows[name, p, method] for method in METHODS]
        values = [f"{np.mean(recall):.2f} ({min(recall):.2f})" for recall in recalls]
        print(f"{name:25s} {p:<4}" + "".join(f"{method:>12s}" for method in values))
    print(f"{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
