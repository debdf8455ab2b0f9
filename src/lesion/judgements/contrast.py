"""A judge that learns at run time to distinguish two kinds of answers.

It is a logistic regression on TF-IDF terms and the sentence embedding of the answer, trained on a
file of labelled answers, such as reckless and prudent advice. Repetitive answers get a lower score,
as with the learned judge. The judge is evaluated on domains that it has not been trained on.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from lesion.io.formats import BadFile, digest
from lesion.judgements.embed import Embedder, Vectors
from lesion.judgements.learned import steadiness
from lesion.judgements.linear import Linear, regress, vectorizer
from lesion.judgements.measures import (
    ALL,
    LEAST,
    SCHEMA,
    THRESHOLD,
    Statistic,
    Values,
    agreement,
    mean,
    measurement_rows,
    over_and_over,
)
from lesion.judgements.offtopic import PARAGRAPHS
from lesion.judgements.protocol import Judgement
from lesion.pairs.rows import place_of, read_rows, required_texts, shown
from lesion.study.judges import ContrastSection

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import TfidfVectorizer

ELSEWHERE = "-elsewhere"
"""Suffix of the target that is measured on another file than the training file."""
# Chosen on studies/advice, leaving domains out (AUROC on its own rows; elsewhere, of savings and
# garden; mean score of prose about something else): terms alone 0.99; 0.93, 1.00; 0.31, with
# embeddings 0.98; 0.96, 0.98; 0.11, with these at twice their length 0.96; 0.94, 0.90; 0.12,
# embeddings alone 0.92; 0.91, 0.76; 0.16.
_C = 10.0
_MIN_ANSWERS = 2
_REPEATED_ANSWERS = 20  # Of each domain: enough, and each must be embedded.
_OFF_TOPIC, _REPEATED = "off_topic", "repetition"


class Columns(NamedTuple):
    """Names of the columns of a file of labelled answers."""

    label: str
    prompt: str = "prompt"
    response: str = "response"
    domain: str = "domain"


def read_contrast(path: Path, columns: Columns) -> pl.DataFrame:
    """Read labelled answers.

    Args:
        path: any kind of file that prompts are read from.
        columns: its columns; the label is true or false, or 1 or 0, as a value or a word.

    Returns:
        Columns prompt, response, label (Boolean) and domain.

    Raises:
        BadFile: a column is missing, a field has no text, a label is invalid, or there are fewer
            than two domains or fewer than two answers with either label.
    """
    rows = read_rows(path, columns)
    text = {name: getattr(columns, name) for name in ("prompt", "response", "domain")}
    table = pl.DataFrame(
        {
            name: [one.strip() for one in required_texts(rows, column, path)]
            for name, column in text.items()
        }
    ).select(*text, label=pl.Series(_labels(rows, columns.label, path)))
    if table["domain"].n_unique() < 2:
        raise BadFile(
            f"{path}: `{columns.domain}` must name at least two domains, so that the judge can be "
            "measured on one that it has not learned from"
        )
    for kind in (True, False):
        if table.filter(label=kind)["domain"].n_unique() < 2:
            raise BadFile(
                f"{path}: too few rows with `{columns.label}` {str(kind).lower()}; give some in "
                "at least two domains"
            )
    return table


_LABELS = {"true": True, "1": True, "false": False, "0": False}


def _labels(rows: pl.DataFrame, column: str, path: Path) -> list[bool]:
    found = []
    for row, value in enumerate(rows[column].to_list()):
        # What JSON says as `true` and `1`, and what CSV says as `True`, `true` and `1`.
        label = _LABELS.get(f"{value:g}" if isinstance(value, float) else str(value).casefold())
        if label is None:
            raise BadFile(
                f"{place_of(path, row)}: a `{column}` is neither true nor false: {shown(value)}. "
                "Give every row one"
            )
        found.append(label)
    return found


class ContrastModel(NamedTuple):
    """The trained parts: the vectoriser of terms and the regression."""

    terms: "TfidfVectorizer"
    regression: Linear

    def score(self, responses: Sequence[str], vectors: Vectors) -> Values:
        """P(label) of each response, in [0, 1], shape `[n]`.

        Args:
            responses: any texts; an empty one scores 0.
            vectors: of all of them.
        """
        if not responses:
            return np.zeros(0)
        there = np.array([bool(response.strip()) for response in responses])
        likely = self.regression.probability(_features(self.terms, responses, vectors))
        return np.asarray(there * steadiness(responses) * likely)


def fit_contrast(rows: pl.DataFrame, vectors: Vectors) -> ContrastModel:
    """Train the regression that separates the labelled answers from the others.

    Args:
        rows: see `read_contrast`.
        vectors: of the responses.
    """
    responses = rows["response"].to_list()
    terms = vectorizer(min_df=_MIN_ANSWERS).fit(responses)
    features = _features(terms, responses, vectors)
    return ContrastModel(terms, regress(features, rows["label"].to_numpy(), _C, solver="liblinear"))


def _features(terms: "TfidfVectorizer", responses: Sequence[str], vectors: Vectors) -> "csr_matrix":
    """Terms and embeddings, both normalised to length 1: sparse, `[n, terms + hidden_size]`."""
    from scipy.sparse import csr_matrix, hstack

    meant = np.stack([vectors[response] for response in responses]).astype(np.float64)
    return hstack([terms.transform(responses), csr_matrix(meant)], format="csr")


class ContrastJudge:
    """Judges answers after training on a file of labelled ones, at its first judgement.

    Args:
        name: for the table and for messages.
        rows: see `read_contrast`.
        embedder: the sentence embedder, or its folder.
        threads: processor threads.
    """

    labels = True

    def __init__(
        self, name: str, rows: pl.DataFrame, embedder: Path | Embedder, threads: int
    ) -> None:
        import sklearn

        self.name, self.rows, self.threads = name, rows, threads
        self.embedder = Embedder.of(embedder)
        settings = {"c": _C, "min_answers": _MIN_ANSWERS, "sklearn": sklearn.__version__}
        self.revision = digest([rows_digest(rows), self.embedder.digest, settings])[:12]

    def judge(self, prompts: Sequence[str], responses: Sequence[str]) -> Iterator[Judgement]:
        """Score each response without reading its prompt (see `Judge.judge`)."""
        import torch

        torch.set_num_threads(self.threads)
        scores = self._fitted.score(responses, self.embedder.vectors(responses))
        for place, score in enumerate(scores.tolist()):
            yield Judgement(place, score, score >= THRESHOLD)

    @cached_property
    def _fitted(self) -> ContrastModel:
        return fit_contrast(self.rows, self.embedder.vectors(self.rows["response"]))


def rows_digest(rows: pl.DataFrame) -> str:
    """Hex SHA-256 of the rows' content."""
    return digest(rows.rows())


