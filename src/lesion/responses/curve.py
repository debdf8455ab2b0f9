"""What a family of masks does as it grows: NLL, and completions if asked for, at every size."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from lesion.io.formats import LesionError, digest, read_parquet
from lesion.io.progress import progress
from lesion.io.reuse import key, known_rows, write_rows
from lesion.masks.curve import CURVE_MASKS
from lesion.models.layout import FlatIndices, layout_of
from lesion.pairs.tables import PAIRS, encode_pairs
from lesion.responses import CURVE, CURVE_COMPLETIONS, WRITTEN, written
from lesion.responses.subject import Subject
from lesion.study.job import Device

if TYPE_CHECKING:
    from lesion.models.load import Loaded
    from lesion.models.text import Example

logger = logging.getLogger(__name__)


class Completing(NamedTuple):
    """How harmful prompts are completed under the prefill: so many of each harm type."""

    prompts: int
    prefill: str
    max_new_tokens: int
    batch_size: int


class Measuring(NamedTuple):
    """How a family is measured: NLL on the first `pairs` of each behaviour, or on all (None).

    `completing` is None if no completions are asked for.
    """

    pairs: int | None
    batch_tokens: int
    device: Device
    completing: Completing | None


class _Size(NamedTuple):
    """One mask of the family, and what a row's key needs to know of it."""

    seed: int
    share: float
    weights: int
    indices: dict[str, FlatIndices]
    identity: dict[str, str]


def respond_family(
    model: Path,
    masks: Path,
    pairs: Mapping[str, Path],
    roles: Mapping[str, str],
    out: Path,
    completions: Path | None,
    family: str,
    how: Measuring,
) -> None:
    """Write a family's NLLs, and its completions; earlier versions give the unchanged rows.

    Args:
        model: checkpoint folder.
        masks: table of CURVE_MASKS.
        pairs: table of pairs of every harm type and benign capability.
        roles: their roles.
        out: table of CURVE, one row a mask and kept test pair, in nats per response token.
        completions: table of CURVE_COMPLETIONS, one row a size and harmful test prompt; of random
            families the first draw's alone. None if `how` asks for none.
        family: its name.
        how: batches, device and decoding.

    Raises:
        LesionError: there are no masks of this family.
    """
    subject = Subject(model, None, how.device)
    sizes = _sizes(subject, masks, family)
    tests = {
        name: read_parquet(path, PAIRS).filter(pl.col("split") == "test")
        for name, path in pairs.items()
    }
    if completions is not None and how.completing is not None:
        harm = {name: table for name, table in tests.items() if roles[name] == "harm"}
        first = [size for size in sizes if size.seed == sizes[0].seed]
        _complete_all(subject, first, harm, completions, family, how.completing)
    _measure_all(subject, sizes, tests, roles, out, family, how)


def _sizes(subject: Subject, masks: Path, family: str) -> list[_Size]:
    table = read_parquet(masks, CURVE_MASKS).filter(pl.col("family") == family)
    if table.is_empty():
        raise LesionError(
            f"{masks}: has no mask of the family `{family}`. Add it to `curve.families`, or larger "
            "`curve.sizes`."
        )
    layout = layout_of(subject.model)
    found = []
    for row in table.sort("seed", "share").iter_rows(named=True):
        places = pl.Series(row["places"], dtype=pl.Int64).to_numpy()
        identity = {**subject.identity, "mask": digest(row["places"])}
        indices = layout.by_name(places)
        found.append(_Size(row["seed"], row["share"], places.size, indices, identity))
    return found


@contextmanager
def _lesioned(subject: Subject, size: _Size) -> Iterator["Loaded"]:
    """The model without the mask's weights; loaded once, and given them back after."""
    from lesion.masks.lesion import lesioned

    loaded = subject.load()
    with lesioned(loaded.model, size.indices):
        yield loaded


def _due(
    keys: Sequence[Sequence[str]], known: Mapping[str, Any]
) -> list[tuple[int, dict[str, int]]]:
    """Of every size that lacks some: its number, and the place of each key that it lacks.

    What several sizes share, because they round to the same mask, is made once.
    """
    seen = set(known)
    found = []
    for number, own in enumerate(keys):
        lacking = {one: place for place, one in enumerate(own) if one not in seen}
        seen |= set(lacking)
        if lacking:
            found.append((number, lacking))
    return found


