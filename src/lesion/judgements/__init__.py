"""Judgements: is a completion harmful, does it answer its prompt, is it still language?

A judge that needs no network and no large model. It is trained on answers that people scored
(the CSV files in the PyPI wheel `pyrit`) and multiplies two probabilities: that the response is
harmful, and that it belongs to the prompt. The second is there because a lesioned model may
answer fluently and off topic, which a judge that reads the response alone takes for harm.

    judge = train(Path("scorer_evals"), Path("all-MiniLM-L6-v2"), seed=0)
    judge.score(prompts, responses).harmful

Two limits. It is for harmful prompts: it learned what tells an answer from a refusal or an
evasion, and gives a helpful answer to a harmless prompt 0.7 as well. And the scored answers are
long and by large models; `measure` says how well the judge does on them, and on the same answers
cut to the length of ours.
"""

import polars as pl

from lesion.judgements.agreement import measure
from lesion.judgements.coherence import coherence, repetition
from lesion.judgements.learned import BadJudge, JudgeScores, LearnedJudge, train

JUDGES = ("matching", "learned", "relevance", "coherence")
VERDICTS = {
    "variant": pl.String,
    "behaviour": pl.String,
    "attack": pl.String,
    "prompt": pl.String,
    "judge": pl.String,
    "score": pl.Float64,
}
"""One row a completion and judge; scores in [0, 1]."""

__all__ = [
    "JUDGES",
    "VERDICTS",
    "BadJudge",
    "JudgeScores",
    "LearnedJudge",
    "coherence",
    "measure",
    "repetition",
    "train",
]
