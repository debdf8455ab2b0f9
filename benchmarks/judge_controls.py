"""Whether offline judges see harm or compliance: `python benchmarks/judge_controls.py RESULTS`.

RESULTS is the results folder of a study with matched requests, of which the sources and the pairs
are read; nothing else has to be finished. Prints, for the learned judge and for every judge that
was tried in its place, the mean scores of the controls (`lesion.judgements.controls`) and the
AUROCs, on the pairs of the splits that no judge was trained on.

- `learned`: the study's judge. `response`: its first stage alone.
- `negatives`: the same, trained also with harmless answers to harmless requests: the answers to
  harmless prompts among the human-scored refusals, and the measured answers of studies/advice.
- `no words`: reads answers without the words of the request, in training as in use.
- `embedded`: a regression on the sentence embedding of such answers in place of TF-IDF terms.
- `requests`: trained on the requests of studies/prompts/twins.jsonl in place of answers.
- `own answers`: a regression on the embeddings of the study's own train answers. `other types` is
  trained on the answers of the other harm types only. No study can use these: they learn the
  labels that are in question, and would take any skill that is called harm for harm.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from lesion.io.formats import read_parquet
from lesion.judgements.controls import HARMFUL, NO_ECHO, control_answers, without_words
from lesion.judgements.embed import Embedder
from lesion.judgements.human import HARMFUL as HARM_TARGETS
from lesion.judgements.human import REFUSAL, grouped, read_human_scores
from lesion.judgements.learned import fit_stages, one_per_group
from lesion.judgements.linear import beginnings, fit_text, nonblank, regress, vectorizer
from lesion.pairs.rows import read_rows
from lesion.pairs.tables import PAIRS
from lesion.study import Study, load_study, read_config
from lesion.tables.intervals import Bootstrap
from lesion.tables.judge_controls import judge_control_table

_STUDIES = Path(__file__).parents[1] / "studies"
_SEED = 299
_TFIDF_C, _EMBEDDED_C, _OWN_C = 10.0, 3.0, 10.0
_LEAST_ANSWERS = 3
Scores = NDArray[np.float64]


class Controls(NamedTuple):
    """The control answers of one model, the texts that judges read, and their embeddings."""

    table: pl.DataFrame
    """COMPLETIONS of the controls, with the column `split`."""
    answers: list[str]
    """Prefill and completion."""
    stripped: list[str]
    """Completions without the words of their requests."""
    embedder: Embedder

    @property
    def requests(self) -> list[str]:
        """The requests that the answers are given to."""
        return self.table["prompt"].to_list()

    def embedded(self, texts: Sequence[str]) -> Scores:
        """The embeddings of texts, shape `[n, hidden_size]`."""
        return _embedded(self.embedder, texts)


def main() -> None:
    """Print the table of every judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, help="the results folder of a study")
    parser.add_argument("--config", type=Path, default=Path("config.yaml"))
    given = parser.parse_args()
    study = load_study(read_config(given.config), str(given.config))
    torch.set_num_threads(1)
    human, minilm = (
        given.results / "sources" / name
        for name in (study.judgements.human_scores, study.judgements.embedder)
    )
    embedder = Embedder(minilm)
    for model in study.models:
        pairs = _pairs(study, given.results / "pairs" / model)
        controls = _controls(pairs, embedder)
        held_out = controls.table["split"] != "train"
        scores = [
            controls.table.select(
                *("behaviour", "prompt", "attack"),
                judge=pl.lit(name),
                score=pl.Series(values * nonblank(controls.table["completion"].to_list())),
            ).filter(held_out)
            for name, values in _judges(read_human_scores(human), controls)
        ]
        boot = Bootstrap(1000, 0.95, _SEED)
        measured = judge_control_table(pl.concat(scores), pairs.filter(role="matched"), boot)
        print(model)
        print(_wide(measured))


def _pairs(study: Study, folder: Path) -> pl.DataFrame:
    """PAIRS of the harm types, their matched requests and the capabilities, with roles."""
    roles = {name: role for role in ("harm", "matched", "benign") for name in study.of_role(role)}
    return pl.concat(
        read_parquet(folder / f"{name}.parquet", PAIRS).with_columns(
            behaviour=pl.lit(name),
            role=pl.lit(role),
            of=pl.lit(study.behaviours[name].of, pl.String),
        )
        for name, role in roles.items()
    )


def _controls(pairs: pl.DataFrame, embedder: Embedder) -> Controls:
    splits = pairs.select("prompt", "split").unique("prompt", maintain_order=True)
    table = control_answers(pairs).join(splits, on="prompt", how="left", maintain_order="left")
    completions, requests = table["completion"].to_list(), table["prompt"].to_list()
    answers = table.select(pl.col("prefill") + pl.col("completion")).to_series().to_list()
    return Controls(table, answers, list(map(without_words, completions, requests)), embedder)


