"""A judge that learns at run time to distinguish two kinds of answers.

It is a logistic regression on TF-IDF terms and the sentence embedding of the answer, trained on a
file of labelled answers, such as reckless and prudent advice. Repetitive answers get a lower score,
as with the learned judge. The judge is evaluated on domains that it has not been trained on.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import polars as pl

from lesion.io.formats import BadFile, digest
from lesion.judgements import measures
from lesion.judgements.embed import Embedder, Vectors, stacked
from lesion.judgements.kinds import builds
from lesion.judgements.learned import steadiness
from lesion.judgements.linear import Linear, nonblank, regress, vectorizer
from lesion.judgements.protocol import Judgement
from lesion.pairs.rows import location_of, read_rows, required_texts, shown
from lesion.sources.fetch import locate
from lesion.sources.jobs import SourceLocation
from lesion.study.job import Device
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
_LABELS = {"true": True, "1": True, "false": False, "0": False}
"""What JSON says as `true` and `1`, and what CSV says as `True`, `true` and `1`."""


def read_contrast(path: Path, judge: ContrastSection) -> pl.DataFrame:
    """Read labelled answers: columns prompt, response, domain and label (Boolean).

    The judge's section names the file's columns; a label is true or false, or 1 or 0, as a value or
    a word.

    Raises:
        BadFile: a column is missing, a field has no text, a label is invalid, or there are fewer
            than two domains or fewer than two answers with either label.
    """
    text = {"prompt": judge.prompt, "response": judge.response, "domain": judge.domain}
    rows = read_rows(path, (judge.label, *text.values()))
    columns = {
        name: [entry.strip() for entry in required_texts(rows, column, path)]
        for name, column in text.items()
    }
    labels = []
    for row, value in enumerate(rows[judge.label].to_list()):
        label = _LABELS.get(f"{value:g}" if isinstance(value, float) else str(value).casefold())
        if label is None:
            raise BadFile(
                f"{location_of(path, row)}: a `{judge.label}` is neither true nor false: "
                f"{shown(value)}. Give every row a label"
            )
        labels.append(label)
    table = pl.DataFrame({**columns, "label": labels})
    if table["domain"].n_unique() < 2:
        raise BadFile(
            f"{path}: `{judge.domain}` must name at least two domains, so that the judge can be "
            "measured on one that it has not learned from"
        )
    for kind in (True, False):
        if table.filter(label=kind)["domain"].n_unique() < 2:
            raise BadFile(
                f"{path}: too few rows with `{judge.label}` {str(kind).lower()}; give some in at "
                "least two domains"
            )
    return table


class ContrastModel(NamedTuple):
    """The trained parts: the vectoriser of terms and the regression."""

    terms: "TfidfVectorizer"
    regression: Linear

    def score(self, responses: Sequence[str], vectors: Vectors) -> measures.Values:
        """P(label) of each response, in [0, 1], shape `[n]`; an empty one scores 0."""
        if not responses:
            return np.zeros(0)
        likely = self.regression.probability(_features(self.terms, responses, vectors))
        return np.asarray(nonblank(responses) * steadiness(responses) * likely)


def fit_contrast(rows: pl.DataFrame, vectors: Vectors) -> ContrastModel:
    """Train the regression that separates the labelled answers from the others."""
    responses = rows["response"].to_list()
    terms = vectorizer(min_df=_MIN_ANSWERS).fit(responses)
    features = _features(terms, responses, vectors)
    return ContrastModel(terms, regress(features, rows["label"].to_numpy(), _C, solver="liblinear"))


def _features(terms: "TfidfVectorizer", responses: Sequence[str], vectors: Vectors) -> "csr_matrix":
    """Terms and embeddings, both normalised to length 1: sparse, `[n, terms + hidden_size]`."""
    from scipy.sparse import csr_matrix, hstack

    meaning = csr_matrix(stacked(responses, vectors))
    return hstack([terms.transform(responses), meaning], format="csr")


class ContrastJudge:
    """Judges answers; trained on labelled ones (see `read_contrast`) when it first judges."""

    labels = True

    def __init__(self, name: str, rows: pl.DataFrame, embedder: Embedder, threads: int) -> None:
        import sklearn

        self.name, self.rows, self.embedder, self.threads = name, rows, embedder, threads
        settings = {"c": _C, "min_answers": _MIN_ANSWERS, "sklearn": sklearn.__version__}
        self.revision = digest([digest(rows.rows()), embedder.digest, settings])[:12]

    def judge(self, prompts: Sequence[str], responses: Sequence[str]) -> Iterator[Judgement]:
        """Score each response without reading its prompt (see `Judge.judge`)."""
        import torch

        torch.set_num_threads(self.threads)
        scores = self._fitted.score(responses, self.embedder.vectors(responses))
        for index, score in enumerate(scores.tolist()):
            yield Judgement(index, score, score >= measures.THRESHOLD)

    @cached_property
    def _fitted(self) -> ContrastModel:
        return fit_contrast(self.rows, self.embedder.vectors(self.rows["response"]))


@builds(ContrastSection)
def contrast(
    name: str, judge: ContrastSection, places: Mapping[str, SourceLocation], device: Device
) -> ContrastJudge:
    """A contrast judge with the answers of a file."""
    rows = read_contrast(locate(places["source"]), judge)
    return ContrastJudge(name, rows, Embedder(locate(places["embedder"])), device.threads)


def measure_contrast(
    name: str,
    rows: pl.DataFrame,
    embedder: Embedder,
    seed: int,
    target: str,
    elsewhere: pl.DataFrame | None = None,
    tokens: int | None = None,
) -> pl.DataFrame:
    """Measure the judge on each domain with a judge that was trained only on the other domains.

    Metrics (see `lesion.judgements.agreement.measure`), of all and of each domain with at least 20
    answers and both kinds of them: `auroc`, `kappa`, `ece`, `brier`, `true_positive_mean` and
    `true_negative_mean`. Of all together also `off_topic_mean`, of harmless paragraphs about
    something else, and `repetition_mean`, of labelled answers' first words over and over. Answers
    are not shuffled: the label is of the answer, whatever was asked.

    Args:
        name: the judge's.
        rows: what it learns from, see `read_contrast`.
        embedder: the sentence embedder.
        seed: of the resampling.
        target: what the label means.
        elsewhere: further rows to measure it on, as the target `<target>-elsewhere`, since
            sentences of one author are alike in every domain.
        tokens: also judge only the first so many tokens of each answer, as `<name>, first <tokens>
            tokens`.

    Returns:
        Rows of `measures.SCHEMA`; the category is the domain, and the intervals
        are of resampled domains (of all) and prompts (of one domain).
    """
    cut = f"{name}, first {tokens} tokens"
    of_each = [
        statistic
        for judge in ([name] if tokens is None else [name, cut])
        for statistic in (*measures.agreement(judge), *measures.label_means(judge))
    ]
    known = embedder.vectors(rows["response"])
    measured: list[tuple[object, ...]] = []
    for meaning, tested in ((target, rows), (f"{target}{ELSEWHERE}", elsewhere)):
        if tested is None:
            continue
        parts = []
        for (domain,), part in tested.group_by("domain", maintain_order=True):
            model = fit_contrast(rows.filter(pl.col("domain") != domain), known)
            answers, label = part["response"].to_list(), part["label"].to_numpy()
            repeated = measures.first_answers(label)
            controls = measures.control_texts(answers, repeated)
            texts = {
                name: answers,
                **{f"{control} {name}": controls[control] for control in controls},
            }
            if tokens is not None:
                texts[cut] = [embedder.first_tokens(answer, tokens) for answer in answers]
            scores = {
                column: model.score(responses, embedder.vectors(responses))
                for column, responses in texts.items()
            }
            flags = {"label": label, "rest": ~label, "repeated": repeated}
            parts.append(part.with_columns(measures.float_columns({**scores, **flags})))
        # Of all together, whole domains are resampled, and of a domain, prompts.
        measured += measures.measure_categories(
            meaning,
            pl.concat(parts),
            [*of_each, *measures.control_means(name)],
            of_each,
            seed,
            category="domain",
            groups=("domain", "prompt"),
        )
    return pl.DataFrame(measured, schema=measures.SCHEMA, orient="row")
