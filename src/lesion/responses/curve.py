"""Measurements for masks of one kind and growing size: NLL, and completions if requested."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import polars as pl

from lesion.io.formats import LesionError, digest, read_parquet
from lesion.io.progress import progress
from lesion.io.reuse import fill_rows, key, write_rows
from lesion.masks.curve import CURVE_MASKS
from lesion.models.layout import FlatIndices, layout_of
from lesion.pairs.tables import encode_pairs
from lesion.responses import (
    CURVE,
    CURVE_COMPLETIONS,
    completion_columns,
    first_rows,
    read_tests,
    sized,
)
from lesion.responses.jobs import Completing, CurveJob
from lesion.responses.variant import EvaluatedVariant

if TYPE_CHECKING:
    from lesion.models.load import Loaded


class _Size(NamedTuple):
    """One mask of the family, and its part of the rows' keys."""

    seed: int
    size_ratio: float
    weights: int
    indices: dict[str, FlatIndices]
    identity: dict[str, str]


def respond_family(
    job: CurveJob,
    model: Path,
    masks: Path,
    pairs: Sequence[Path],
    nll: Path,
    completions: Path | None,
) -> None:
    """Write a family's NLLs and completions; unchanged rows are reused from earlier versions.

    Args:
        job: family, batches, device and decoding.
        model: checkpoint folder.
        masks: table of CURVE_MASKS.
        pairs: tables of PAIRS, in the order of the job's `roles`.
        nll: table of CURVE, with a row for each mask and kept test pair, in nats per token.
        completions: table of CURVE_COMPLETIONS, with a row for each size and harmful test prompt;
            for random controls, only of the first draw. None if the job has no completions.

    Raises:
        LesionError: there is no mask of this family.
    """
    subject = EvaluatedVariant(model, None, job.device)
    sizes = _sizes(subject, masks, job.family)
    tests = read_tests(job.roles, pairs)
    if completions is not None and job.completing is not None:
        first = [size for size in sizes if size.seed == sizes[0].seed]
        completed = _completed(subject, first, tests, completions, job.family, job.completing)
        write_rows(completed, completions)
    write_rows(_measured(subject, sizes, tests, nll, job), nll)


def _sizes(subject: EvaluatedVariant, masks: Path, family: str) -> list[_Size]:
    table = read_parquet(masks, CURVE_MASKS).filter(pl.col("family") == family)
    if table.is_empty():
        raise LesionError(
            f"{masks}: has no mask of the family `{family}`. Add it to `curve.families`, or larger "
            "`curve.sizes`."
        )
    layout = layout_of(subject.model)
    sizes = []
    for row in table.sort("seed", "size_ratio").iter_rows(named=True):
        flat_indices = pl.Series(row["flat_indices"], dtype=pl.Int64).to_numpy()
        identity = {**subject.identity, "mask": digest(row["flat_indices"])}
        indices = layout.by_name(flat_indices)
        sizes.append(_Size(row["seed"], row["size_ratio"], flat_indices.size, indices, identity))
    return sizes


Item = TypeVar("Item")


def _by_size(
    subject: EvaluatedVariant, sizes: Sequence[_Size], items: Sequence[Item], todo: Sequence[int]
) -> Iterator[tuple["Loaded", list[Item]]]:
    """The model ablated at one size after another, with the items that it has to run.

    Args:
        subject: the model, which is loaded only once.
        sizes: its masks.
        items: prompts or pairs that the model runs at every size.
        todo: positions of the missing rows among the items of all sizes, in the order of sizes.
    """
    from lesion.masks.lesion import lesioned

    loaded = subject.load()
    for number, indices in groupby(todo, lambda index: index // len(items)):
        with lesioned(loaded.model, sizes[number].indices):
            yield loaded, [items[index % len(items)] for index in indices]


def _measured(
    subject: EvaluatedVariant, sizes: Sequence[_Size], tests: pl.DataFrame, out: Path, job: CurveJob
) -> pl.DataFrame:
    kept = first_rows(tests.filter(outcome="kept"), job.pairs)
    examples = encode_pairs(subject.chat, kept)
    pairs = kept.select("behaviour", "role", "prompt").rows(named=True)
    rows = [
        {
            "family": job.family,
            "seed": size.seed,
            "size_ratio": size.size_ratio,
            "weights": size.weights,
            **pair,
            "key": key(example=example, **size.identity),
        }
        for size in sizes
        for pair, example in zip(pairs, examples, strict=True)
    ]

    def make(todo: list[int]) -> list[dict[str, Any]]:
        from lesion.models.likelihood import response_nll

        with progress(f"{job.family}: NLL", len(todo), "pair") as advance:
            return [
                {"nll": nll}
                for loaded, chosen in _by_size(subject, sizes, examples, todo)
                for nll in response_nll(loaded.model, chosen, job.batch_tokens, advance)
            ]

    return fill_rows(rows, out, CURVE, make, f"{job.family}: measured {{}} of {{}} NLLs")


def _completed(
    subject: EvaluatedVariant,
    sizes: Sequence[_Size],
    tests: pl.DataFrame,
    out: Path,
    family: str,
    completing: Completing,
) -> pl.DataFrame:
    from lesion.models.text import encode_prompt

    harm = first_rows(tests.filter(role="harm"), completing.prompts)
    prompts = [encode_prompt(subject.chat, prompt, completing.prefill) for prompt in harm["prompt"]]
    questions = harm.select("behaviour", "role", "prompt", user_turn="prompt").rows(named=True)
    rows = [
        {
            "variant": sized(family, size.size_ratio),
            "weights": size.weights,
            **question,
            "attack": "prefill",
            "prefill": completing.prefill,
            "key": key(asked=tokens, tokens=completing.max_new_tokens, **size.identity),
        }
        for size in sizes
        for question, tokens in zip(questions, prompts, strict=True)
    ]

    def make(todo: list[int]) -> list[dict[str, Any]]:
        from lesion.models.generate import complete

        with progress(f"{family}: completions", len(todo), "prompt") as advance:
            return [
                completion_columns(completion)
                for loaded, chosen in _by_size(subject, sizes, prompts, todo)
                for completion in complete(
                    *loaded, chosen, completing.max_new_tokens, completing.batch_size, advance
                )
            ]

    log = f"{family}: generated {{}} of {{}} completions"
    return fill_rows(rows, out, CURVE_COMPLETIONS, make, log)
