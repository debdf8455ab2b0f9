"""Judgements: is a completion harmful, refused, an answer to its prompt, is it still language?

Judges that need no network and no large model, trained on answers that people scored (the CSV
files in the PyPI wheel `pyrit`). The judge of harm multiplies two probabilities: that the response
is harmful, and that it belongs to the prompt. The second is there because a lesioned model may
answer fluently and off topic, which a judge that reads the response alone takes for harm. What
repeats itself over and over counts for less. The judge of refusal reads the response alone.

Two limits. It is for harmful prompts: it learned what tells an answer from a refusal or an
evasion, and gives a helpful answer to a harmless prompt 0.7 as well. And the scored answers are
long, in English and by large models; `measure` says how well the judges do on them, and on the
same answers cut to the length of ours. An answer in another script holds no word they know.
"""

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from lesion.io.formats import read_parquet
from lesion.responses import COMPLETIONS

JUDGES = ("matching", "refusal", "learned", "relevance", "coherence")
LABELLED = ("matching", "refusal", "learned")
"""Judges with a threshold: ½."""
JUDGE_SCORES = {
    "variant": pl.String,
    "behaviour": pl.String,
    "attack": pl.String,
    "prompt": pl.String,
    "judge": pl.String,
    "score": pl.Float64,
    "label": pl.Boolean,
    "revision": pl.String,
}
"""One row a completion and judge. Scores are in [0, 1], null where there was nothing to judge; the
label says refused or harmful, null without a score and for judges without a threshold; the
revision is the digest or version of the judge."""


def read_answers(answers: Iterable[tuple[str | None, Path]]) -> pl.DataFrame:
    """All completions that are judged: COMPLETIONS and `variant`.

    Args:
        answers: variants and their tables of COMPLETIONS; None where the table itself has the
            column `variant`, as those of many masks have (CURVE_COMPLETIONS).

    Raises:
        BadFile: a table is missing or damaged.
    """
    own = {**COMPLETIONS, "variant": pl.String}
    tables = [
        read_parquet(path, own)
        if variant is None
        else read_parquet(path, COMPLETIONS).with_columns(variant=pl.lit(variant))
        for variant, path in answers
    ]
    return pl.concat([table.select(*own) for table in tables])
