"""What each setting of the authors' recipe does by itself: `python benchmarks/authors.py`.

After the default study: scores its harm types and capabilities by the plain rule (`masks.contrast:
0`), changes one setting at a time to that of the paper's authors (docs/explanation/authors.md),
and then all of them. Every row's mask has as many weights as the first row's, as nearly as a search
over q allows, so that only the choice of the weights differs; the
rows at the end have the authors' own p and q, and the first row's mask in a model without its
weights of refusal. Prints how far each mask agrees with the first row's, and the NLL that
it adds to harmful and benign test responses in the chat format, with 95% intervals over prompts.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from lesion.masks.algebra import vote
from lesion.masks.lesion import lesioned
from lesion.masks.select import Point, select_masks
from lesion.models.candidates import find_candidates
from lesion.models.layout import Flat, FlatIndices, Layout, layout_of
from lesion.models.likelihood import response_losses, response_nll
from lesion.models.load import Loaded, load
from lesion.models.text import Example, batches, encode_plain
from lesion.pairs.tables import encode_pairs, kept_pairs
from lesion.scores.collect import Wanted, score
from lesion.study import load_study, read_config
from lesion.study.attacks import RefusalAblation
from lesion.study.job import Device

P, Q, AT_LEAST = 0.15, 1.5e-4, 3
"""The first row: the plain rule that the default study had before the contrast."""
AUTHORS = Point(5e-5, 1e-5)
"""The authors' fractions, for Llama-3.1-8B-Instruct."""
PREFIX = 10
"""Tokens of an own harmful answer that the authors prefill."""
_FACTORS = (1 / 16, 1 / 4, 1, 4, 16, 64)
"""Multiples of Q between which a row's q is interpolated."""


class InMemory:
    """Scores in memory as a source to select from, flat float32 by parameter."""

    def __init__(self, scores: Mapping[str, Tensor], sign: int = 1) -> None:
        self.scores, self.sign = scores, sign

    def open(self, name: str) -> Flat:
        """The flat scores of a parameter."""
        values: Flat = self.sign * self.scores[name].flatten().numpy()
        return values


class Scored(NamedTuple):
    """The signed scores of each harm type, and the importance for all benign pairs."""

    snips: dict[str, InMemory]
    importance: InMemory


class Setting(NamedTuple):
    """How the masks of one row are made."""

    name: str
    scored: str
    scope: str = "global"
    rule: str = "budget"
    at_least: int = AT_LEAST


ROWS = [
    Setting("plain rule (first row)", "chat"),
    Setting("scope: matrix", "chat", scope="matrix"),
    Setting("rule: difference", "chat", rule="difference"),
    Setting("in all types' masks", "chat", at_least=5),
    Setting("text: plain", "plain"),
    Setting(f"prefill: {PREFIX} own tokens", "prefix"),
    Setting("all of these", "authors", "matrix", "difference", 5),
    Setting("sums in bf16, batch 1", "bf16"),
]

Encode = Callable[[Loaded, pl.DataFrame], list[Example]]


def in_chat(loaded: Loaded, pairs: pl.DataFrame) -> list[Example]:
    """Pairs as the study scores them."""
    return encode_pairs(loaded.chat, pairs)


def as_plain(loaded: Loaded, pairs: pl.DataFrame) -> list[Example]:
    """Pairs as `scores.text: plain` scores them."""
    rows = pairs.select("prompt", "prefill", "response").iter_rows()
    return [encode_plain(loaded.chat, *row) for row in rows]


def after_prefix(encode: Encode) -> Encode:
    """The same answers as if their first tokens had been prefilled, which are then not scored."""

    def encoded(loaded: Loaded, pairs: pl.DataFrame) -> list[Example]:
        examples = encode(loaded, pairs)
        return [
            Example(tokens, start + PREFIX)
            for tokens, start in examples
            if start + PREFIX < len(tokens)
        ]

    return encoded


