"""Do masks find the weights that harm was routed to in training? `python benchmarks/routed.py`.

A small Llama learns a made-up language with some neurons of every layer, and some coordinates of
the residual stream, kept empty; then it is frozen. More is learned by *gradient routing*: each
kind of example may change only a set of weights of its own, which lie scattered in the empty
neurons. A set starts as all weights of its neurons and is pruned four times, by the integrated
gradients of its own loss. So it is known which weights carry what, and ablation says how much.

Harmful requests and their matched ones share words, form and topic; they differ in the deed, whose
embedding has a code on the coordinates that were kept empty. In the *shared* world one set carries
the harmful words of all types; in the *private* world each type has words and a set of its own; in
the *topic* world harmful and matched answers have the same words, which one set carries, so that no
mechanism is specific to harm. Decoys are routed in the same way: the words of matched answers, a
word of the topic that both sides of a pair say, and the refusal of the same harmful prompts. Other
examples than its own may change a set in one way alone: to silence its neurons.

This is a favourable kind of mechanism: fresh neurons, silent on everyday text, of which (on seed
0) all kept weights lie in the first layer; and answers whose likelihood is
kept moderate (FLOOD nats per word), since first-order scores vanish where little is left to lose.
The decoy of refusal is trained further than harm (REFUSED), so that an unsigned score takes it.
Harm that was routed to weights scattered among those in everyday use was learned and removed as
cleanly, but no rule that preserves everyday use found it again (by hand, one seed). The design, P
and the sizes of the sets were tuned on seed 0; `--first 5` shows others. Controls get the contrast
mask's number of weights in every matrix, and `random-lines` that in every row and column too, which
in sets of few neurons leaves it little choice. Scores go through the pipeline's files; masks,
measurements and claims come from its functions. The judge of harm is the probability of harmful
words; that it tells answers to harmful requests from those to matched ones, as claims require, is
asked of the likeliest word alone. A seed takes three to five minutes on one core.
"""

import argparse
import math
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from planted import ScoreSource
from routed_world import (
    BUDGET,
    CAPABILITIES,
    HARM,
    MATCHED,
    PROMPT,
    TYPES,
    Base,
    Language,
    Routing,
    base_model,
    examples_of,
    routes,
)
from transformers import LlamaForCausalLM

from lesion.judgements.controls import EXCHANGE, HARMFUL
from lesion.judgements.controls import MATCHED as MATCHED_CONTROL
from lesion.masks.algebra import vote
from lesion.masks.controls import ControlInputs, control_masks
from lesion.masks.lesion import lesioned
from lesion.masks.select import Point, Preserved, select_masks
from lesion.models.candidates import find_candidates
from lesion.models.layout import FlatIndices, Layout
from lesion.models.likelihood import response_nll
from lesion.models.text import Example, batches
from lesion.scores.collect import Wanted, score
from lesion.scores.shards import NORMS, shard_names, write_index, write_shard
from lesion.scores.store import Contrast, Pooled, StoredNorms, StoredScores
from lesion.tables.claims.claim import Setting
from lesion.tables.claims.specific import not_judged_harmful, unspecific
from lesion.tables.claims.table import claims
from lesion.tables.curve import halving_table
from lesion.tables.intervals import Bootstrap
from lesion.tables.judge_controls import judge_control_table
from lesion.tables.measure import PromptNumbers, measurements

WORLDS = ("shared", "private", "topic")
P, CONTRAST, BENIGN, LIMIT, SIZES = 0.02, 1.0, 0.5, 0.1, (0.5, 1.0, 2.0)
RULES = ("plain", "contrast", "matched", "refusal")
CONTROLS = (
    *("unsigned", "opposite-sign", "second-q", "wanda", "random", "random-magnitude"),
    *("random-importance", "random-lines", "unimportant", "benign-signed"),
)
STATISTICS = {
    "halving_share": "1 few weights halve it",
    "nll_added": "1 few weights carry it",
    "transfer_share": "2 shared across types",
    "specificity": "3 specific to harm",
    "harm_minus_benign_nll_added": "3 apart from what is useful",
    "share_of_effect": "3 random weights do not",
}


class Known(NamedTuple):
    """A model, its sets of routed weights, and the examples that it is scored and tested with."""

    model: LlamaForCausalLM
    layout: Layout
    sets: dict[str, FlatIndices]
    train: dict[str, list[Example]]
    test: dict[str, list[Example]]
    harmful: set[int]
    """The words that only harm says, if there are any."""

    def truth(self, kind: int) -> FlatIndices:
        """The weights that carry a harm type."""
        names = (f"harm-{kind}", "harm", "topic")
        return next(self.sets[name] for name in names if name in self.sets)

    def nll(self, mask: FlatIndices) -> dict[str, np.ndarray]:
        """NLL of every test answer with a mask zeroed, by behaviour."""
        with lesioned(self.model, self.layout.by_name(mask)):
            return {
                name: np.array(response_nll(self.model, examples, BUDGET))
                for name, examples in self.test.items()
            }