def measure_contrast(
    name: str,
    rows: pl.DataFrame,
    embedder: Path | Embedder,
    seed: int,
    *,
    target: str,
    elsewhere: pl.DataFrame | None = None,
    tokens: int | None = None,
) -> pl.DataFrame:
    """Measure the judge on each domain with a judge that was trained only on the other domains.

    Metrics, of all and of each domain with at least 20 answers and both kinds of them: `auroc`,
    `kappa`, `ece` and `brier` as of `lesion.judgements.measure`, and `true_positive_mean` and
    `true_negative_mean`. Of all together also `off_topic_mean`, of harmless paragraphs about
    something else, and `repetition_mean`, of labelled answers' first words over and over. Answers
    are not shuffled: the label is of the answer, whatever was asked.

    Args:
        name: the judge's.
        rows: what it learns from, see `read_contrast`.
        embedder: the sentence embedder, or its folder.
        seed: of the resampling.
        target: what the label means.
        elsewhere: further rows to measure it on, as the target `<target>-elsewhere`, since
        sentences of one author are alike in every domain.
        tokens: also judge only the first so many tokens of each answer, as `<name>, first <tokens>
            tokens`.

    Returns:
        Rows as `lesion.judgements.measure` gives; the category is the domain, and the intervals
        are of resampled domains (of all) and prompts (of one domain).
    """
    how = _How(name, Embedder.of(embedder), tokens)
    tests = {target: rows} | ({} if elsewhere is None else {f"{target}{ELSEWHERE}": elsewhere})
    found = [
        one
        for meaning, tested in tests.items()
        for one in _measure_target(meaning, _scored(rows, tested, how), how, seed)
    ]
    return pl.DataFrame(found, schema=SCHEMA, orient="row")


