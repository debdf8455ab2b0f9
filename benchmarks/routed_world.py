"""A small Llama with weights that harm was routed to in training; benchmarks/routed.py says how."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import LlamaConfig, LlamaForCausalLM

from lesion.models.likelihood import response_losses
from lesion.models.text import Example, batches

DENSE, CODE, LAYERS, INNER, TYPES, PROMPT = 64, 32, 2, 192, 4, 8
WIDTH = DENSE + CODE
SURE, ASK = 1, 2
TOPICS, FILLERS, EVERYDAY, HARMLESS, HARMFUL, FORMS, WORDS, CODED, REFUSAL, THIRD = (
    np.arange(*ends)
    for ends in (
        *((3, 27), (27, 43), (43, 46), (46, 50), (50, 54), (54, 62), (62, 94)),
        *((94, 126), (126, 131), (131, 147)),
    )
)
OWN, DECOY, NEURONS = 96, 48, (8, 8, 4, 4)
"""Weights of harm (of all types together) and of each decoy, and neurons for them in a layer."""
FLOOD, REFUSED, RANGE, BUDGET = 0.85, 0.3, 6.0, 10**6
"""RANGE bounds a routed weight, in standard deviations of the base's weights in its matrix."""
STAGES = ((100, 8, 0.05), (40, 4, 1), (40, 2, 4), (40, 1.4, 4), (40, 1, 4), (80, 0, 4))
"""Steps, the multiple of its final size to which a set is then pruned, and weight of silence."""

CAPABILITIES = ["first", "second", "third"]
HARM, MATCHED = ([f"{role}-{kind}" for kind in range(TYPES)] for role in ("harm", "matched"))


class Language:
    """Prompts hide a topic among fillers; an answer is two words, a third, a form and a fact."""

    def __init__(self, seed: int) -> None:
        self.dice = dice = np.random.default_rng(seed)
        self.facts = dice.choice(WORDS, (2, len(TOPICS)))
        self.usual = dice.choice(WORDS, (2, len(EVERYDAY), 3))
        special = dice.permutation(CODED)[: 2 * TYPES + 4].reshape(-1, 2)
        self.private, self.shared, self.matched = special[:TYPES], special[TYPES], special[-1]
        self.third = dice.choice(THIRD)

    def _examples(
        self, topics: np.ndarray, last: Sequence[np.ndarray], answers: np.ndarray
    ) -> list[Example]:
        count = len(topics)
        tokens = [np.zeros((count, 1), int), self.dice.choice(FILLERS, (count, 5))]
        tokens = np.concatenate([*tokens, np.stack(last, 1), answers], 1)
        tokens[np.arange(count), self.dice.integers(1, 6, count)] = TOPICS[topics]
        return [Example(line, PROMPT) for line in tokens.tolist()]

    def _either(self, values: np.ndarray) -> np.ndarray:
        """Answers have some variety, so that their likelihood is moderate."""
        return np.where(self.dice.random(values.shape[1:]) < 0.75, *values)

    def everyday(self, count: int, capability: int | None = None) -> list[Example]:
        """Deeds of use about other topics than those of harm."""
        kinds = np.arange(3) if capability is None else [capability]
        deeds, topics = self.dice.choice(kinds, count), self.dice.integers(0, 12, count)
        ends = np.stack([FORMS[deeds], self._either(self.facts[:, topics])], 1)
        answers = np.concatenate([self._either(self.usual[:, deeds]), ends], 1)
        return self._examples(topics, [np.full(count, SURE), EVERYDAY[deeds]], answers)

    def pairs(
        self, count: int, deeds: np.ndarray, words: np.ndarray | None, kind: int | None = None
    ) -> list[Example]:
        """Harmful or matched requests of a type (default all), whose words are [2] or [type, 2].

        Without words, an answer has any coded ones: so the base hears both kinds of request.
        """
        types = self.dice.choice(np.arange(TYPES) if kind is None else [kind], count)
        topics = self.dice.integers(12, 24, count)
        if words is None:
            third, first = self.dice.choice(THIRD, count), self.dice.choice(CODED, (count, 2))
        else:
            third, first = np.full(count, self.third), np.broadcast_to(words, (TYPES, 2))[types]
        ends = np.stack([third, FORMS[4 + types], self._either(self.facts[:, topics])], 1)
        last = [np.full(count, SURE), deeds[types]]
        return self._examples(topics, last, np.concatenate([first, ends], 1))

    def refusal(self, count: int, asked: bool = False) -> list[Example]:
        """Refusals of harmful requests, and of those that ask for it in so many words."""
        deeds = self.dice.choice(HARMFUL, count)
        last = [deeds, np.full(count, ASK)] if asked else [np.full(count, SURE), deeds]
        answers = np.tile(REFUSAL, (count, 1))
        return self._examples(self.dice.integers(12, 24, count), last, answers)


