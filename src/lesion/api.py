"""The library for notebooks and scripts: `import lesion` gives what is here, under short names.

It runs the code that the pipeline's jobs run, on a model that is in memory, with nothing on disk.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from lesion.io.formats import LesionError
from lesion.io.progress import progress
from lesion.masks.algebra import vote
from lesion.masks.lesion import lesioned
from lesion.masks.overlap import Overlap, overlaps
from lesion.masks.select import Point, select_masks
from lesion.masks.store import Mask, read_mask, write_mask
from lesion.models.candidates import find_candidates
from lesion.models.chat_format import chat_of
from lesion.models.layout import Flat, FlatIndices, Layout
from lesion.models.text import encode_pair
from lesion.scores.collect import Wanted
from lesion.scores.collect import score as collect
from lesion.study.types import Ablation, Scope, SelectionRule

Role = Literal["harm", "other"]


class PairScores(NamedTuple):
    """Scores of every candidate weight for some pairs of prompt and response."""

    signed: dict[str, Tensor]
    """`W * dL/dW`, float32, shaped like the weight, by the parameter's name. The most negative
    weights are those that the responses depend on."""
    importance: dict[str, Tensor] | None
    """Mean over the pairs of `|W * dL(x)/dW|`, if it was asked for."""
    transposed: tuple[str, ...]
    """Weights that are stored as [inputs, outputs] (GPT-2's)."""
    loss: float
    """Mean NLL of the responses, in nats per token."""
    pairs: int
    """Number of pairs."""


class ModelMask(Mask):
    """A mask: the weights, by parameter, that are set to zero."""

    @classmethod
    def load(cls, path: str | Path) -> "ModelMask":
        """Read a mask's file, also one that a study wrote.

        Raises:
            BadFile: it is missing or damaged.
        """
        return cls(*read_mask(Path(path)))

    def save(self, path: str | Path) -> None:
        """Write a file of some kilobytes, which `load`, `lesion show` and `lesion overlap` read."""
        write_mask(self.flat(), self.shapes, self.metadata, Path(path))

    def overlap(self, other: Mask) -> Overlap:
        """How many weights both have, compared with chance under three null models.

        Raises:
            LesionError: the masks are of models of different shapes.
        """
        if self.shapes != other.shapes:
            raise LesionError("only masks of one model can be compared, and their shapes differ")
        compared = overlaps({"a": self.flat(), "b": other.flat()}, Layout.of(self.shapes))
        return compared["a", "b"]

    def apply(self, base: str | Path, out: str | Path) -> None:
        """Write a checkpoint folder: the base's own files, with zeros at the mask's weights.

        Args:
            base: a folder with safetensors.
            out: the new folder.

        Raises:
            LesionError: the mask is not of role harm, or does not fit the base's files.
            BadFile: the written bytes are not the expected ones.
        """
        from lesion.checkpoints.write import copy_zeroed
        from lesion.io.formats import atomic

        if self.metadata.get("role") != "harm":
            raise LesionError(
                "only masks of role harm can be written as checkpoints; `ablated` works with all"
            )
        with atomic(Path(out)) as part:
            copy_zeroed(Path(base), self, part)


def score_pairs(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Mapping[str, str]],
    *,
    importance: bool = False,
    prefill: str = "",
    batch_tokens: int = 512,
) -> PairScores:
    """Score every candidate weight of a model in memory, in one forward and backward pass.

    Args:
        model: a decoder of transformers, in any precision, on any devices; its parameters'
            `requires_grad` is switched off. Without adapters: merge or unload them first.
        tokenizer: whose chat template, if there is one, the pairs are put into.
        pairs: `prompt` and `response` of each, and `prefill` where it differs.
        importance: whether to collect the importance of each weight too, by which benign pairs say
            what to preserve.
        prefill: the beginning of the answer, which is not scored.
        batch_tokens: padded tokens in a batch; fewer need less memory.

    Raises:
        LesionError: a pair lacks a text, the model's kind is not supported, or a score is not
            finite.

    Source:
        Orgad et al. 2026 (arXiv 2604.09544); Wei et al. 2024 (arXiv 2402.05162).
    """
    if hasattr(model, "peft_config"):
        raise LesionError(
            "the model has adapters, whose weights would be scored too: score what "
            "`model.merge_and_unload()` or `model.unload()` returns"
        )
    chat, examples = chat_of(tokenizer), []
    for number, pair in enumerate(pairs):
        lacking = [name for name in ("prompt", "response") if not pair.get(name)]
        if lacking:
            raise LesionError(f"pair {number} has no `{lacking[0]}`")
        begin = pair.get("prefill", prefill)
        examples.append(encode_pair(chat, pair["prompt"], begin, pair["response"], finished=True))
    candidates = find_candidates(model)
    training = model.training
    model.eval()
    try:
        with progress("scores", len(examples), "pair") as advance:
            wanted = Wanted(preservation=importance)
            collected = collect(model, candidates, examples, batch_tokens, wanted, advance=advance)
    finally:
        model.train(training)
    turned = tuple(name for name, candidate in candidates.items() if candidate.transposed)
    return PairScores(
        collected.snip, collected.preservation, turned, collected.loss, collected.examples
    )