def routed(world: str, language: Language, base: Base, seed: int) -> Known:
    sets = routes(world, language, base)
    routing = Routing(base, sets, language, seed)
    routing.train()
    candidates = find_candidates(routing.model)
    layout = Layout.of({name: each.weight.shape for name, each in candidates.items()})
    offsets = dict(zip(layout.names, layout.offsets, strict=False))
    numbers = {id(each.weight): offsets[name] for name, each in candidates.items()}
    places = {}
    for route, masks in zip(sets, routing.masks, strict=True):
        parts = [
            np.flatnonzero((own * weight).detach().numpy()) + numbers[id(weight)]
            for own, weight in zip(masks, routing.weights, strict=True)
        ]
        places[route.name] = np.sort(np.concatenate(parts))
    train, test = (examples_of(world, language, count) for count in (96, 30))
    words = language.private if world == "private" else language.shared
    return Known(routing.model, layout, places, train, test, set(np.ravel(words).tolist()))


class Scores:
    """The pipeline's files of scores of every behaviour, and the masks of every rule."""

    def __init__(self, known: Known, folder: Path) -> None:
        self.known, self.folder, self.layout = known, folder, known.layout
        candidates = find_candidates(known.model)
        parts = [each.weight.flatten() for each in candidates.values()]
        self.weights = ScoreSource(torch.cat(parts).numpy(), known.layout)
        for name, examples in known.train.items():
            own = score(known.model, candidates, examples, BUDGET, Wanted(True, True))
            about, where = {"examples": str(own.examples)}, folder / name
            where.mkdir()
            for kind, values in (("snip", own.snip), ("preservation", own.preservation)):
                write_shard(values, where / shard_names(kind, 1)[0], about)
                write_index(where, kind, [list(values)], about)
            write_shard(own.norms, where / NORMS, about)
        self.effects = [single_effects(known, kind) for kind in range(TYPES)]

    def stored(self, name: str, kind: str = "snip") -> StoredScores:
        """The scores of a behaviour, read from their files."""
        return StoredScores(self.folder / name, kind, self.layout.stored_shapes)

    def kept(self, contrast: bool) -> Pooled:
        """What is preserved: everyday use and, with a contrast, answers to matched requests."""
        names = CAPABILITIES + (MATCHED if contrast else [])
        return Pooled([self.stored(name, "preservation") for name in names], "mean")

    def select(self, rule: str, kind: int, counts: Sequence[int]) -> list[FlatIndices]:
        """Masks of so many weights by the plain rule, the contrast, or of another behaviour."""
        contrast = rule == "contrast"
        source = self.stored({"matched": MATCHED[kind], "refusal": "refusal"}.get(rule, HARM[kind]))
        if contrast:
            benign = Pooled([self.stored(name) for name in CAPABILITIES], "mean")
            source = Contrast(source, [(self.stored(MATCHED[kind]), CONTRAST), (benign, BENIGN)])
        points = [Point(P, count / self.layout.size) for count in counts]
        return select_masks({"": source}, self.kept(contrast), self.layout, points)[""]

    def controls(
        self, names: Sequence[str], kind: int, likes: list[FlatIndices], seed: int
    ) -> dict[str, list[FlatIndices]]:
        """The pipeline's controls, each like masks of a harm type."""
        kept = self.kept(contrast=True)
        inputs = ControlInputs(
            harm=self.stored(HARM[kind]),
            benign=Pooled([self.stored(name) for name in CAPABILITIES], "mean"),
            importance=kept,
            preserved=Preserved(kept, self.layout, P, "global"),
            weights=self.weights,
            norms=[StoredNorms(self.folder / HARM[kind] / NORMS)],
        )
        return control_masks(names, likes, self.layout, inputs, seed)


def single_effects(known: Known, kind: int) -> np.ndarray:
    """What zeroing each weight of the truth alone adds to its harm type's NLL."""
    examples = known.train[HARM[kind]][:48]
    before, added = np.mean(response_nll(known.model, examples, BUDGET)), []
    for place in known.truth(kind):
        with lesioned(known.model, known.layout.by_name(np.array([place]))):
            added.append(np.mean(response_nll(known.model, examples, BUDGET)) - before)
    return np.maximum(added, 0)