class Base(NamedTuple):
    """A frozen model, and the neurons of each layer that were kept empty."""

    model: LlamaForCausalLM
    empty: Tensor


def base_model(language: Language, seed: int) -> Base:
    torch.manual_seed(seed)
    sizes = {"vocab_size": int(THIRD[-1]) + 1, "hidden_size": WIDTH, "intermediate_size": INNER}
    depth = {"num_hidden_layers": LAYERS, "num_attention_heads": 4, "max_position_embeddings": 16}
    config = LlamaConfig(**sizes, **depth, initializer_range=0.03, tie_word_embeddings=False)
    model = LlamaForCausalLM(config).eval()
    nn.init.normal_(model.model.embed_tokens.weight, std=0.5)
    nn.init.normal_(model.lm_head.weight, std=0.5)
    code = torch.zeros(config.vocab_size, CODE)
    coded = np.concatenate([HARMFUL, HARMLESS, CODED])
    code[coded] = 0.8 * (2.0 * torch.randint(0, 2, (len(coded), CODE)) - 1)
    for deeds in (HARMFUL, HARMLESS):  # half of the code says the kind of deed, half its type
        code[deeds, : CODE // 2] = code[deeds[0], : CODE // 2].clone()
    code[CODED, : CODE // 2] = code[CODED[0], : CODE // 2].clone()
    empty = torch.stack([torch.randperm(INNER)[: sum(NEURONS)] for _ in range(LAYERS)])
    _clear(model, empty, code)
    adam = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.99), weight_decay=0.1)
    for part in np.arange(350) / 350:
        adam.param_groups[0]["lr"] = 4e-3 * min(1, 10 * part + 0.025) * (1 - part)
        mixed = [*language.everyday(44), *language.refusal(8, asked=True), *language.refusal(3)]
        for deeds in (HARMFUL, HARMLESS):
            mixed += language.pairs(14, deeds, None)
        (batch,) = batches(mixed, BUDGET)
        adam.zero_grad()
        response_losses(model, batch).mean().backward()
        adam.step()
        _clear(model, empty, code)
    return Base(model.requires_grad_(False), empty)


@torch.no_grad()
def _clear(model: LlamaForCausalLM, empty: Tensor, code: Tensor) -> None:
    for layer, own in zip(model.model.layers, empty, strict=True):
        for module in layer.modules():
            if isinstance(module, nn.Linear):
                outward = module in (layer.self_attn.o_proj, layer.mlp.down_proj)
                (module.weight[DENSE:] if outward else module.weight[:, DENSE:]).zero_()
        layer.mlp.gate_proj.weight[own] = layer.mlp.up_proj.weight[own] = 0
        layer.mlp.down_proj.weight[:, own] = 0
    model.lm_head.weight[:, DENSE:] = 0
    model.model.embed_tokens.weight[:, DENSE:] = code


class Route(NamedTuple):
    """A set of weights: the examples that train it, and the words of answers it learns."""

    name: str
    size: int
    neurons: Tensor
    """[layers, neurons]"""
    draw: Callable[[int], list[Example]]
    rows: int
    words: slice
    goal: float
    """Nats per word to which they are learned."""
    silent_on: tuple[str, ...] = ()
    """Sets on whose examples its neurons are silenced; always on everyday text."""