def select_mask(
    harm: PairScores | Sequence[PairScores],
    *,
    preserve: PairScores,
    p: float,
    q: float,
    minus: Sequence[tuple[PairScores, float]] = (),
    at_least: int | None = None,
    rule: SelectionRule = "budget",
    scope: Scope = "global",
    role: Role = "harm",
) -> ModelMask:
    """Select the weights that harmful responses depend on, and benign ones do not.

    Args:
        harm: scores of harmful pairs; of several harm types, the weights that several share.
        preserve: scores of benign pairs, with their importance.
        p: fraction of the weights that is preserved, by importance.
        q: fraction of the weights that is selected for each harm type.
        minus: signed scores to subtract, each times a number: those of matched harmless answers
            times 1, so that weights of the topic are not selected, and of everyday ones times 0.5.
        at_least: how many of the harm types must select a weight; more than half, if None.
        rule: `budget` excludes the top p and then selects q; `difference` selects q and then
            removes the top p.
        scope: what the fractions are of: all weights, each matrix, or each row.
        role: what the mask is of. Only masks of harm can be written as checkpoints.

    Raises:
        LesionError: a q selects nothing, too few weights promote the responses, or scores are of
            different models.
    """
    several = [harm] if isinstance(harm, PairScores) else list(harm)
    if not several:
        raise LesionError("there are no scores to select by")
    if preserve.importance is None:
        raise LesionError("`preserve` has no importance: score its pairs with `importance=True`")
    shapes = {name: tuple(part.shape) for name, part in several[0].signed.items()}
    for other in (*several, preserve, *(scores for scores, _ in minus)):
        if {name: tuple(part.shape) for name, part in other.signed.items()} != shapes:
            raise LesionError("the scores are of different models")
    layout = Layout.of(shapes, several[0].transposed)
    own = select_masks(
        {
            str(number): _InMemory(scores.signed, [(other.signed, by) for other, by in minus])
            for number, scores in enumerate(several)
        },
        _InMemory(preserve.importance),
        layout,
        [Point(p, q)],
        rule=rule,
        scope=scope,
    )
    least = len(several) // 2 + 1 if at_least is None else at_least
    shared = vote([masks[0] for masks in own.values()], least)
    facts = {"mask": "shared", "role": role, "rule": rule, "scope": scope}
    facts |= {"p": f"{p:g}", "q": f"{q:g}", "at_least": str(least)}
    return ModelMask(layout.by_name(shared), shapes, facts)


class _InMemory:
    """Scores in memory, as `select_masks` reads those on disk; see `lesion.scores.store.Contrast`
    for what is subtracted.
    """

    def __init__(
        self,
        scores: Mapping[str, Tensor],
        minus: Sequence[tuple[Mapping[str, Tensor], float]] = (),
    ) -> None:
        self.scores, self.minus = scores, minus

    def open(self, name: str) -> Flat:
        """The scores of a parameter."""
        flat = _flat(self.scores[name])
        if not self.minus:
            return flat
        less = sum((_flat(own[name]) * np.float32(by) for own, by in self.minus), np.float32(0))
        # Only weights that promote the responses can be selected.
        kept: Flat = np.where(flat < 0, flat - less, np.float32(0))
        return kept


def _flat(scores: Tensor) -> Flat:
    flat: Flat = scores.detach().to("cpu", torch.float32).reshape(-1).numpy()
    return flat


@contextmanager
def ablated(model: nn.Module, mask: Mask, ablation: Ablation = "zero") -> Iterator[nn.Module]:
    """Inside the block, the mask's weights of a model are zero; then they are what they were.

    It works in place and without a copy, in any precision, on several devices, and with adapters of
    peft attached, which stay as they are.

    Args:
        model: the model that the mask was made of.
        mask: from `select`, or loaded.
        ablation: `zero`; `mean`, the mean of the weights of their matrix; or a number by which they
            are multiplied.

    Raises:
        LesionError: the mask does not fit the model.
    """
    with lesioned(model, _named_as_in(model, mask.indices), ablation):
        yield model


def _named_as_in(model: nn.Module, indices: Mapping[str, FlatIndices]) -> Mapping[str, FlatIndices]:
    """The mask by the names that the model's weights have below peft's wrappers."""
    if not hasattr(model, "peft_config"):
        return indices
    names = {
        name.removeprefix("base_model.model.").replace(".base_layer.", "."): name
        for name, _ in model.named_parameters(remove_duplicate=False)
    }
    return {names.get(name, name): own for name, own in indices.items()}
