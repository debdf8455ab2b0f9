"""What a variant answers on the test prompts, and how likely it finds the held-out responses."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from lesion.formats import read_parquet
from lesion.masks.store import read_mask
from lesion.pairs.tables import PAIRS
from lesion.progress import progress
from lesion.responses import COMPLETIONS, NLL
from lesion.responses.subject import Device, Subject
from lesion.reuse import due, key, known_rows, write_rows


class Asking(NamedTuple):
    """How a variant is asked; benign prompts are put under the prefill, like their pairs."""

    attacks: list[str]
    prefill: str
    max_new_tokens: int
    benign_prompts: int
    batch_size: int
    batch_tokens: int
    device: Device


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
    subject = Subject(model, read_mask(mask) if mask else None, how.device)
    tests = {
        name: read_parquet(path, PAIRS).filter(pl.col("split") == "test")
        for name, path in pairs.items()
    }
    _complete_all(subject, tests, roles, completions, variant, how)
    _measure_all(subject, tests, roles, nll, variant, how)


def _attacks(role: str, how: Asking) -> Sequence[str]:
    return how.attacks if role == "harm" else ["prefill"]


def _prompts(table: pl.DataFrame, role: str, how: Asking) -> list[str]:
    """Every harmful test prompt; of the benign ones as many as are asked for."""
    return table["prompt"].to_list()[: how.benign_prompts if role == "benign" else None]


def _complete_all(
    subject: Subject,
    tests: Mapping[str, pl.DataFrame],
    roles: Mapping[str, str],
    out: Path,
    variant: str,
    how: Asking,
) -> None:
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
    made = _generate(subject, [asked[place] for place in todo], f"{variant}: completions", how)
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
    subject: Subject, asked: Sequence[tuple[str, str, str, str, str]], what: str, how: Asking
) -> list[dict[str, Any]]:
    if not asked:
        return []
    from lesion.models.generate import complete
    from lesion.models.text import encode_prompt

    model, tokenizer = subject.load()
    prompts = [encode_prompt(tokenizer, prompt, prefill) for *_, prompt, prefill in asked]
    with progress(what, len(prompts), "prompt") as advance:
        done = complete(model, tokenizer, prompts, how.max_new_tokens, how.batch_size, advance)
    return [
        {"completion": one.text, "tokens": one.tokens, "finished": one.finished} for one in done
    ]


def _measure_all(
    subject: Subject,
    tests: Mapping[str, pl.DataFrame],
    roles: Mapping[str, str],
    out: Path,
    variant: str,
    how: Asking,
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
    made = _likelihoods(subject, table[todo], f"{variant}: NLL", how)
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


def _likelihoods(subject: Subject, pairs: pl.DataFrame, what: str, how: Asking) -> list[float]:
    if pairs.is_empty():
        return []
    from lesion.models.likelihood import response_nll
    from lesion.pairs.encode import encode_pairs

    loaded = subject.load()
    examples = encode_pairs(loaded, pairs)
    with progress(what, len(examples), "pair") as advance:
        return response_nll(loaded.model, examples, how.batch_tokens, advance)