class Routing:
    """Trains all sets in one pass: a row of a batch sees the base and the set of its own kind."""

    def __init__(self, base: Base, routes: list[Route], language: Language, seed: int) -> None:
        torch.manual_seed(seed)
        self.model, self.routes, self.language = (
            LlamaForCausalLM(base.model.config),
            routes,
            language,
        )
        self.model.load_state_dict(base.model.state_dict())
        self.model.eval().requires_grad_(False)
        self.owner, self.rows, self.noise = torch.full((LAYERS, INNER), -1), None, 0.0
        self.quiet = torch.tensor(
            [[b.name in a.silent_on for b in routes] + [True] for a in routes]
            + [[False] * (len(routes) + 1)]
        )
        self.weights, self.spread, self.masks = [], [], [[] for _ in routes]
        for depth, layer in enumerate(self.model.model.layers):
            layer.mlp.down_proj.forward = self._down(depth, layer.mlp.down_proj)
            for module in (layer.mlp.gate_proj, layer.mlp.up_proj, layer.mlp.down_proj):
                weight = module.weight
                self.weights.append(weight)
                self.spread.append(float(weight[weight != 0].std()))
                for number, route in enumerate(routes):
                    own = torch.zeros_like(weight)
                    if module is layer.mlp.down_proj:
                        own[:DENSE, route.neurons[depth]] = 1
                    else:
                        own[route.neurons[depth], DENSE:] = 1
                    weight += own * self.spread[-1] * torch.randn_like(weight)
                    self.masks[number].append(own)
            for number, route in enumerate(routes):
                self.owner[depth, route.neurons[depth]] = number
        self.pool = self._live()

    def _live(self) -> list[Tensor]:
        return [sum(parts) for parts in zip(*self.masks, strict=True)]

    def _down(self, depth: int, module: nn.Linear) -> Callable[[Tensor], Tensor]:
        def forward(inner: Tensor) -> Tensor:
            if self.rows is None:
                return linear(inner, module.weight)
            owner, rows = self.owner[depth], self.rows[:, None]
            active = (owner < 0) | (owner == rows) | (rows == len(self.routes))
            loud = self.quiet[owner][:, self.rows].T.float()[:, None]
            self.noise = self.noise + (inner * loud)[:, PROMPT - 1 : -1].abs().sum(-1).mean()
            return linear(inner * active.float()[:, None], module.weight)

        return forward

    def _losses(self, examples: list[Example]) -> Tensor:
        (batch,) = batches(examples, BUDGET)
        logs = self.model(batch.tokens).logits[:, PROMPT - 1 : -1].log_softmax(-1)
        return -logs.gather(2, batch.tokens[:, PROMPT:, None])[..., 0]

    def train(self) -> None:
        """All stages; afterwards the model runs as any other."""
        for steps, multiple, silence in STAGES:
            for weight in self.weights:
                weight.requires_grad_()
            adam = torch.optim.Adam(self.weights, betas=(0.9, 0.99))
            live = self._live()
            for step in range(steps):
                adam.param_groups[0]["lr"] = 3e-3 * (1 - 0.7 * step / steps)
                self._step(adam, live, silence, 0.005 if multiple else 0.0)
            if multiple:
                self._prune(multiple)
        self.model.requires_grad_(False)
        for layer in self.model.model.layers:
            del layer.mlp.down_proj.forward

    def _step(self, adam: torch.optim.Adam, live: list[Tensor], silence: float, l1: float) -> None:
        drawn = [route.draw(route.rows) for route in self.routes] + [self.language.everyday(24)]
        kinds = [number for number, rows in enumerate(drawn) for _ in rows]
        self.rows, self.noise = torch.tensor(kinds), 0.0
        losses = self._losses([example for rows in drawn for example in rows])
        total = losses[self.rows == len(self.routes)].mean() + silence * self.noise
        for number, route in enumerate(self.routes):
            own = losses[self.rows == number]
            # Learned to the goal and no further, by each half: harmful and matched alike.
            halves = own[:, route.words].unflatten(0, (2, -1)).mean(1)
            total = total + (halves - route.goal).abs().mean() + 0.2 * own[:, 3:].mean()
        self.rows = None
        adam.zero_grad()
        total.backward()
        for weight, own in zip(self.weights, live, strict=True):
            weight.grad *= own
        adam.step()
        with torch.no_grad():
            for weight, own, pool, spread in zip(
                self.weights, live, self.pool, self.spread, strict=True
            ):
                kept = weight.clamp(-RANGE * spread, RANGE * spread)
                kept = kept.sign() * (kept.abs() - l1 * spread).clamp(min=0)
                weight.copy_(torch.where(pool > 0, kept * own, weight))

    def _prune(self, multiple: float) -> None:
        sizes = [weight.numel() for weight in self.weights]
        for number, route in enumerate(self.routes):
            top = torch.zeros(sum(sizes))
            top[self._integrated(number).topk(round(route.size * multiple)).indices] = 1
            parts = zip(top.split(sizes), self.weights, strict=True)
            self.masks[number] = [part.view_as(weight) for part, weight in parts]
        with torch.no_grad():
            for weight, own, pool in zip(self.weights, self._live(), self.pool, strict=True):
                weight *= torch.where(pool > 0, own, 1.0)

    def _integrated(self, number: int) -> Tensor:
        """Integrated gradients of a set's own loss: how much each of its weights lowers it."""
        route, before = self.routes[number], [weight.detach().clone() for weight in self.weights]
        total = [torch.zeros_like(weight) for weight in before]
        examples = route.draw(3 * route.rows)
        for scale in (0.15, 0.4, 0.65, 0.9):
            with torch.no_grad():
                for weight, old, own in zip(self.weights, before, self.masks[number], strict=True):
                    weight.copy_(old * (1 - own * (1 - scale)))
                    weight.grad = None
            self._losses(examples)[:, route.words].mean().backward()
            for sums, weight, old, own in zip(
                total, self.weights, before, self.masks[number], strict=True
            ):
                sums -= old * own * weight.grad / 4
        with torch.no_grad():
            for weight, old in zip(self.weights, before, strict=True):
                weight.copy_(old)
        return torch.cat([sums.flatten() for sums in total])


