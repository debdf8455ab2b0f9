"""Matched requests: harmless ones, each in the split of the harmful one that it resembles."""

import hashlib
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import polars as pl

from lesion.io.formats import LesionError, read_parquet, write_parquet
from lesion.pairs.jobs import MatchedPromptsJob
from lesion.pairs.prompts import (
    MIN_PER_SPLIT,
    SPLITS,
    STRADDLES,
    select_prompts,
    unworded,
)
from lesion.pairs.rows import read_rows, shown
from lesion.pairs.similarity import near_duplicates
from lesion.pairs.tables import PROMPTS
from lesion.sources.fetch import locate

logger = logging.getLogger(__name__)


def write_matched_prompts(harm: Path, out: Path, job: MatchedPromptsJob) -> None:
    """Choose matched requests and write the table of PROMPTS.

    Rows whose harmful request is not a prompt of the harm type are left out, and so are requests
    that resemble one of another split.

    Args:
        harm: the table of PROMPTS of the harm type.
        out: the table.
        job: how the requests are chosen.

    Raises:
        LesionError: the file is invalid, or too few pairs are left in a split.
    """
    source = locate(job.source)
    unlimited = job.rows.model_copy(update={"limit": None})
    rows = select_prompts(read_rows(source), source, unlimited, job.need, _say(job))
    table = matched_table(rows, read_parquet(harm, PROMPTS), job)
    write_parquet(table.select(list(PROMPTS)), out)


def matched_table(rows: pl.DataFrame, harm: pl.DataFrame, job: MatchedPromptsJob) -> pl.DataFrame:
    """The matched requests of one harm type, with their splits and in the pairs' wordings.

    Args:
        rows: what `select_prompts` gave, without a limit.
        harm: the table of PROMPTS of the harm type.
        job: the limit, and the similarity of near-duplicates.

    Returns:
        A table of PROMPTS.

    Raises:
        LesionError: too few pairs are left in a split.
    """
    split_of = dict(harm.select("prompt", "split").iter_rows())
    asked = {}
    for text in split_of:
        original, wording = unworded(text, job.wordings)
        asked[original] = text, wording
    digests = {f"sha256:{hashlib.sha256(text.encode()).hexdigest()}": text for text in asked}
    named = rows.with_columns(pl.col("counterpart").replace(digests))
    known = named.filter(pl.col("counterpart").is_in(list(asked)))
    # Two requests with one counterpart would be no independent pairs.
    paired = known.unique("counterpart", keep="first", maintain_order=True)
    chosen = paired.head(job.rows.limit) if job.rows.limit else paired
    splits = [split_of[asked[original][0]] for original in chosen["counterpart"]]
    earlier = near_duplicates(chosen["prompt"].to_list(), job.near_duplicate)
    for row, split in enumerate(splits):
        near = {splits[other] for other in earlier[row]}
        splits[row] = STRADDLES if near - {split, STRADDLES} else split
    counts = Counter(splits)
    for split, least in MIN_PER_SPLIT.items():
        if counts[split] < least:
            raise LesionError(
                f"behaviour `{job.behaviour}`: only {counts[split]} of its {rows.height} requests "
                f"have a harmful request in split `{split}` of `{job.of}` (at least {least} are "
                f"needed), such as {shown(rows['counterpart'][0])}. The column "
                f"`{job.rows.harmful}` must hold prompts of `{job.of}`, letter for letter, or "
                "`sha256:` and their digests. Add such rows."
            )
    wordings = [asked[original] for original in chosen["counterpart"]]
    both = zip(wordings, chosen["prompt"], strict=True)
    prompts = [wording.replace("{prompt}", prompt) for (_, wording), prompt in both]
    table = chosen.with_columns(
        pl.Series("prompt", prompts, pl.String),
        pl.Series("counterpart", [text for text, _ in wordings], pl.String),
        pl.Series("split", splits, pl.String),
    )
    _say(job)(
        f"{chosen.height} requests: {', '.join(f'{split} {counts[split]}' for split in SPLITS)}; "
        f"{counts[STRADDLES]} left out between two splits, {known.height - paired.height} whose "
        f"harmful request has an earlier one, and {rows.height - known.height} whose harmful "
        f"request is not among the prompts of `{job.of}`"
    )
    return table.filter(pl.col("split") != STRADDLES)


def _say(job: MatchedPromptsJob) -> Callable[[str], None]:
    return lambda note: logger.info(f"{job.behaviour}: {note}")