def scored(
    loaded: Loaded,
    train: Mapping[str, pl.DataFrame],
    harm: Sequence[str],
    encode: Encode,
    budget: int,
) -> Scored:
    """Scores with sums in fp32, as the study makes them."""
    candidates = find_candidates(loaded.model)
    snips = {
        name: InMemory(score(loaded.model, candidates, encode(loaded, train[name]), budget).snip)
        for name in harm
    }
    benign = pl.concat(table for name, table in train.items() if name not in harm)
    wanted = Wanted(preservation=True)
    importance = score(loaded.model, candidates, encode(loaded, benign), budget, wanted)
    assert importance.preservation is not None
    return Scored(snips, InMemory(importance.preservation))


def scored_in_bf16(
    loaded: Loaded, train: Mapping[str, pl.DataFrame], harm: Sequence[str], encode: Encode
) -> Scored:
    """Scores whose gradients are summed in bf16, one pair at a time, by autograd itself."""
    candidates = find_candidates(loaded.model)
    loaded.model.requires_grad_(False)
    weights = {name: candidate.weight for name, candidate in candidates.items()}
    for weight in weights.values():
        weight.requires_grad_(True)

    def gradients(pairs: pl.DataFrame) -> Iterator[None]:
        for batch in batches(encode(loaded, pairs), 1):
            response_losses(loaded.model, batch).sum().backward()
            yield

    def products(signed: bool) -> dict[str, Tensor]:
        with torch.no_grad():
            each = {name: weight * weight.grad for name, weight in weights.items()}
            return {name: value if signed else value.abs() for name, value in each.items()}

    snips = {}
    for name in harm:
        for _ in gradients(train[name]):
            pass
        snips[name] = InMemory({key: value.float() for key, value in products(True).items()})
        loaded.model.zero_grad()
    total: dict[str, Tensor] = {}
    benign = pl.concat(table for name, table in train.items() if name not in harm)
    for _ in gradients(benign):
        own = products(False)
        total = {name: total[name] + value for name, value in own.items()} if total else own
        loaded.model.zero_grad()
    loaded.model.requires_grad_(False)
    return Scored(snips, InMemory({name: value.float() for name, value in total.items()}))


def shared_mask(
    scores: Scored, layout: Layout, setting: Setting, size: int | None
) -> tuple[float, FlatIndices]:
    """The shared mask at Q, or with the q whose size is nearest to `size`; and this q."""

    def masks(qs: Sequence[float]) -> list[FlatIndices]:
        points = [Point(P, q) for q in qs]
        made = select_masks(
            scores.snips, scores.importance, layout, points, rule=setting.rule, scope=setting.scope
        )
        numbers = range(len(points))
        return [
            vote([own[number] for own in made.values()], setting.at_least) for number in numbers
        ]

    if size is None:
        return Q, masks([Q])[0]

    tried = [Q * factor for factor in _FACTORS]
    sizes = [mask.size + 1 for mask in masks(tried)]
    # Sizes grow with q nearly by a power law.
    q = float(np.exp(np.interp(np.log(size + 1), np.log(sizes), np.log(tried))))
    return q, masks([q])[0]


def refusal_masks(
    loaded: Loaded, layout: Layout, pairs: pl.DataFrame, importance: InMemory, budget: int
) -> list[tuple[str, FlatIndices]]:
    """The weights of refusal as the attacks select them, by unsigned and by signed scores."""
    candidates = find_candidates(loaded.model)
    wanted = Wanted(preservation=True)
    scores = score(loaded.model, candidates, in_chat(loaded, pairs), budget, wanted)
    assert scores.preservation is not None
    ranks = {"unsigned": InMemory(scores.preservation, -1), "signed": InMemory(scores.snip)}
    how = RefusalAblation()
    point = Point(how.p, how.q)
    made = select_masks(ranks, importance, layout, [point], rule="difference", scope=how.scope)
    return [(rank, mask) for rank, (mask,) in made.items()]


class Tested(NamedTuple):
    """Test pairs of both roles, as tokens."""

    harm: list[Example]
    benign: list[Example]


def losses(
    loaded: Loaded, tested: Tested, layout: Layout, masks: Sequence[FlatIndices], budget: int
) -> list[NDArray[np.float64]]:
    """NLL of harmful and benign pairs with the masks zeroed, nats per token."""
    with ExitStack() as stack:
        for mask in masks:
            stack.enter_context(lesioned(loaded.model, layout.by_name(mask)))
        return [np.array(response_nll(loaded.model, list(side), budget)) for side in tested]