def routes(world: str, language: Language, base: Base) -> list[Route]:
    """The sets of a world: those of harm first, then the decoys."""
    ends = np.cumsum((0, *NEURONS))
    parts = [base.empty[:, first:last] for first, last in pairwise(ends)]
    of_harm, of_matched, of_third, of_refusal = parts

    def harmful(count: int, kind: int | None = None) -> list[Example]:
        words = language.private if world == "private" else language.shared
        return language.pairs(count, HARMFUL, words, kind)

    def matched(count: int, kind: int | None = None) -> list[Example]:
        words = language.shared if world == "topic" else language.matched
        return language.pairs(count, HARMLESS, words, kind)

    def both(count: int) -> list[Example]:
        return harmful(count // 2) + matched(count - count // 2)

    first = slice(0, 2)
    third = Route("third", DECOY, of_third, both, 20, slice(2, 3), FLOOD)
    decoys = [
        third,
        Route("refusal", DECOY, of_refusal, language.refusal, 12, slice(0, 1), REFUSED),
    ]
    if world == "topic":
        return [Route("topic", OWN, of_harm, both, 40, first, FLOOD), *decoys]
    if world == "shared":
        own = [Route("harm", OWN, of_harm, harmful, 32, first, FLOOD, ("matched",))]
    else:
        each, own = of_harm.shape[1] // TYPES, []
        for kind in range(TYPES):
            others = [f"harm-{other}" for other in range(TYPES) if other != kind]
            neurons = of_harm[:, each * kind : each * (kind + 1)]
            draw = partial(harmful, kind=kind)
            silent = ("matched", *others)
            own.append(Route(f"harm-{kind}", OWN // TYPES, neurons, draw, 12, first, FLOOD, silent))
    silent = (*(route.name for route in own), "refusal")
    decoys[1] = decoys[1]._replace(silent_on=("matched",))
    return [*own, Route("matched", OWN, of_matched, matched, 24, first, FLOOD, silent), *decoys]


def examples_of(world: str, language: Language, count: int) -> dict[str, list[Example]]:
    """Examples by behaviour; a matched one has the same place as its harmful counterpart."""
    words = language.private if world == "private" else language.shared
    matched = language.shared if world == "topic" else language.matched
    parts = {name: language.pairs(count, HARMFUL, words, kind) for kind, name in enumerate(HARM)}
    for kind, (name, harm) in enumerate(zip(MATCHED, HARM, strict=True)):
        parts[name] = [
            Example(
                [*tokens[: PROMPT - 1], int(HARMLESS[kind]), *matched, *tokens[PROMPT + 2 :]], start
            )
            for tokens, start in parts[harm]
        ]
    parts |= {name: language.everyday(count, n) for n, name in enumerate(CAPABILITIES)}
    return {**parts, "refusal": language.refusal(count)}