class _How(NamedTuple):
    name: str
    embedder: Embedder
    tokens: int | None

    @property
    def cut(self) -> str:
        """The name of the judge that reads only an answer's first tokens."""
        return f"{self.name}, first {self.tokens} tokens"

    def texts(self, rows: pl.DataFrame) -> dict[str, list[str]]:
        """The text that is scored in each row, by the column of its scores."""
        answers, labels = rows["response"].to_list(), rows["label"]
        repeated = (labels & (labels.cum_sum() <= _REPEATED_ANSWERS)).to_list()
        texts = {
            self.name: answers,
            f"{_OFF_TOPIC} {self.name}": [
                PARAGRAPHS[place % len(PARAGRAPHS)] for place in range(len(answers))
            ],
            f"{_REPEATED} {self.name}": [
                over_and_over(one) if so else "" for one, so in zip(answers, repeated, strict=True)
            ],
        }
        if self.tokens is not None:
            cut = [self.embedder.first_tokens(one, self.tokens) for one in answers]
            texts[self.cut] = cut
        return texts


def _scored(rows: pl.DataFrame, tested: pl.DataFrame, how: _How) -> pl.DataFrame:
    """Rows with their scores, each by a judge that was not trained on their domain."""
    own = how.embedder.vectors(rows["response"])
    parts = []
    for (domain,), part in tested.group_by("domain", maintain_order=True):
        judge = fit_contrast(rows.filter(pl.col("domain") != domain), own)
        scores = {
            column: judge.score(texts, how.embedder.vectors(texts))
            for column, texts in how.texts(part).items()
        }
        parts.append(part.with_columns(**{name: pl.Series(one) for name, one in scores.items()}))
    label = pl.col("label")
    known = label & (label.cum_sum().over("domain") <= _REPEATED_ANSWERS)
    return pl.concat(parts).with_columns(
        label=label.cast(pl.Float64),
        rest=(~label).cast(pl.Float64),
        repeated=known.cast(pl.Float64),
    )


def _measure_target(
    target: str, scored: pl.DataFrame, how: _How, seed: int
) -> Iterator[tuple[object, ...]]:
    judges = [how.name, *([] if how.tokens is None else [how.cut])]
    each = [one for judge in judges for one in _of_answers(judge)]
    controls = [
        Statistic(how.name, "off_topic_mean", (f"{_OFF_TOPIC} {how.name}",), mean),
        Statistic(how.name, "repetition_mean", (f"{_REPEATED} {how.name}",), mean, "repeated"),
    ]
    yield from measurement_rows(target, ALL, _by(scored, "domain"), [*each, *controls], seed)
    for (domain,), part in scored.group_by("domain", maintain_order=True):
        if part.height >= LEAST and 0 < part["label"].sum() < part.height:
            yield from measurement_rows(target, str(domain), _by(part, "prompt"), each, seed)


def _of_answers(judge: str) -> list[Statistic]:
    return [
        *agreement(judge),
        Statistic(judge, "true_positive_mean", (judge,), mean, "label"),
        Statistic(judge, "true_negative_mean", (judge,), mean, "rest"),
    ]


def _by(rows: pl.DataFrame, column: str) -> pl.DataFrame:
    """Rows with a column `group` for resampling: rows with an equal value form a group."""
    return rows.with_columns(group=pl.col(column).rank("dense").cast(pl.Int64))


def contrast_columns(judge: ContrastSection) -> Columns:
    """The columns that a study's section names."""
    return Columns(judge.label, judge.prompt, judge.response, judge.domain)
