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
from lesion.responses.attacks import PLACEHOLDER, Attack, put
from lesion.responses.subject import Device, Subject
from lesion.reuse import due, key, known_rows, write_rows


class Asking(NamedTuple):
    """How a variant is asked; benign prompts are put under the prefill, like their pairs.

    Without attacks nothing is completed, and no divergence measured.
    """

    attacks: Mapping[str, Attack]
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
        pairs: table of pairs of every behaviour; those of role `refusal` are not completed.
        roles: their roles.
        completions: table of COMPLETIONS, one row a test prompt and attack.
        nll: table of NLL, one row a kept test pair, in nats per response token.
        variant: its name, for messages.
        how: attacks and decoding.

    Raises:
        LesionError: the table of an attack lacks a test prompt; before the model is loaded.
    """
    subject = Subject(model, read_mask(mask) if mask else None, how.device)
    tests = {
        name: read_parquet(path, PAIRS).filter(pl.col("split") == "test")
        for name, path in pairs.items()
    }
    _complete_all(subject, tests, roles, completions, variant, how)
    _measure_all(subject, tests, roles, nll, variant, how)


class _Question(NamedTuple):
    """One row of COMPLETIONS before its answer."""

    behaviour: str
    role: str
    attack: str
    prompt: str
    asked: str
    prefill: str


def _attacks(role: str, how: Asking) -> Mapping[str, Attack]:
    return how.attacks if role == "harm" else {"prefill": Attack(PLACEHOLDER, how.prefill)}


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
    questions = _questions(tests, roles, how)
    keys = [
        key(prompt=one.asked, prefill=one.prefill, tokens=how.max_new_tokens, **subject.identity)
        for one in questions
    ]
    known = known_rows(out, COMPLETIONS)
    todo = due(keys, known)
    made = _generate(subject, [questions[place] for place in todo], f"{variant}: completions", how)
    new = {keys[place]: one for place, one in zip(todo, made, strict=True)}
    rows = [
        (
            *question,
            *_content(new.get(one) or known[one], ("completion", "tokens", "finished")),
            one,
        )
        for question, one in zip(questions, keys, strict=True)
    ]
    print(f"{variant}: generated {len(todo)} of {len(rows)} completions", file=sys.stderr)
    table = pl.DataFrame(rows, schema=COMPLETIONS, orient="row")
    _count_unasked(table, variant)
    write_rows(table, out)


def _questions(
    tests: Mapping[str, pl.DataFrame], roles: Mapping[str, str], how: Asking
) -> list[_Question]:
    found = []
    for name, table in tests.items():
        role = roles[name]
        if role == "refusal":
            continue
        prompts = _prompts(table, role, how)
        for attack, one in _attacks(role, how).items():
            turns = zip(prompts, put(attack, one, prompts), strict=True)
            found += [_Question(name, role, attack, *turn, one.prefill) for turn in turns]
    return found


def _count_unasked(table: pl.DataFrame, variant: str) -> None:
    """Log, by attack, the prompts that did not fit the model's context."""
    unasked = table.filter((pl.col("tokens") == 0) & ~pl.col("finished"))
    for (attack,), rows in unasked.group_by("attack", maintain_order=True):
        print(
            f"{variant}: {attack}: {rows.height} prompts and their answers do not fit the model's "
            "context; not asked",
            file=sys.stderr,
        )


def _content(row: Mapping[str, Any], names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(row[name] for name in names)


def _generate(
    subject: Subject, questions: Sequence[_Question], what: str, how: Asking
) -> list[dict[str, Any]]:
    if not questions:
        return []
    from lesion.models.generate import complete
    from lesion.models.text import encode_prompt

    model, tokenizer = subject.load()
    prompts = [encode_prompt(tokenizer, one.asked, one.prefill) for one in questions]
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
    # Of a variant that answers nothing, the NLL alone is asked for.
    compared = [bool(how.attacks) and roles[name] == "benign" for name in table["behaviour"]]
    keys = [
        key(
            response=row["response"],
            prompt=row["prompt"],
            prefill=row["prefill"],
            finished=row["finished"],
            kl=kl,
            **subject.identity,
        )
        for row, kl in zip(table.iter_rows(named=True), compared, strict=True)
    ]
    known = known_rows(out, NLL)
    todo = due(keys, known)
    chosen = [compared[place] for place in todo]
    made = _likelihoods(subject, table[todo], chosen, f"{variant}: NLL", how)
    new = {keys[place]: one for place, one in zip(todo, made, strict=True)}
    rows = [
        (
            row["behaviour"],
            roles[row["behaviour"]],
            row["prompt"],
            *_content(new.get(one) or known[one], ("nll", "kl")),
            one,
        )
        for row, one in zip(table.iter_rows(named=True), keys, strict=True)
    ]
    print(f"{variant}: measured {len(todo)} of {len(rows)} NLLs", file=sys.stderr)
    write_rows(pl.DataFrame(rows, schema=NLL, orient="row"), out)


def _likelihoods(
    subject: Subject, pairs: pl.DataFrame, compared: Sequence[bool], what: str, how: Asking
) -> list[dict[str, Any]]:
    """NLL of every pair, and the KL of those `compared`, for which the intact model runs too."""
    if pairs.is_empty():
        return []
    from lesion.models.likelihood import response_kl, response_nll
    from lesion.pairs.encode import encode_pairs

    loaded = subject.load()
    examples = encode_pairs(loaded, pairs)
    both = [place for place, kl in enumerate(compared) if kl and subject.mask is not None]
    one = sorted(set(range(len(examples))) - set(both))
    with progress(what, len(examples), "pair") as advance:
        nlls = response_nll(
            loaded.model, [examples[place] for place in one], how.batch_tokens, advance
        )
        kls = response_kl(
            loaded.model,
            subject.intact,
            [examples[place] for place in both],
            how.batch_tokens,
            advance,
        )
    # The intact model does not diverge from itself.
    found = {
        place: {"nll": nll, "kl": 0.0 if compared[place] else None}
        for place, nll in zip(one, nlls, strict=True)
    }
    found |= {place: pair._asdict() for place, pair in zip(both, kls, strict=True)}
    return [found[place] for place in range(len(examples))]