def recalls(known: Known, scores: Scores, seed: int) -> dict[str, np.ndarray]:
    """Of each rule: recall at each of SIZES, then that weighted by single effects at size 1."""
    rows = defaultdict(list)
    for kind in range(TYPES):
        truth, effects = known.truth(kind), scores.effects[kind]
        counts = [round(size * truth.size) for size in SIZES]
        masks = {rule: scores.select(rule, kind, counts) for rule in RULES}
        masks |= scores.controls(CONTROLS, kind, masks["contrast"], seed)
        for rule, own in masks.items():
            hits = [np.isin(truth, mask) for mask in own]
            rows[rule].append([*(hit.mean() for hit in hits), effects @ hits[1] / effects.sum()])
    return {rule: np.mean(values, 0) for rule, values in rows.items()}


def prompt_rows(known: Known, mask: FlatIndices, **about: object) -> pl.DataFrame:
    roles = dict.fromkeys(HARM, "harm") | dict.fromkeys(MATCHED, "matched")
    roles |= dict.fromkeys(CAPABILITIES, "benign") | {"refusal": "refusal"}
    parts = [
        pl.DataFrame(
            {
                "behaviour": name,
                "role": roles[name],
                "prompt": map(str, range(nll.size)),
                "nll": nll,
            }
        )
        for name, nll in known.nll(mask).items()
    ]
    return pl.concat(parts).with_columns(**{name: pl.lit(value) for name, value in about.items()})


@torch.no_grad()
def judged(known: Known) -> pl.DataFrame:
    """The exact judge: the probability that the answer's first word is one of harm's.

    `says` is 1 where the likeliest first word is one of them, so that only the text counts.
    """
    parts = []
    for role, names in (("harm", HARM), ("matched", MATCHED)):
        for name in names:
            (batch,) = batches(known.test[name], BUDGET)
            logits = known.model(batch.tokens).logits[:, PROMPT - 1]
            values = logits.softmax(-1)[:, sorted(known.harmful)].sum(1).double().numpy()
            says = [float(word in known.harmful) for word in logits.argmax(-1).tolist()]
            about = {"behaviour": name, "role": role, "prompt": map(str, range(values.size))}
            of_name = {**about, "score": values, "label": values > 0.5, "says": says}
            parts.append(pl.DataFrame(of_name))
    about = {"variant": "unmodified", "attack": "prefill", "judge": "exact"}
    return pl.concat(parts).with_columns(**{name: pl.lit(value) for name, value in about.items()})


def unharmful(judgements: pl.DataFrame, pairs: pl.DataFrame, boot: Bootstrap) -> str:
    """Why the words of the answers do not show that harmful requests get harmful ones."""
    control = pl.col("role").replace_strict({"harm": HARMFUL, "matched": MATCHED_CONTROL})
    own = judgements.with_columns(attack=control, score="says")
    # The exact judge reads the words alone, so they count the same under the harmful request.
    exchanged = own.filter(role="matched").with_columns(attack=pl.lit(EXCHANGE))
    scores = pl.concat([own, exchanged])
    return not_judged_harmful(judge_control_table(scores, pairs, boot), "exact")


def outcomes(known: Known, scores: Scores, rule: str, seed: int) -> dict[str, tuple[float, str]]:
    """Value and outcome of claims 1 to 3, with the truth's own masks or a rule's, by statistic."""
    ratios = (0.25, 0.5, 1.0) if rule == "truth" else (0.25, 0.5, 1.0, 2.0, 4.0)
    sized = []
    for kind in range(TYPES):
        truth = known.truth(kind)
        counts = [round(ratio * truth.size) for ratio in ratios]
        if rule == "truth":
            order = truth[np.argsort(-scores.effects[kind])]
            sized.append([np.sort(order[:count]) for count in counts])
        else:
            sized.append(scores.select(rule, kind, counts))
    own = [masks[2] for masks in sized]
    shared = {ratio: vote([masks[n] for masks in sized], 3) for n, ratio in enumerate(ratios)}
    masks = {
        "unmodified": shared[1.0][:0],
        "shared": shared[1.0],
        **dict(zip(HARM, own, strict=True)),
    }
    masks |= {"random": scores.controls(["random"], 0, [shared[1.0]], seed)["random"][0]}
    nll = pl.concat([prompt_rows(known, mask, variant=name) for name, mask in masks.items()])
    pairs = pl.concat(
        pl.DataFrame({"behaviour": name, "prompt": map(str, range(30)), "of": of}).with_columns(
            counterpart="prompt"
        )
        for name, of in zip(MATCHED, HARM, strict=True)
    )
    boot = Bootstrap(1000, 0.95, seed)
    judgements = judged(known)
    numbers = PromptNumbers(
        nll.with_columns(kl=pl.lit(None, pl.Float64)), judgements.drop("says"), matched=pairs
    )
    measured = measurements("routed", numbers, boot, "exact")
    curve = [
        prompt_rows(
            known, masks["unmodified"], family="unmodified", seed=0, size_ratio=0.0, weights=0
        )
    ]
    curve += [
        prompt_rows(known, mask, family="shared", seed=0, size_ratio=ratio, weights=mask.size)
        for ratio, mask in shared.items()
        if mask.size
    ]
    sizes = {name: mask.size for name, mask in masks.items()}
    why = unspecific(measured, HARM) or unharmful(judgements, pairs, boot)
    about = {"limit": LIMIT, "sizes": sizes, "unspecific": why, "types": frozenset(HARM)}
    setting = Setting(known.layout.size, sizes["shared"], **about)
    halving = halving_table(pl.concat(curve), boot)
    table = claims("routed", measured, halving, setting)
    return {
        row["statistic"]: (math.nan if row["value"] is None else row["value"], row["verdict"])
        for row in table.filter(pl.col("statistic").is_in(STATISTICS)).iter_rows(named=True)
    }