def _measure_all(
    subject: Subject,
    sizes: Sequence[_Size],
    tests: Mapping[str, pl.DataFrame],
    roles: Mapping[str, str],
    out: Path,
    family: str,
    how: Measuring,
) -> None:

    kept = [
        table.filter(pl.col("outcome") == "kept")[: how.pairs].with_columns(behaviour=pl.lit(name))
        for name, table in tests.items()
    ]
    table = pl.concat(kept)
    examples = encode_pairs(subject.chat, table)
    keys = [[key(example=one, **size.identity) for one in examples] for size in sizes]
    known = {one: row["nll"] for one, row in known_rows(out, CURVE).items()}
    due = _due(keys, known)
    known |= _likelihoods(subject, sizes, examples, due, f"{family}: NLL", how)
    rows = [
        {
            "family": family,
            "seed": size.seed,
            "share": size.share,
            "weights": size.weights,
            "behaviour": pair["behaviour"],
            "role": roles[pair["behaviour"]],
            "prompt": pair["prompt"],
            "nll": known[one],
            "key": one,
        }
        for size, own in zip(sizes, keys, strict=True)
        for pair, one in zip(table.iter_rows(named=True), own, strict=True)
    ]
    made = sum(len(lacking) for _, lacking in due)
    logger.info(f"{family}: measured {made} of {len(rows)} NLLs")
    write_rows(pl.DataFrame(rows, schema=CURVE), out)


def _likelihoods(
    subject: Subject,
    sizes: Sequence[_Size],
    examples: "Sequence[Example]",
    due: Sequence[tuple[int, Mapping[str, int]]],
    what: str,
    how: Measuring,
) -> dict[str, float]:
    if not due:
        return {}
    from lesion.models.likelihood import response_nll

    found: dict[str, float] = {}
    with progress(what, sum(len(lacking) for _, lacking in due), "pair") as advance:
        for number, lacking in due:
            chosen = [examples[place] for place in lacking.values()]
            with _lesioned(subject, sizes[number]) as loaded:
                losses = response_nll(loaded.model, chosen, how.batch_tokens, advance)
            found |= zip(lacking, losses, strict=True)
    return found


def _complete_all(
    subject: Subject,
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
        [key(asked=tokens, tokens=how.max_new_tokens, **size.identity) for tokens in prompts]
        for size in sizes
    ]
    known = known_rows(out, CURVE_COMPLETIONS)
    due = _due(keys, known)
    known |= _generate(subject, sizes, prompts, due, f"{family}: completions", how)
    rows = [
        {
            **{name: known[one][name] for name in WRITTEN},
            "variant": f"{family}@{size.share}",
            "weights": size.weights,
            "behaviour": name,
            "role": "harm",
            "attack": "prefill",
            "prompt": prompt,
            "asked": prompt,
            "prefill": how.prefill,
            "key": one,
        }
        for size, own in zip(sizes, keys, strict=True)
        for (name, prompt), one in zip(asked, own, strict=True)
    ]
    made = sum(len(lacking) for _, lacking in due)
    logger.info(f"{family}: generated {made} of {len(rows)} completions")
    write_rows(pl.DataFrame(rows, schema=CURVE_COMPLETIONS), out)


def _generate(
    subject: Subject,
    sizes: Sequence[_Size],
    prompts: Sequence[list[int]],
    due: Sequence[tuple[int, Mapping[str, int]]],
    what: str,
    how: Completing,
) -> dict[str, dict[str, Any]]:
    if not due:
        return {}
    from lesion.models.generate import complete

    found: dict[str, dict[str, Any]] = {}
    with progress(what, sum(len(lacking) for _, lacking in due), "prompt") as advance:
        for number, lacking in due:
            chosen = [prompts[place] for place in lacking.values()]
            with _lesioned(subject, sizes[number]) as loaded:
                done = complete(*loaded, chosen, how.max_new_tokens, how.batch_size, advance)
            for one, made in zip(lacking, done, strict=True):
                found[one] = written(made)
    return found
