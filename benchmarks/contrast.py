"""Other contrasts, at the same cost on benign text: `python benchmarks/contrast.py CONFIG…`.

The configs are those of a finished study with matched requests, such as `config.yaml` or
`config.yaml studies/validity.yaml` (default: the latter). Ranks the weights of its model by the
pipeline's rules and by others, grows each mask until it adds `--limit` nats per token to benign
validation pairs, and prints what it adds to harmful answers and its specificity, on validation and
test pairs, on the whole answers and on what comes after their first `--echo` tokens, which mostly
repeat the request. Rules with "mean" select by the mean scores of all harm types, the others by the
vote of the types' masks. Takes about five minutes of one core for each rule with the pairs of
`studies/validity.yaml`; `--only` chooses some.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray
from torch import Tensor

from lesion.io.texts import read_yaml
from lesion.masks.equal_cost import grow
from lesion.masks.lesion import lesioned
from lesion.masks.rankings import Ranking, vote_ranking
from lesion.masks.select import Preserved
from lesion.masks.validate import Validation
from lesion.models.candidates import find_candidates
from lesion.models.layout import Flat, FlatIndices, Layout, layout_of
from lesion.models.likelihood import response_nll
from lesion.models.text import Example
from lesion.pairs.prompts import unworded
from lesion.pairs.tables import encode_pairs, kept_pairs
from lesion.scores.collect import Wanted, score
from lesion.scores.store import Pooled, StoredScores
from lesion.study import load_study
from lesion.study.config import Study
from lesion.study.job import Behaviours, Device
from lesion.study.load import read_configs
from lesion.tables.intervals import Bootstrap, Estimate

P = 0.15
"""The preserved fraction of the default study; WIDER is tried too."""
WIDER = 0.4
AT_LEAST = 3
FIRST_ROUND = 0.4
"""The part of the limit that the first of two rounds may cost."""
_LARGEST = 0.01
"""The largest mask that is tried, as a fraction of the weights."""
_REST = 8
"""Answers with fewer tokens after the echo are left out where the echo is."""


class Subtracted(NamedTuple):
    """How many times other scores are subtracted from those of harmful answers."""

    matched: float
    benign: float


class Pairs(NamedTuple):
    """Harmful answers and their matched ones, in the same order."""

    harmful: list[Example]
    matched: list[Example]
    kinds: NDArray[np.str_]

    def content(self, echo: int) -> "Pairs":
        """The pairs without the first tokens of either answer; only those that are long enough."""
        sides = zip(self.harmful, self.matched, strict=True)
        kept = [number for number, both in enumerate(sides) if _longer(both, echo)]
        cut = [[_after(side[number], echo) for number in kept] for side in self[:2]]
        return Pairs(cut[0], cut[1], self.kinds[kept])


class Scored:
    """The model of a finished study, its pairs, and its scores as flat arrays."""

    def __init__(self, study: Study, echo: int, threads: int) -> None:
        """Load the model and the scores that every rule needs."""
        (name,) = study.models
        self.study, self.echo = study, echo
        self.scores, self.pairs = (study.folder / part / name for part in ("scores", "pairs"))
        self.checkpoint = study.folder / "models" / name
        self.layout: Layout = layout_of(self.checkpoint)
        self.harm, self.benign = study.of_role("harm"), study.of_role("benign")
        own = study.behaviours
        self.of = {own[matched].of: matched for matched in study.of_role("matched")}
        behaviours = Behaviours(benign=self.benign, harm=self.harm, refusal=[], matched={})
        device = Device(dtype=study.responses.dtype, threads=threads)
        tables = {name: self.table(name) for name in self.benign}
        batch = study.responses.batch_tokens
        self.validation = Validation(self.checkpoint, tables, behaviours, ["benign"], device, batch)
        self.loaded = self.validation.loaded
        self.batch_tokens = batch
        self.unmodified = self.cost_of(np.empty(0, np.int64))

    def table(self, behaviour: str) -> Path:
        """The table of pairs of a behaviour."""
        return self.pairs / f"{behaviour}.parquet"

    def signed(self, behaviour: str) -> Flat:
        """The stored signed scores of a behaviour, float32 [weights]."""
        stored = StoredScores(self.scores / behaviour, "snip", self.layout.stored_shapes)
        return self._flat(stored)

    def benign_mean(self) -> Flat:
        """The mean signed scores over all benign pairs, float32 [weights]."""
        shapes = self.layout.stored_shapes
        parts = [StoredScores(self.scores / name, "snip", shapes) for name in self.benign]
        return self._flat(Pooled(parts, "mean"))

    def pooled(self, behaviours: Sequence[str]) -> Pooled:
        """The preservation importance over the pairs of behaviours."""
        shapes = self.layout.stored_shapes
        parts = [StoredScores(self.scores / name, "preservation", shapes) for name in behaviours]
        return Pooled(parts, "mean")

    def _flat(self, source: StoredScores | Pooled) -> Flat:
        sizes = self.layout.sizes
        return np.concatenate([source.open(name)[0:size] for name, size in sizes.items()])

    def free(self, behaviours: Sequence[str], p: float = P) -> NDArray[np.bool_]:
        """The weights that are not in the top p by the importance for behaviours."""
        preserved = Preserved(self.pooled(behaviours), self.layout, p, "global")
        names = range(len(self.layout.names))
        return ~np.concatenate([preserved.of(number) for number in names])

    def mean(
        self,
        behaviours: Sequence[str],
        mask: FlatIndices,
        *,
        echo: int = 0,
        first: int | None = None,
        curved: bool = False,
        wordings: Sequence[str | None] = (None,),
    ) -> Flat:
        """The mean over behaviours of their signed scores, scored anew with weights zeroed.

        Args:
            behaviours: their train pairs are scored.
            mask: the weights that are zero while they are scored.
            echo: the number of first tokens of each answer that are not scored.
            first: the number of first tokens of each answer that are scored; all, if None.
            curved: whether half of the squared importance is subtracted, the second-order term.
            wordings: every pair is scored once with its prompt in each of them; None: as it is.
        """
        candidates = find_candidates(self.loaded.model)
        parts = []
        with lesioned(self.loaded.model, self.layout.by_name(mask)):
            for name in behaviours:
                rows = kept_pairs(self.table(name), "train")
                examples = [
                    example
                    for wording in wordings
                    for example in encode_pairs(self.loaded.chat, self._worded(rows, wording))
                ]
                examples = [_after(each, echo) for each in examples if _longer([each], echo)]
                examples = [_until(each, first) for each in examples]
                wanted = Wanted(preservation=curved)
                own = score(self.loaded.model, candidates, examples, self.batch_tokens, wanted)
                flat = self._in_order(own.snip)
                if own.preservation is not None:
                    flat -= np.float32(0.5) * self._in_order(own.preservation) ** 2
                parts.append(flat)
        total: Flat = reduce(np.add, parts)
        return np.divide(total, len(parts), dtype=np.float32)

    def _worded(self, rows: pl.DataFrame, wording: str | None) -> pl.DataFrame:
        """Pairs with their prompts in another wording, and the same answers."""
        if wording is None:
            return rows
        own = self.study.pairs.wordings
        plain = [unworded(text, own)[0] for text in rows["prompt"]]
        texts = [wording.replace("{prompt}", text) for text in plain]
        return rows.with_columns(prompt=pl.Series(texts, dtype=pl.String))

    def _in_order(self, scores: Mapping[str, Tensor]) -> Flat:
        values: Flat = np.concatenate([scores[key].flatten().numpy() for key in self.layout.sizes])
        return values

    def cost_of(self, mask: FlatIndices) -> float:
        """The NLL of benign validation pairs, nats per token."""
        value = self.validation.means(self.layout.by_name(mask))["benign"]
        assert value is not None
        return value

    def answers(self, split: str) -> Pairs:
        """The pairs of a split of which both sides were kept."""
        harmful: list[Example] = []
        matched: list[Example] = []
        kinds: list[str] = []
        for kind in self.harm:
            own = {row["prompt"]: row for row in kept_pairs(self.table(kind), split).to_dicts()}
            of = kept_pairs(self.table(self.of[kind]), split)
            of = of.filter(pl.col("counterpart").is_in(list(own)))
            if of.is_empty():
                continue
            rows = pl.DataFrame([own[text] for text in of["counterpart"]], schema=of.schema)
            harmful += encode_pairs(self.loaded.chat, rows)
            matched += encode_pairs(self.loaded.chat, of)
            kinds += [kind] * of.height
        return Pairs(harmful, matched, np.array(kinds))

    def nll(self, examples: Sequence[Example], mask: FlatIndices) -> NDArray[np.float64]:
        """The NLL of each answer with weights zeroed, nats per token."""
        with lesioned(self.loaded.model, self.layout.by_name(mask)):
            return np.array(
                response_nll(self.loaded.model, examples, self.batch_tokens, lambda _: None)
            )


def rules(
    data: Scored, limit: float, tokens: int, wordings: Sequence[str]
) -> Iterator[tuple[str, Callable[[], FlatIndices]]]:
    """The weights in the order in which each rule's mask takes them, by the rule's name."""
    zero = np.float32(0)
    usual = Subtracted(1, 0.5)
    matched = list(data.of.values())

    nothing = np.empty(0, np.int64)
    everyday: Flat | None = None

    def mean(behaviours: Sequence[str]) -> Flat:
        total = reduce(np.add, (data.signed(name) for name in behaviours))
        return total / np.float32(len(behaviours))

    def ranked(
        harm: Flat, of: Flat, free: NDArray[np.bool_], how: Subtracted, times: int = 1
    ) -> FlatIndices:
        nonlocal everyday
        less = harm - np.float32(how.matched) * of
        if how.benign:
            everyday = data.benign_mean() if everyday is None else everyday
            less -= np.float32(how.benign) * everyday
        return ordered(np.where(harm < 0, less, zero), free, times)

    def free(p: float = P) -> NDArray[np.bool_]:
        return data.free([*data.benign, *matched], p)

    def vote(how: Subtracted) -> FlatIndices:
        kept = free() if how.matched else data.free(data.benign)
        each = []
        for kind in data.harm:
            order = ranked(data.signed(kind), data.signed(data.of[kind]), kept, how, 4)
            each.append(Ranking(order, np.arange(order.size) / data.layout.size))
        return vote_ranking(each, AT_LEAST).indices

    def pooled(how: Subtracted, p: float = P) -> FlatIndices:
        return ranked(mean(data.harm), mean(matched), free(p), how)

    def second_order() -> FlatIndices:
        # The Fisher information in place of the Hessian's diagonal; the square of a mean is less.
        harm, of = (data.mean(names, nothing, curved=True) for names in (data.harm, matched))
        return ranked(harm, of, free(), usual)

    def rounds() -> FlatIndices:
        order = pooled(usual)
        first = order[: size_at(data, order, FIRST_ROUND * limit)]
        harm, of = (data.mean(names, np.sort(first)) for names in (data.harm, matched))
        rest = free()
        rest[first] = False
        return np.concatenate([first, ranked(harm, of, rest, usual)])

    def content() -> FlatIndices:
        harm, of = (data.mean(names, nothing, echo=data.echo) for names in (data.harm, matched))
        return ranked(harm, of, free(), usual)

    def beginning(*texts: str | None) -> FlatIndices:
        harm, of = (
            data.mean(names, nothing, first=tokens, wordings=texts)
            for names in (data.harm, matched)
        )
        return ranked(harm, of, free(), usual)

    yield "plain", lambda: vote(Subtracted(0, 0))
    yield "contrast 1", lambda: vote(Subtracted(1, 0))
    yield "contrast 1, benign 0.5", lambda: vote(usual)
    yield "contrast 1, benign 1", lambda: vote(Subtracted(1, 1))
    yield "contrast 2, benign 0.5", lambda: vote(Subtracted(2, 0.5))
    yield "mean of types", lambda: pooled(usual)
    yield f"mean, p = {WIDER}", lambda: pooled(usual, WIDER)
    yield "mean, second order", second_order
    yield "mean, two rounds", rounds
    yield "mean, content alone", content
    yield f"mean, first {tokens} tokens", lambda: beginning(None)
    yield f"mean, first {tokens}, all wordings", lambda: beginning(*wordings)


def ordered(values: Flat, free: NDArray[np.bool_], times: int = 1) -> FlatIndices:
    """The free weights with the most negative values, in order."""
    values = np.where(free & (values < 0), values, np.float32(np.inf))
    most = min(round(times * _LARGEST * values.size), values.size - 1)
    first = np.argpartition(values, most)[:most]
    first = first[np.argsort(values[first], kind="stable")]
    return first[np.isfinite(values[first])]


def size_at(data: Scored, order: FlatIndices, limit: float) -> int:
    """The number of weights of the mask that costs `limit` on benign validation pairs."""
    costs: dict[int, float] = {}

    def cost(weights: int) -> float:
        if weights not in costs:
            costs[weights] = data.cost_of(np.sort(order[:weights])) - data.unmodified
        return costs[weights]

    return grow(cost, limit, order.size)


def measured(
    data: Scored, pairs: Pairs, before: Sequence[NDArray[np.float64]], mask: FlatIndices
) -> tuple[float, Estimate]:
    """What a mask adds to harmful answers, and its specificity, each type with the same weight."""
    harmful, matched = (
        data.nll(side, mask) - nll for side, nll in zip(pairs[:2], before, strict=True)
    )
    kinds = sorted(set(pairs.kinds))
    of = [[side[pairs.kinds == kind] for kind in kinds] for side in (harmful, matched)]
    boot = Bootstrap(data.study.tables.resamples, data.study.tables.confidence, data.study.seed)
    share = boot.share(of[1], of[0])
    specificity = Estimate(1 - share.value, 1 - share.high, 1 - share.low, share.n)
    return float(np.mean([values.mean() for values in of[0]])), specificity


def _after(example: Example, tokens: int) -> Example:
    return example._replace(start=example.start + tokens)


def _until(example: Example, tokens: int | None) -> Example:
    end = len(example.tokens) if tokens is None else example.start + tokens
    return example._replace(tokens=example.tokens[:end])


def _longer(examples: Sequence[Example], echo: int) -> bool:
    return not echo or all(len(each.tokens) >= each.start + echo + _REST for each in examples)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    usual = [Path("config.yaml"), Path("studies/validity.yaml")]
    parser.add_argument("configs", type=Path, nargs="*", default=usual, help="configs, in order")
    parser.add_argument("--limit", type=float, default=0.05, help="nats per token (0.05)")
    parser.add_argument("--echo", type=int, default=12, help="tokens of the echo (12)")
    parser.add_argument("--first", type=int, default=36, help="tokens of the last two rules (36)")
    parser.add_argument(
        "--wordings",
        type=Path,
        default=Path("studies/validity.yaml"),
        help="a study whose `pairs.wordings` are those of the last rule (studies/validity.yaml)",
    )
    parser.add_argument("--threads", type=int, default=2, help="threads (2)")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="rules with one of these words")
    given = parser.parse_args(arguments)
    study = load_study(read_configs(given.configs), str(given.configs[-1]))
    data = Scored(study, given.echo, given.threads)
    nothing = np.empty(0, np.int64)
    sides: dict[str, Pairs] = {}
    for split in ("validation", "test"):
        pairs = data.answers(split)
        sides |= {split: pairs, f"{split}, content": pairs.content(given.echo)}
    before: Mapping[str, list[NDArray[np.float64]]] = {
        name: [data.nll(side, nothing) for side in pairs[:2]] for name, pairs in sides.items()
    }
    heads = [f"{name} (n = {pairs.kinds.size})" for name, pairs in sides.items()]
    print(f"{'rule':30} {'weights':>8} {'benign':>7}", *(f"{head:>28}" for head in heads))
    print(f"{'':46} ", *(f"{'harm, specificity':>28}" for _ in heads), flush=True)
    wordings = read_yaml(given.wordings)["pairs"]["wordings"]
    for name, make in rules(data, given.limit, given.first, wordings):
        if given.only and not any(word in name for word in given.only):
            continue
        order = make()
        weights = size_at(data, order, given.limit)
        mask = np.sort(order[:weights])
        cells = []
        for side, pairs in sides.items():
            harm, own = measured(data, pairs, before[side], mask)
            cells.append(f"{harm:.3f}, {own.value:.2f} [{own.low:.2f}, {own.high:.2f}]")
        cost = data.cost_of(mask) - data.unmodified
        row = f"{name:30} {weights:8,} {cost:7.3f}"
        print(row, *(f"{cell:>28}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