def with_interval(values: NDArray[np.float64]) -> str:
    """A mean and the 95% interval of its sampling error."""
    error = 1.96 * values.std(ddof=1) / np.sqrt(values.size)
    mean = values.mean()
    return f"{mean:+.3f} [{mean - error:+.3f}, {mean + error:+.3f}]"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=Path("config.yaml"))
    parser.add_argument("--pairs", type=int, help="train pairs of each behaviour; all by default")
    given = parser.parse_args()
    study = load_study(read_config(given.config))
    results, name = study.folder, next(iter(study.models))
    model, folder = results / "models" / name, results / "pairs" / name
    layout, budget = layout_of(model), study.scores.batch_tokens
    harm, benign = study.of_role("harm"), study.of_role("benign")
    train = {
        behaviour: kept_pairs(folder / f"{behaviour}.parquet", "train")[: given.pairs]
        for behaviour in (*harm, *benign)
    }
    refusals = pl.concat(
        kept_pairs(folder / f"{each}.parquet", "train") for each in study.of_role("refusal")
    )
    loaded = load(model, Device(dtype="auto", threads=study.threads))
    print(f"{name}: {layout.size} candidate weights, passes in {loaded.model.dtype}")

    def test(names: Sequence[str]) -> list[Example]:
        tables = [kept_pairs(folder / f"{each}.parquet", "test") for each in names]
        return encode_pairs(loaded.chat, pl.concat(tables))

    tested = Tested(test(harm), test(benign))
    intact = losses(loaded, tested, layout, [], budget)
    print(
        f"{len(tested.harm)} harmful and {len(tested.benign)} benign test pairs; NLL of the "
        f"unmodified model {intact[0].mean():.3f} and {intact[1].mean():.3f} nats per token"
    )
    makers: dict[str, Callable[[], Scored]] = {
        "chat": lambda: scored(loaded, train, harm, in_chat, budget),
        "plain": lambda: scored(loaded, train, harm, as_plain, budget),
        "prefix": lambda: scored(loaded, train, harm, after_prefix(in_chat), budget),
        "authors": lambda: scored_in_bf16(loaded, train, harm, after_prefix(as_plain)),
        "bf16": lambda: scored_in_bf16(loaded, train, harm, in_chat),
    }
    print(f"{'':28}       q  weights  Jaccard  share  {'harm NLL added':26}benign NLL added")
    first = np.empty(0, np.int64)

    def show(
        label: str,
        mask: FlatIndices,
        q: float,
        more: Sequence[FlatIndices] = (),
        before: Sequence[NDArray[np.float64]] = intact,
    ) -> None:
        common = np.intersect1d(first, mask).size
        union = first.size + mask.size - common
        after = losses(loaded, tested, layout, [*more, mask], budget)
        added = [with_interval(a - b) for a, b in zip(after, before, strict=True)]
        overlap = f"{common / max(1, union):9.3f}{common / max(1, first.size):7.0%}"
        print(f"{label:28}{q:8.2g}{mask.size:9}{overlap}  {added[0]:26}{added[1]}", flush=True)

    for scored_as, make in makers.items():
        known = make()
        for setting in (row for row in ROWS if row.scored == scored_as):
            q, mask = shared_mask(known, layout, setting, first.size or None)
            first = first if first.size else mask
            show(setting.name, mask, q)
        if scored_as != "chat":
            continue
        made = select_masks(
            known.snips, known.importance, layout, [AUTHORS], rule="difference", scope="matrix"
        )
        theirs = vote([masks[0] for masks in made.values()], AT_LEAST)
        show(f"p = {AUTHORS.p:g}, q = {AUTHORS.q:g}", theirs, AUTHORS.q)
        for rank, refusal in refusal_masks(loaded, layout, refusals, known.importance, budget):
            show(f"refusal, {rank}", refusal, RefusalAblation().q)
            without = losses(loaded, tested, layout, [refusal], budget)
            show("  first row on top of it", first, Q, [refusal], without)


if __name__ == "__main__":
    main()