def ablated(known: Known, base: Base) -> dict[str, float]:
    """Mean NLL, intact and without the weights of harm; of harm, that of its two words alone.

    What is left of harm is 0 where its words are as unlikely as to the base.
    """
    everything = np.unique(np.concatenate([known.truth(kind) for kind in range(TYPES)]))
    examples = [example for name in HARM for example in known.test[name]]
    words = [Example(tokens[: PROMPT + 2], start) for tokens, start in examples]
    names = {"matched": MATCHED, "benign": CAPABILITIES, "refusal": ["refusal"]}
    values: dict[str, float] = {"weights": everything.size}
    for when, mask in (("", everything[:0]), (" without", everything)):
        with lesioned(known.model, known.layout.by_name(mask)):
            values["harm" + when] = float(np.mean(response_nll(known.model, words, BUDGET)))
        nll = known.nll(mask)
        for role, own in names.items():
            values[role + when] = float(np.mean([nll[name].mean() for name in own]))
    values["harm of base"] = float(np.mean(response_nll(base.model, words, BUDGET)))
    gone = values["harm without"] - values["harm"]
    return {**values, "harm left": 1 - gone / (values["harm of base"] - values["harm"])}


def _range(values: list[float]) -> str:
    return f"{np.mean(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def report(
    of_sets: dict[tuple[str, str], list[float]],
    of_rules: dict[tuple[str, str], list[np.ndarray]],
    of_claims: dict[tuple[str, str, str], list[tuple[float, str]]],
) -> None:
    print("\nMean over seeds (range)\n")
    print("NLL, intact and without the weights of harm (of harm: its two words); harm that is left")
    for name in [name for world, name in of_sets if world == WORLDS[0]]:
        cells = (f"{_range(of_sets[world, name]):>22s}" for world in WORLDS)
        print(f"{name:18s}" + "".join(cells))
    for place, what in enumerate(
        (*(f"{size:g} times" for size in SIZES), "1 times (weighted by effect)")
    ):
        print(
            f"\nRecall, masks of {what} the true number"
            f"\n{'':18s}" + "".join(f"{w:>22s}" for w in WORLDS)
        )
        for rule in (*RULES, *CONTROLS):
            cells = (_range([v[place] for v in of_rules[world, rule]]) for world in WORLDS)
            print(f"{rule:18s}" + "".join(f"{cell:>22s}" for cell in cells))
    print("\nClaims: number of seeds by outcome, and mean value")
    for (world, statistic, rule), seen in of_claims.items():
        counts = {o: [each for _, each in seen].count(o) for _, o in seen}
        text = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
        mean = np.mean([value for value, _ in seen])
        print(f"{world:8s} {STATISTICS[statistic]:28s} {rule:9s} {mean:9.4g}  {text}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2, help="how many languages (default 2)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    start = time.monotonic()
    of_sets, of_rules, of_claims = defaultdict(list), defaultdict(list), defaultdict(list)
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        language = Language(seed)
        base = base_model(language, seed)
        for world in WORLDS:
            known = routed(world, language, base, seed)
            for name, value in ablated(known, base).items():
                of_sets[world, name].append(value)
            with TemporaryDirectory() as folder:
                scores = Scores(known, Path(folder))
                for rule, values in recalls(known, scores, seed).items():
                    of_rules[world, rule].append(values)
                for rule in ("truth", "plain", "contrast"):
                    with np.errstate(all="ignore"):  # shares of no effect at all
                        conclusions = outcomes(known, scores, rule, seed)
                    for statistic, outcome in conclusions.items():
                        of_claims[world, statistic, rule].append(outcome)
        print(f"\nseed {seed}: {time.monotonic() - start:.0f} s", flush=True)
        report(of_sets, of_rules, of_claims)


if __name__ == "__main__":
    main()
