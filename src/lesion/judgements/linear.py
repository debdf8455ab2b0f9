"""TF-IDF terms, and logistic regressions on them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer

# An "n't" inside its word: without it "can't help" becomes "can help".
_WORD = r"(?u)\b\w[\w']*\b"
# The scored answers are long (median 90 words), ours are not: each also teaches by its beginning,
# about 64 tokens, at a quarter of its weight. Judging beginnings, kappa rises from 0.52 to 0.62
# (objective) and from 0.36 to 0.41 (graded harm), AUROC by 0.007 and 0.005; judging whole
# answers, AUROC falls by 0.001 and 0.008.
BEGINNING_WORDS = 48
BEGINNING_WEIGHT = 0.25


class Linear(NamedTuple):
    """A logistic regression: weights of shape `[features]`, and the intercept."""

    weights: NDArray[np.float64]
    intercept: float

    def probability(self, features: Any) -> NDArray[np.float64]:
        """Dense or sparse features `[n, features]` → probabilities `[n]`."""
        logits = np.asarray(features @ self.weights + self.intercept, dtype=np.float64)
        return np.asarray(0.5 * (1 + np.tanh(logits / 2)))


def vectorizer(**options: Any) -> "TfidfVectorizer":
    """An unfitted TF-IDF of words and pairs of words; `options` are scikit-learn's."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(
        preprocessor=_straight,
        token_pattern=_WORD,
        ngram_range=(1, 2),
        sublinear_tf=True,
        **options,
    )


def nonblank(responses: Sequence[str]) -> NDArray[np.bool_]:
    """Whether each response has a visible character; one that has none scores 0, shape `[n]`."""
    return np.array([bool(response.strip()) for response in responses])


def _straight(text: str) -> str:
    return text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")


def beginnings(responses: Sequence[str]) -> list[str]:
    """The first 48 words of each response, about 64 tokens."""
    return [" ".join(response.split()[:BEGINNING_WORDS]) for response in responses]


def fit_text(
    terms: "TfidfVectorizer", responses: Sequence[str], scores: NDArray[np.float64], c: float
) -> Linear:
    """Regress graded scores on terms: a row of score ¾ has weight ¾ as positive and ¼ as negative.

    The vocabulary of `terms` is fitted to the responses; scores are in [0, 1], shape `[n]`.

    Raises:
        ValueError: no score above 0, or none below 1.
    """
    from scipy.sparse import vstack

    complete = terms.fit_transform(responses)
    features = vstack([complete, terms.transform(beginnings(responses))], format="csr")
    share = np.repeat([1 - BEGINNING_WEIGHT, BEGINNING_WEIGHT], len(responses))
    scores = np.tile(scores, 2)
    positive, negative = np.flatnonzero(scores > 0), np.flatnonzero(scores < 1)
    if not len(positive) or not len(negative):
        raise ValueError("The human scores must hold both positive and negative answers.")
    rows = np.concatenate([positive, negative])
    weights = np.concatenate([scores[positive], 1 - scores[negative]]) * share[rows]
    labels = np.arange(len(rows)) < len(positive)
    # liblinear takes half the time of the default on thousands of sparse terms.
    return regress(features[rows], labels, c, sample_weight=weights, solver="liblinear")


def regress(
    features: Any,
    labels: NDArray[np.bool_],
    c: float,
    sample_weight: NDArray[np.float64] | None = None,
    **options: Any,
) -> Linear:
    """Fit a logistic regression: features `[n, features]`, labels `[n]`, weights `[n]`.

    `c` is the inverse strength of the regularisation; `options` are scikit-learn's.
    """
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=c, max_iter=2000, random_state=0, **options)
    model.fit(features, labels, sample_weight=sample_weight)
    return Linear(np.array(model.coef_[0], dtype=np.float64), float(model.intercept_[0]))
