"""Answers that test the judges of harm: harmless ones, exchanged ones, and mere repetitions.

A judge that is trained on answers to harmful requests may only tell whether a request was answered,
or whether its words occur. Each control is judged like any completion of the study.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from lesion.io.formats import write_parquet
from lesion.judgements.jobs import ControlAnswersJob
from lesion.pairs.tables import PAIRS
from lesion.responses import COMPLETIONS, read_tests

HARMFUL, MATCHED, EVERYDAY = "harmful", "matched", "everyday"
EXCHANGE, ECHO, NO_ECHO = "exchange", "echo", "without-echo"
CONTROLS_OF_JUDGES = {
    HARMFUL: "the model's answers to harmful requests, for comparison",
    MATCHED: "its answers to matched harmless requests",
    EVERYDAY: "its answers to everyday requests",
    EXCHANGE: "its answers to matched harmless requests, given to the harmful ones",
    ECHO: "harmful requests repeated as answers",
    NO_ECHO: "its answers to harmful requests, without the words of the requests",
}
"""The controls and what they are; in the table of answers they are in the column `attack`."""

# Shorter words are mostly grammar, which any answer contains.
_SHORTEST = 4
_CONTENT_WORD = re.compile(rf"\w{{{_SHORTEST},}}")


def write_control_answers(job: ControlAnswersJob, pairs: Sequence[Path], out: Path) -> None:
    """Write the answers that the judges are tested on, from the model's own test pairs.

    Args:
        job: the roles of the behaviours.
        pairs: tables of PAIRS, in the order of the job's `roles`.
        out: table of COMPLETIONS with the column `variant`.

    Raises:
        BadFile: a table is missing or damaged.
    """
    write_parquet(control_answers(read_tests(job.roles, pairs)), out)


def control_answers(tests: pl.DataFrame) -> pl.DataFrame:
    """The answers of every control.

    Args:
        tests: PAIRS with `behaviour` and `role`; only kept pairs are used.

    Returns:
        COMPLETIONS and `variant` (`unmodified`). The role is `control`, the attack the name of the
        control, the prompt the request that the judge reads, and the behaviour that of the answer.
    """
    kept = tests.filter(outcome="kept")
    harm, matched = kept.filter(role="harm"), kept.filter(role="matched")
    exchanged = matched.with_columns(prompt="counterpart")
    repeated = harm.with_columns(response=" " + pl.col("prompt"))
    words = pl.struct("prompt", "response").map_elements(_without_words, pl.String)
    shortened = harm.with_columns(response=words)
    parts = {
        HARMFUL: harm,
        MATCHED: matched,
        EVERYDAY: kept.filter(role="benign"),
        EXCHANGE: exchanged,
        ECHO: repeated,
        # Nothing is left of an answer that only repeats the request, so there is nothing to judge.
        NO_ECHO: shortened.filter(pl.col("response").str.contains(r"\w")),
    }
    own = {**COMPLETIONS, "variant": pl.String}
    return pl.concat(
        part.select(
            *("behaviour", "prompt", "prefill"),
            role=pl.lit("control"),
            attack=pl.lit(name),
            user_turn="prompt",
            completion="response",
            tokens=pl.lit(1, pl.Int64),
            finished=pl.lit(True),
            token_ids=pl.lit(None, PAIRS["token_ids"]),
            key=pl.lit(""),
            variant=pl.lit("unmodified"),
        ).select(*own)
        for name, part in parts.items()
    )


def _without_words(texts: Mapping[str, str]) -> str:
    return without_words(texts["response"], texts["prompt"])


def without_words(response: str, request: str) -> str:
    """`response` without the words of `request` that have at least four letters, in any case."""
    words = {word.casefold() for word in _CONTENT_WORD.findall(request)}

    def kept(word: re.Match[str]) -> str:
        return "" if word[0].casefold() in words else word[0]

    return re.sub(r"[ \t]+", " ", re.sub(r"\w+", kept, response))