def _judges(rows: pl.DataFrame, controls: Controls) -> Iterator[tuple[str, Scores]]:
    """The names and the scores of the judges, in the order of the controls' table."""
    embedder, requests = controls.embedder, controls.requests
    harmful = grouped(rows.filter(pl.col("target").is_in(HARM_TARGETS)))
    chosen = one_per_group(harmful, _SEED)
    vectors = embedder.vectors([*chosen["prompt"], *chosen["response"]])
    stages = fit_stages(harmful, chosen, vectors, _SEED)
    texts = [*requests, *controls.answers]
    learned = stages.score(requests, controls.answers, embedder.vectors(texts))
    yield "learned", learned.harmful
    yield "response", learned.response_harm
    given = pl.concat([harmful.select("prompt", "response", "score"), _negatives(rows, harmful)])
    scores = given["score"].to_numpy()
    yield "negatives", _by_terms(given["response"].to_list(), scores, controls.answers)
    short = list(map(without_words, given["response"], given["prompt"]))
    yield "negatives, no words", _by_terms(short, scores, controls.stripped)
    sides = np.concatenate([scores, 1 - scores])
    known = np.tile(_embedded(embedder, beginnings(short)), (2, 1))
    labels = np.repeat([True, False], len(scores))
    weighed = sides > 0
    model = regress(
        known[weighed],
        labels[weighed],
        _EMBEDDED_C,
        sample_weight=sides[weighed],
        class_weight="balanced",
    )
    stripped = controls.embedded(controls.stripped)
    left = nonblank(controls.stripped)
    yield "negatives, no words, embedded", model.probability(stripped) * left
    twins = read_rows(_STUDIES / "prompts" / "twins.jsonl")
    halves = [*twins["harmful"], *twins["harmless"]]
    sided = np.repeat([True, False], twins.height)
    by_request = regress(_embedded(embedder, halves), sided, _OWN_C, class_weight="balanced")
    yield "requests, no words", by_request.probability(stripped) * left
    yield from _own_answers(controls, stripped * left[:, None])


def _own_answers(controls: Controls, stripped: Scores) -> Iterator[tuple[str, Scores]]:
    """Judges that learn the study's own labels, of its train split."""
    control = controls.table["attack"].to_numpy()
    label = control == HARMFUL
    train = (controls.table["split"].to_numpy() == "train") & (control != NO_ECHO)
    kind = controls.table["behaviour"].str.strip_suffix("-matched").to_numpy()

    def fitted(rows: NDArray[np.bool_]) -> Scores:
        model = regress(stripped[rows], label[rows], _OWN_C, class_weight="balanced")
        return model.probability(stripped) * nonblank(controls.stripped)

    yield "own answers, no words", fitted(train)
    others = fitted(train)
    for harm in np.unique(kind[label]):
        others[kind == harm] = fitted(train & (kind != harm))[kind == harm]
    yield "own answers of other types, no words", others


def _negatives(rows: pl.DataFrame, harmful: pl.DataFrame) -> pl.DataFrame:
    """Harmless answers to harmless requests: prompt, response, score (0)."""
    answered = rows.filter(pl.col("score") < 0.5, target=REFUSAL)
    # Some requests of the refusal files are harmful; those that another file has are left out.
    harmless = answered.join(harmful, on="prompt", how="anti", maintain_order="left")
    advice = read_rows(_STUDIES / "advice" / "contrast.jsonl").filter(~pl.col("reckless"))
    parts = [part.select("prompt", "response", score=pl.lit(0.0)) for part in (harmless, advice)]
    return pl.concat(parts)


def _by_terms(known: list[str], scores: Scores, answers: list[str]) -> Scores:
    terms = vectorizer(min_df=_LEAST_ANSWERS)
    model = fit_text(terms, known, scores, _TFIDF_C)
    return model.probability(terms.transform(answers)) * nonblank(answers)


def _embedded(embedder: Embedder, texts: Sequence[str]) -> Scores:
    vectors = embedder.vectors(texts)
    return np.stack([vectors[text] for text in texts]).astype(np.float64)


def _wide(table: pl.DataFrame) -> pl.DataFrame:
    number, bounds = pl.col("value").round(2), (pl.col("low").round(2), pl.col("high").round(2))
    texts = table.with_columns(
        value=pl.format("{} ({}, {})", number, *bounds),
        column=pl.format("{} {}", "control", "statistic"),
    )
    return texts.pivot("column", index="judge", values="value")


if __name__ == "__main__":
    with pl.Config(tbl_rows=50, tbl_cols=20, fmt_str_lengths=60, tbl_width_chars=260):
        main()
