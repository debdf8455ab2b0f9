"""How well matched requests are balanced with harmful ones: `python benchmarks/matched.py`.

Reads `studies/prompts/matched.jsonl` and the harmful requests that it names by their digests, from
the sources that the default study fetched. Prints lengths, first words and near-duplicates of both
sides, and how well two classifiers tell them apart, cross-validated with both sides of a pair in
one fold: one that sees only the surface (first three words, lengths, punctuation), which must not
exceed an AUROC of 0.6, and one that sees all words, which may. Exits with 1 if all pairs together
miss a bound; a single harm type has too few pairs for one.
"""

import argparse
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from scipy.sparse import csr_matrix
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict

from lesion.pairs.rows import read_rows
from lesion.pairs.similarity import near_pairs
from lesion.sources.fetch import locate
from lesion.sources.jobs import SourceLocation
from lesion.study import load_study, read_config

SURFACE_AUROC = 0.6
LONGER = 0.5
"""The mean difference of lengths that counts as balanced, in words."""
NEAR, MOST_NEAR = 0.8, 0.01
"""The similarity of near-duplicates, and the share of matched requests that may have one."""
_FOLDS = 5
_STEM = 5
"""The letters by which words are compared."""
_WORDS = re.compile(r"[a-z]+")


class Balance(NamedTuple):
    """How the two sides of pairs compare; lengths are in words, matched minus harmful."""

    pairs: int
    longer: float
    low: float
    high: float
    first_word: float
    """The share of pairs that begin with the same word."""
    three_words: float
    shared_words: float
    """The mean share of the harmful request's content words that its matched request has too."""
    near_duplicates: float
    """The share of matched requests that resemble an earlier one."""
    surface: float
    """AUROC of the classifier that sees the surface."""
    words: float
    """AUROC of the classifier that sees all words."""

    def problems(self) -> list[str]:
        """The bounds that are missed."""
        missed = {
            f"surface AUROC {self.surface:.2f} > {SURFACE_AUROC}": self.surface > SURFACE_AUROC,
            f"lengths differ by {self.longer:.2f} words": abs(self.longer) > LONGER,
            f"{self.near_duplicates:.1%} near-duplicates": self.near_duplicates > MOST_NEAR,
        }
        return [text for text, wrong in missed.items() if wrong]


def balance(harmful: Sequence[str], harmless: Sequence[str]) -> Balance:
    """Compare the sides of pairs, which are in the same order."""
    lengths = np.array(
        [len(b.split()) - len(a.split()) for a, b in zip(harmful, harmless, strict=True)]
    )
    error = 1.96 * lengths.std(ddof=1) / np.sqrt(lengths.size)

    def same(count: int) -> float:
        pairs = zip(harmful, harmless, strict=True)
        return float(
            np.mean([a.lower().split()[:count] == b.lower().split()[:count] for a, b in pairs])
        )

    pairs = near_pairs(harmless, NEAR)
    near = {b for a, b in zip(pairs.rows, pairs.others, strict=True) if a < b}
    surface = DictVectorizer().fit_transform([_surface(text) for text in (*harmful, *harmless)])
    words = TfidfVectorizer(ngram_range=(1, 2)).fit_transform([*harmful, *harmless])
    return Balance(
        len(harmful),
        float(lengths.mean()),
        float(lengths.mean() - error),
        float(lengths.mean() + error),
        same(1),
        same(3),
        float(np.mean([_shared(a, b) for a, b in zip(harmful, harmless, strict=True)])),
        len(near) / len(harmless),
        _auroc(surface),
        _auroc(words),
    )


def _shared(harmful: str, harmless: str) -> float:
    """The share of one request's content words that another has, whatever their endings."""
    sides = [
        {word[:_STEM] for word in _WORDS.findall(text.lower())} for text in (harmful, harmless)
    ]
    content = sides[0] - {word[:_STEM] for word in ENGLISH_STOP_WORDS}
    return len(content & sides[1]) / max(1, len(content))


def _surface(text: str) -> dict[str, float]:
    words = text.lower().split()
    return {
        **{f"{place} {word}": 1.0 for place, word in enumerate(words[:3])},
        "words": len(words) / 10,
        "characters": len(text) / 60,
        "question": float(text.endswith("?")),
        "full stop": float(text.endswith(".")),
        "sentences": float(text.count(". ") + text.count("? ")),
    }


def _auroc(features: csr_matrix) -> float:
    """Cross-validated; the first half of the rows are harmful, the second half matched."""
    pairs = features.shape[0] // 2
    labels, groups = np.repeat([0, 1], pairs), np.tile(np.arange(pairs), 2)
    model = LogisticRegression(C=1.0, max_iter=2000)
    folds = GroupKFold(_FOLDS, shuffle=True, random_state=0)
    predicted = cross_val_predict(
        model, features, labels, groups=groups, cv=folds, method="predict_proba"
    )
    return float(roc_auc_score(labels, predicted[:, 1]))


def main() -> None:
    """Print the balance of all pairs and of each harm type's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=Path("config.yaml"))
    parser.add_argument("--source", default="advbench", help="the source of harmful requests")
    parser.add_argument("--pairs", type=Path, default=Path("studies/prompts/matched.jsonl"))
    given = parser.parse_args()
    study = load_study(read_config(given.config), str(given.config))
    folder = study.folder / "sources"
    place = SourceLocation(path=folder / given.source, record=folder / f"{given.source}.json")
    source = read_rows(locate(place))
    texts = source["prompt"].str.strip_chars()
    digests = {f"sha256:{hashlib.sha256(text.encode()).hexdigest()}": text for text in texts}
    pairs = read_rows(given.pairs).with_columns(text=pl.col("harmful").replace_strict(digests))
    kind = source.select(text=texts, kind=pl.col("harm_categories").list.first())
    pairs = pairs.join(kind.unique("text"), on="text", how="left", maintain_order="left")
    parts = {"all": pairs} | {
        str(name): own
        for (name,), own in pairs.group_by("kind", maintain_order=True)
        if own.height >= 40
    }
    print(
        f"{'':34}pairs  longer by (words)     same first word, three  content  near  surface  words"
    )
    for name, own in parts.items():
        row = balance(own["text"].to_list(), own["harmless"].to_list())
        print(
            f"{name:34}{row.pairs:5}  {row.longer:+.2f} [{row.low:+.2f}, {row.high:+.2f}]"
            f"{row.first_word:16.0%}{row.three_words:9.0%}{row.shared_words:8.0%}{row.near_duplicates:7.1%}"
            f"{row.surface:8.2f}{row.words:7.2f}"
        )
    problems = balance(pairs["text"].to_list(), pairs["harmless"].to_list()).problems()
    if problems:
        raise SystemExit("\n".join(problems))


if __name__ == "__main__":
    main()
