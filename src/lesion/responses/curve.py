"""Measurements for masks of one kind and growing size: NLL, and completions if requested."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby, product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import polars as pl

from lesion.io.formats import LesionError, digest, read_parquet
from lesion.io.progress import progress
from lesion.io.reuse import key, rows_of, write_rows
from lesion.masks.curve import CURVE_MASKS
from lesion.models.layout import FlatIndices, layout_of
from lesion.pairs.tables import PAIRS, encode_pairs
from lesion.responses import CURVE, CURVE_COMPLETIONS, WRITTEN, completion_columns, sized
from lesion.responses.jobs import Completing, CurveJob
from lesion.responses.variant import EvaluatedVariant

if TYPE_CHECKING:
    from lesion.models.load import Loaded
    from lesion.models.text import Example


class _Size(NamedTuple):
    """One mask of the family, and its part of the rows' keys."""

    seed: int
    share: float
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
    tests = {
        name: read_parquet(path, PAIRS).filter(pl.col("split") == "test")
        for name, path in zip(job.roles, pairs, strict=True)
    }
    if completions is not None and job.completing is not None:
        harm = {name: table for name, table in tests.items() if job.roles[name] == "harm"}
        first = [size for size in sizes if size.seed == sizes[0].seed]
        _complete_all(subject, first, harm, completions, job.family, job.completing)
    _measure_all(subject, sizes, tests, nll, job)


def _sizes(subject: EvaluatedVariant, masks: Path, family: str) -> list[_Size]:
    table = read_parquet(masks, CURVE_MASKS).filter(pl.col("family") == family)
    if table.is_empty():
        raise LesionError(
            f"{masks}: has no mask of the family `{family}`. Add it to `curve.families`, or larger "
            "`curve.sizes`."
        )
    layout = layout_of(subject.model)
    found = []
    for row in table.sort("seed", "share").iter_rows(named=True):
        flat_indices = pl.Series(row["flat_indices"], dtype=pl.Int64).to_numpy()
        identity = {**subject.identity, "mask": digest(row["flat_indices"])}
        indices = layout.by_name(flat_indices)
        found.append(_Size(row["seed"], row["share"], flat_indices.size, indices, identity))
    return found


@contextmanager
def _lesioned(subject: EvaluatedVariant, size: _Size) -> Iterator["Loaded"]:
    """The model with the mask's weights ablated inside the block; it is loaded only once."""
    from lesion.masks.lesion import lesioned

    loaded = subject.load()
    with lesioned(loaded.model, size.indices):
        yield loaded


Item = TypeVar("Item")


def _by_size(
    subject: EvaluatedVariant,
    sizes: Sequence[_Size],
    items: Sequence[Item],
    todo: Sequence[int],
    run: Callable[["Loaded", list[Item]], Sequence[dict[str, Any]]],
) -> list[dict[str, Any]]:
    """Compute the missing rows, size by size.

    Args:
        subject: the model.
        sizes: its masks.
        items: prompts or pairs that the model runs at every size.
        todo: positions of the missing rows among the items of all sizes, in the order of sizes.
        run: computes a row for each of the given items.
    """
    found: list[dict[str, Any]] = []
    for number, places in groupby(todo, lambda place: place // len(items)):
        with _lesioned(subject, sizes[number]) as loaded:
            found += run(loaded, [items[place % len(items)] for place in places])
    return found


def _measure_all(
    subject: EvaluatedVariant,
    sizes: Sequence[_Size],
    tests: Mapping[str, pl.DataFrame],
    out: Path,
    job: CurveJob,
) -> None:

    kept = [
        table.filter(pl.col("outcome") == "kept")[: job.pairs].with_columns(behaviour=pl.lit(name))
        for name, table in tests.items()
    ]
    table = pl.concat(kept)
    examples = encode_pairs(subject.chat, table)
    keys = [key(example=one, **size.identity) for size in sizes for one in examples]

    def make(todo: list[int]) -> list[dict[str, Any]]:
        from lesion.models.likelihood import response_nll

        with progress(f"{job.family}: NLL", len(todo), "pair") as advance:

            def run(loaded: "Loaded", chosen: "list[Example]") -> list[dict[str, Any]]:
                losses = response_nll(loaded.model, chosen, job.batch_tokens, advance)
                return [{"nll": loss} for loss in losses]

            return _by_size(subject, sizes, examples, todo, run)

    found = rows_of(keys, out, CURVE, make, f"{job.family}: measured {{}} of {{}} NLLs")
    places = product(sizes, table.iter_rows(named=True))
    rows = [
        {
            "family": job.family,
            "seed": size.seed,
            "share": size.share,
            "weights": size.weights,
            "behaviour": pair["behaviour"],
            "role": job.roles[pair["behaviour"]],
            "prompt": pair["prompt"],
            "nll": row["nll"],
            "key": one,
        }
        for (size, pair), row, one in zip(places, found, keys, strict=True)
    ]
    write_rows(pl.DataFrame(rows, schema=CURVE), out)


def _complete_all(
    subject: EvaluatedVariant,
    sizes: Sequence[_Size],
    harm: Mapping[str, pl.DataFrame],
    out: Path,
    family: str,
    how: Completing,
) -> None:
    from lesion.models.text import encode_prompt

    asked = [
        (name, prompt)
        for name, table in harm.items()
        for prompt in table["prompt"].head(how.prompts).to_list()
    ]
    prompts = [encode_prompt(subject.chat, prompt, how.prefill) for _, prompt in asked]
    keys = [
        key(asked=tokens, tokens=how.max_new_tokens, **size.identity)
        for size in sizes
        for tokens in prompts
    ]

    def make(todo: list[int]) -> list[dict[str, Any]]:
        from lesion.models.generate import complete

        with progress(f"{family}: completions", len(todo), "prompt") as advance:

            def run(loaded: "Loaded", chosen: list[list[int]]) -> list[dict[str, Any]]:
                done = complete(*loaded, chosen, how.max_new_tokens, how.batch_size, advance)
                return [completion_columns(one) for one in done]

            return _by_size(subject, sizes, prompts, todo, run)

    log = f"{family}: generated {{}} of {{}} completions"
    found = rows_of(keys, out, CURVE_COMPLETIONS, make, log)
    rows = [
        {
            **{part: row[part] for part in WRITTEN},
            "variant": sized(family, size.share),
            "weights": size.weights,
            "behaviour": name,
            "role": "harm",
            "attack": "prefill",
            "prompt": prompt,
            "asked": prompt,
            "prefill": how.prefill,
            "key": one,
        }
        for (size, (name, prompt)), row, one in zip(product(sizes, asked), found, keys, strict=True)
    ]
    write_rows(pl.DataFrame(rows, schema=CURVE_COMPLETIONS), out)
