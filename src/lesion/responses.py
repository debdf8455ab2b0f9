"""Stage `responses`: what a variant answers on the test prompts, and how likely it finds the
held-out responses.
"""

import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from lesion.formats import digest, read_parquet
from lesion.masks.store import Mask, read_mask
from lesion.models.record import read_record
from lesion.pairs.tables import PAIRS
from lesion.progress import progress
from lesion.reuse import due, key, known_rows, write_rows

if TYPE_CHECKING:
    from lesion.models.load import Loaded

COMPLETIONS = {
    "behaviour": pl.String,
    "role": pl.String,
    "attack": pl.String,
    "prompt": pl.String,
    "prefill": pl.String,
    "completion": pl.String,
    "tokens": pl.Int64,
    "finished": pl.Boolean,
    "key": pl.String,
}
NLL = {
    "behaviour": pl.String,
    "role": pl.String,
    "prompt": pl.String,
    "nll": pl.Float64,
    "key": pl.String,
}


class Asking(NamedTuple):
    """How a variant is asked; benign prompts are put under the prefill, like their pairs."""

    attacks: list[str]
    prefill: str
    max_new_tokens: int
    benign_prompts: int
    batch_size: int
    batch_tokens: int
    dtype: str
    threads: int
    device_map: str | None


class _Subject:
    """The variant: loaded and lesioned only if some row is due."""

    def __init__(self, model: Path, mask: Mask | None, how: Asking) -> None:
        self.model, self.mask, self.how = model, mask, how
        places = {name: one.tolist() for name, one in mask.indices.items()} if mask else {}
        checkpoint = read_record(model)["digest"]
        self.identity = {"model": checkpoint, "mask": digest(places), "dtype": how.dtype}
        self._loaded: Loaded | None = None
        self._lesion: AbstractContextManager[None] | None = None

    def load(self) -> "Loaded":
        if self._loaded is None:
            # torch takes seconds to import; a job with nothing due, or one that only wants the
            # tables' columns, does without.
            from lesion.masks.lesion import lesioned
            from lesion.models.load import load

            self._loaded = load(self.model, self.how.dtype, self.how.threads, self.how.device_map)
            # Entered for good: the process serves one variant and ends. Held, because dropping it
            # would close it, and give the weights back.
            self._lesion = lesioned(self._loaded.model, self.mask.indices if self.mask else {})
            self._lesion.__enter__()
        return self._loaded


def respond_variant(
    model: Path,
    mask: Path | None,
    pairs: Mapping[str, Path],
    roles: Mapping[str, str],
    completions: Path,
    nll: Path,
    variant: str,
    how: Asking,
) -> None:
    """Write a variant's completions and NLLs; earlier versions of both give the unchanged rows.

    Args:
        model: checkpoint folder.
        mask: the variant's mask file; None for `intact`.
        pairs: table of pairs of every harm type and benign capability.
        roles: their roles.
        completions: table of COMPLETIONS, one row a test prompt and attack.
        nll: table of NLL, one row a kept test pair, in nats per response token.
        variant: its name, for messages.
        how: attacks and decoding.
    """
    subject = _Subject(model, read_mask(mask) if mask else None, how)
    tests = {
        name: read_parquet(path, PAIRS).filter(pl.col("split") == "test")
        for name, path in pairs.items()
    }
    _complete_all(subject, tests, roles, completions, variant)
    _measure_all(subject, tests, roles, nll, variant)


def _attacks(role: str, how: Asking) -> Sequence[str]:
    return how.attacks if role == "harm" else ["prefill"]


def _prompts(table: pl.DataFrame, role: str, how: Asking) -> list[str]:
    """Every harmful test prompt; of the benign ones as many as are asked for."""
    return table["prompt"].to_list()[: how.benign_prompts if role == "benign" else None]


def _complete_all(
    subject: _Subject,
    tests: Mapping[str, pl.DataFrame],
    roles: Mapping[str, str],
    out: Path,
    variant: str,
) -> None:
    how = subject.how
    asked = [
        (name, roles[name], attack, prompt, how.prefill if attack == "prefill" else "")
        for name, table in tests.items()
        for attack in _attacks(roles[name], how)
        for prompt in _prompts(table, roles[name], how)
    ]
    keys = [
        key(prompt=prompt, prefill=prefill, tokens=how.max_new_tokens, **subject.identity)
        for *_, prompt, prefill in asked
    ]
    known = known_rows(out, COMPLETIONS)
    todo = due(keys, known)
    made = _generate(subject, [asked[place] for place in todo], f"{variant}: completions")
    new = {keys[place]: one for place, one in zip(todo, made, strict=True)}
    rows = [
        (
            *question,
            *_content(new.get(one) or known[one], ("completion", "tokens", "finished")),
            one,
        )
        for question, one in zip(asked, keys, strict=True)
    ]
    print(f"{variant}: generated {len(todo)} of {len(rows)} completions", file=sys.stderr)
    write_rows(pl.DataFrame(rows, schema=COMPLETIONS, orient="row"), out)


def _content(row: Mapping[str, Any], names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(row[name] for name in names)


def _generate(
    subject: _Subject, asked: Sequence[tuple[str, str, str, str, str]], what: str
) -> list[dict[str, Any]]:
    if not asked:
        return []
    from lesion.models.generate import complete
    from lesion.models.text import encode_prompt

    model, tokenizer = subject.load()
    prompts = [encode_prompt(tokenizer, prompt, prefill) for *_, prompt, prefill in asked]
    how = subject.how
    with progress(what, len(prompts), "prompt") as advance:
        done = complete(model, tokenizer, prompts, how.max_new_tokens, how.batch_size, advance)
    return [
        {"completion": one.text, "tokens": one.tokens, "finished": one.finished} for one in done
    ]


def _measure_all(
    subject: _Subject,
    tests: Mapping[str, pl.DataFrame],
    roles: Mapping[str, str],
    out: Path,
    variant: str,
) -> None:
    kept = [
        table.filter(pl.col("outcome") == "kept").with_columns(behaviour=pl.lit(name))
        for name, table in tests.items()
    ]
    table = pl.concat(kept)
    keys = [
        key(
            response=row["response"],
            prompt=row["prompt"],
            prefill=row["prefill"],
            finished=row["finished"],
            **subject.identity,
        )
        for row in table.iter_rows(named=True)
    ]
    known = known_rows(out, NLL)
    todo = due(keys, known)
    made = _likelihoods(subject, table[todo], f"{variant}: NLL")
    new = {keys[place]: {"nll": one} for place, one in zip(todo, made, strict=True)}
    rows = [
        (
            row["behaviour"],
            roles[row["behaviour"]],
            row["prompt"],
            (new.get(one) or known[one])["nll"],
            one,
        )
        for row, one in zip(table.iter_rows(named=True), keys, strict=True)
    ]
    print(f"{variant}: measured {len(todo)} of {len(rows)} NLLs", file=sys.stderr)
    write_rows(pl.DataFrame(rows, schema=NLL, orient="row"), out)


def _likelihoods(subject: _Subject, pairs: pl.DataFrame, what: str) -> list[float]:
    if pairs.is_empty():
        return []
    from lesion.models.likelihood import response_nll
    from lesion.pairs.encode import encode_pairs

    loaded = subject.load()
    examples = encode_pairs(loaded, pairs)
    with progress(what, len(examples), "pair") as advance:
        return response_nll(loaded.model, examples, subject.how.batch_tokens, advance)
