"""What the model itself wrote of every judged answer, without the prefill, and its fluency.

An answer under a prefill begins with words that nobody but the study chose, so an outcome goes by
the rest alone. Fluency is measured by the unmodified model, whatever variant wrote the text.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from lesion.io.formats import write_parquet
from lesion.io.progress import progress
from lesion.io.reuse import fill_rows, key, write_rows
from lesion.judgements import read_answers
from lesion.judgements.coherence import repetition
from lesion.judgements.jobs import ContinuationsJob
from lesion.pairs.tables import kept_pairs
from lesion.responses import COMPLETIONS, WAS_RUN
from lesion.responses.variant import EvaluatedVariant

if TYPE_CHECKING:
    from lesion.models.text import Example

MISPLACED = "misplaced"
"""The role and the attack of benign answers that are given to another benign prompt."""

FLUENCY = {
    "variant": pl.String,
    "behaviour": pl.String,
    "role": pl.String,
    "attack": pl.String,
    "prompt": pl.String,
    "prefilled": pl.Boolean,
    "empty": pl.Boolean,
    "repetition": pl.Float64,
    "nll": pl.Float64,
    "key": pl.String,
}
"""One row for each answer, of its text after the prefill. `prefilled` says whether there is a
prefill; `empty` whether the text has no visible character, null where the prompt exceeded the
model's context and was not run. `nll` is that of the unmodified model in nats per token, given the
prompt and the prefill and without the end of the turn; it is null without a text."""


def write_continuations(
    job: ContinuationsJob,
    model: Path,
    pairs: Sequence[Path],
    answers: Sequence[Path],
    fluency: Path,
    continuations: Path,
) -> None:
    """Write the fluency of every answer, and the answers that have to be judged once more.

    Unchanged rows are reused from an earlier `fluency`.

    Args:
        job: variants, batches and device.
        model: checkpoint folder.
        pairs: tables of PAIRS, in the order of the job's `benign`.
        answers: tables of COMPLETIONS, in the order of the job's `variants`.
        fluency: table of FLUENCY, with a row for each answer and for each misplaced one.
        continuations: table of COMPLETIONS with the column `variant`: the answers under a prefill,
            without it.

    Raises:
        BadFile: a table is missing or damaged.
    """
    judged = read_answers(zip(job.variants, answers, strict=True))
    without = judged.filter(pl.col("prefill") != "").with_columns(prefill=pl.lit(""))
    write_parquet(without, continuations)
    kept = pl.concat(
        kept_pairs(path, "validation").with_columns(behaviour=pl.lit(name))
        for name, path in zip(job.benign, pairs, strict=True)
    )
    table = pl.concat([judged, misplaced_answers(kept)])
    write_rows(_measured(EvaluatedVariant(model, None, job.device), table, fluency, job), fluency)


def misplaced_answers(pairs: pl.DataFrame) -> pl.DataFrame:
    """Every prompt with the answer to another one, half of the table away.

    So most prompts get an answer to a request of another behaviour, if there are several of like
    size. A prompt whose own answer is the same text is left out.

    Args:
        pairs: PAIRS with `behaviour`.

    Returns:
        COMPLETIONS and `variant` (`unmodified`), with the role and the attack MISPLACED; the
        behaviour is that of the prompt. Empty if there is only one pair.
    """
    half = pairs.height // 2
    given = pairs.select(pl.col("response").alias("completion"), "finished", "token_ids")
    asked = pairs.select("behaviour", "prompt", "prefill", "response")
    table = asked.hstack(pl.concat([given[half:], given[:half]]))
    columns = table.filter(pl.col("completion") != pl.col("response")).with_columns(
        role=pl.lit(MISPLACED),
        attack=pl.lit(MISPLACED),
        user_turn="prompt",
        tokens=pl.lit(1, pl.Int64),
        key=pl.lit(""),
        variant=pl.lit("unmodified"),
    )
    return columns.select(*COMPLETIONS, "variant")


def _measured(
    subject: EvaluatedVariant, table: pl.DataFrame, out: Path, job: ContinuationsJob
) -> pl.DataFrame:
    texts = table.with_columns(was_run=WAS_RUN).rows(named=True)
    examples = [_example(subject, row) for row in texts]
    rows = [
        {
            **{name: row[name] for name in ("variant", "behaviour", "role", "attack", "prompt")},
            "prefilled": row["prefill"] != "",
            "empty": not row["completion"].strip() if row["was_run"] else None,
            "repetition": repetition(row["completion"]),
            "key": key(example=example, **subject.identity),
        }
        for row, example in zip(texts, examples, strict=True)
    ]

    def make(todo: list[int]) -> list[dict[str, float | None]]:
        from lesion.models.likelihood import response_nll

        chosen = {index: example for index in todo if (example := examples[index]) is not None}
        nlls: list[float] = []
        if chosen:
            loaded = subject.load().model
            with progress("fluency: NLL", len(chosen), "answer") as advance:
                nlls = response_nll(loaded, list(chosen.values()), job.batch_tokens, advance)
        nll_of = dict(zip(chosen, nlls, strict=True))
        return [{"nll": nll_of.get(index)} for index in todo]

    return fill_rows(rows, out, FLUENCY, make, "fluency: measured {} of {} NLLs")


def _example(subject: EvaluatedVariant, row: Mapping[str, Any]) -> "Example | None":
    """Tokens of an answer after its prompt and prefill; None if it is empty or does not fit.

    The end of the turn is left out, because most answers are cut off before it.
    """
    from lesion.models.text import encode_pair

    text, ids = row["completion"], row["token_ids"]
    if not text.strip():
        return None
    ids = ids[:-1] if ids and ids[-1] == subject.chat.end_of_turn else ids
    example = encode_pair(
        subject.chat, row["user_turn"], row["prefill"], text, finished=False, ids=ids
    )
    return example if len(example.tokens) <= subject.context else None
