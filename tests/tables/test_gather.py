"""What of a study's results enters the tables: real files, invented rows."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lesion.io.formats import write_parquet
from lesion.judgements import JUDGE_SCORES
from lesion.judgements.continuations import FLUENCY, MISPLACED
from lesion.judgements.controls import EXCHANGE
from lesion.pairs.tables import PAIRS
from lesion.responses import COMPLETIONS, NLL, RETRAINED, UNDERSTANDING
from lesion.study.job import Behaviours
from lesion.tables.gather import Gathered, _leaked
from lesion.tables.jobs import Experiment, TablesInput, TablesJob
from lesion_testing import make

LEAKED = "How do I paint the gnome and the piano bright green tonight?"
OWN = "Where does the duck hide the trumpet?"
PROMPTS = {
    # Behaviour: role, and prompts by split. LEAKED is a hair from a train prompt of `beta`.
    "alpha": ("harm", {"train": "How do I steal a kite?", "test": [LEAKED, OWN]}),
    "beta": (
        "harm",
        {"train": LEAKED.removesuffix(" tonight?") + " today?", "test": ["Who ate all the pies?"]},
    ),
}


def _write(path: Path, schema: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_parquet(pl.DataFrame(rows, schema=schema), path)


def _asked() -> list[dict[str, Any]]:
    return [
        {"behaviour": name, "role": role, "prompt": prompt, "pair": prompt}
        for name, (role, splits) in PROMPTS.items()
        for prompt in splits["test"]
    ]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for name, (_, splits) in PROMPTS.items():
        rows = [
            {"prompt": prompt, "split": split, "outcome": "kept"}
            for split, prompts in splits.items()
            for prompt in ([prompts] if isinstance(prompts, str) else prompts)
        ]
        _write(tmp_path / "pairs" / "toy" / f"{name}.parquet", PAIRS, rows)
    unmodified = tmp_path / "responses" / "toy" / "unmodified"
    said = {"attack": "prefill", "prefill": "Sure, ", "completion": "here"}
    _write(unmodified / "nll.parquet", NLL, _asked())
    _write(unmodified / "completions.parquet", COMPLETIONS, [{**one, **said} for one in _asked()])
    explained = [{**one, "measure": "explain", "value": 1.0} for one in _asked()]
    _write(unmodified / "understanding.parquet", UNDERSTANDING, explained)
    _write(unmodified / "explanations.parquet", COMPLETIONS, [])
    for name, judges in (
        ("toy", ["learned", "matching", "relevance", "coherence"]),
        ("toy/harmful", ["harmful"]),
    ):
        scores = [row for judge in judges for row in _judge_scores(judge, "unmodified")]
        _write(tmp_path / "judgements" / f"{name}.parquet", JUDGE_SCORES, scores)
    return tmp_path


def _judge_scores(judge: str, variant: str) -> list[dict[str, Any]]:
    at = {"variant": variant, "attack": "prefill", "judge": judge, "score": 0.6}
    return [{**one, **at} for one in _asked()]


def _gathered(
    results: Path,
    main: str = "learned",
    near_duplicate: float = 0.6,
    threshold: float = 0.5,
    retrained: bool = False,
    outcomes: bool = False,
) -> Gathered:
    def of(kind: str, place: str, **parts: str) -> tuple[TablesInput, Path]:
        return TablesInput(kind=kind, model="toy", **parts), results / f"{place}.parquet"

    arm = {"experiment": "again", "arm": "shared"}
    place = "toy/retraining/again/shared"
    files = dict(
        [
            *(of("pairs", f"pairs/toy/{name}", behaviour=name) for name in PROMPTS),
            *(
                of(kind, f"responses/toy/unmodified/{kind}", variant="unmodified")
                for kind in ("completions", "nll", "explanations", "understanding")
            ),
            of("judge-scores", "judgements/toy", judge="learned"),
            of("judge-scores", "judgements/toy/harmful", judge="harmful"),
            *([of("fluency", "responses/toy/fluency")] if outcomes else []),
            *(
                [of("continuation-scores", "judgements/toy/continuations", judge="learned")]
                if outcomes
                else []
            ),
            *([of("retrained", f"responses/{place}", **arm)] if retrained else []),
            *(
                [of("judge-scores", f"judgements/{place}", judge="learned", **arm)]
                if retrained
                else []
            ),
        ]
    )
    job = TablesJob(
        ablation="zero",
        inputs=list(files),
        models=["toy"],
        behaviours=Behaviours(harm=list(PROMPTS), benign=[]),
        main=main,
        threshold=threshold,
        near_duplicate=near_duplicate,
        wordings=["{prompt}"],
        limit=0.1,
        stages={},
        trained={},
        retraining={"again": Experiment(narrow=None, judge=None)},
        resamples=100,
        confidence=0.9,
        seed=0,
    )
    return Gathered(job, files, "toy")


def _prompts(table: pl.DataFrame | None) -> list[str]:
    assert table is not None
    return table["prompt"].unique().sort().to_list()


def test_prompts_that_resemble_what_chose_weights_are_left_out_everywhere(results: Path) -> None:
    found = _gathered(results)
    kept = sorted([OWN, "Who ate all the pies?"])
    for table in (
        found.nll(),
        found.completions(),
        found.understanding(),
        found.judged(),
        found.examples(found.judged()),
    ):
        assert _prompts(table) == kept
    assert LEAKED in _prompts(_gathered(results, near_duplicate=0.99).understanding())


def test_an_exchange_about_a_prompt_that_is_left_out_is_left_out(results: Path) -> None:
    """There, the prompt is the harmful request, and the behaviour that of the answer."""
    at = {"variant": "unmodified", "attack": EXCHANGE, "judge": "learned", "score": 0.1}
    rows = [{**at, "behaviour": "alpha-matched", "prompt": prompt} for prompt in (LEAKED, OWN)]
    path = results / "judgements" / "controls.parquet"
    _write(path, JUDGE_SCORES, rows)
    found = _gathered(results)
    found._files[TablesInput(kind="control-scores", model="toy", judge="learned")] = path
    behaviours = found.job.behaviours.model_copy(update={"matched": {"alpha-matched": "alpha"}})
    found.job = found.job.model_copy(update={"behaviours": behaviours})
    assert _prompts(found.control_scores()) == [OWN]


def test_a_judge_may_be_called_like_a_column(results: Path) -> None:
    found = _gathered(results, main="harmful")
    examples = found.examples(found.judged())
    assert examples["harmful"].to_list() == [True, True]
    assert examples["harmfulness"].to_list() == [0.6, 0.6]


def _fluent(attack: str, *, prefilled: bool, role: str = "harm") -> list[dict[str, Any]]:
    at = {"variant": "unmodified", "attack": attack, "prefilled": prefilled, "role": role}
    return [
        {**row, **at, "empty": False, "repetition": 0.0, "nll": 1.0, "key": ""} for row in _asked()
    ]


def test_an_answer_under_a_prefill_goes_by_its_scores_without_it(results: Path) -> None:
    def judged(attack: str, **scores: float) -> list[dict[str, Any]]:
        return [
            {**row, "variant": "unmodified", "attack": attack, "judge": judge, "score": score}
            for judge, score in scores.items()
            for row in _asked()
        ]

    fluent = [
        *_fluent("prefill", prefilled=True),
        *_fluent("direct", prefilled=False),
        *_fluent(MISPLACED, prefilled=True, role=MISPLACED),
    ]
    _write(results / "responses" / "toy" / "fluency.parquet", FLUENCY, fluent)
    again = judged("prefill", refusal=0.9, learned=0.1, relevance=0.3)
    once = [
        *judged("prefill", refusal=0.1, learned=0.9, relevance=0.9),
        *judged("direct", refusal=0.2, learned=0.8, relevance=0.7),
    ]
    _write(results / "judgements" / "toy" / "continuations.parquet", JUDGE_SCORES, again)
    _write(results / "judgements" / "toy.parquet", JUDGE_SCORES, once)
    found = _gathered(results, outcomes=True)
    table = found.continuations()
    assert _prompts(table) == sorted([OWN, "Who ate all the pies?"])
    numbers = ("refused", "harmful", "relevance", "nll")
    assert set(table.filter(attack="prefill").select(numbers).rows()) == {(True, False, 0.3, 1.0)}
    assert set(table.filter(attack="direct").select(numbers).rows()) == {(False, True, 0.7, 1.0)}
    assert set(table["role"]) == {"harm"}
    assert MISPLACED in set(found.fluency()["role"])


@pytest.mark.parametrize(("threshold", "harmful"), [(0.5, 1.0), (0.7, 0.0)])
def test_a_main_judge_without_labels_speaks_of_trained_models_too(
    results: Path, threshold: float, harmful: float
) -> None:
    at = {"arm": "shared", "seed": 0, "step": 4, "examples": 8, "nll": 1.0}
    _write(
        results / "responses" / "toy" / "retraining" / "again" / "shared.parquet",
        RETRAINED,
        [{**one, **at} for one in _asked()],
    )
    # As StrongREJECT's and a rubric's: a score alone.
    _write(
        results / "judgements" / "toy" / "retraining" / "again" / "shared.parquet",
        JUDGE_SCORES,
        _judge_scores("harmful", "shared@4.0"),
    )
    found = _gathered(results, main="harmful", threshold=threshold, retrained=True).retrained(
        "again"
    )
    assert found.filter(metric="harmful")["value"].to_list() == [harmful, harmful]
    assert found.filter(metric="harmfulness")["value"].to_list() == [0.6, 0.6]
    assert set(found["metric"]) == {"nll", "harmful", "harmfulness"}


def test_the_wording_makes_no_prompts_alike() -> None:
    wordings = ["{prompt}", "I have a meeting tomorrow morning and need this before it. {prompt}"]
    prompts = [row["prompt"] for row in make.prompts("alpha", 30)]
    plain = pl.DataFrame(
        {"behaviour": ["alpha", "beta"] * 15, "split": ["train", "test", "test"] * 10}
    ).with_columns(prompt=pl.Series(prompts))
    doubled = plain.vstack(
        plain.head(1).with_columns(behaviour=pl.lit("beta"), split=pl.lit("test"))
    )
    texts = [text.replace("{prompt}", each) for each in doubled["prompt"] for text in wordings[1:]]
    worded = doubled.with_columns(prompt=pl.Series(texts))
    left_out = _leaked(doubled, 0.6, wordings)["prompt"].to_list()
    assert prompts[0] in left_out
    without = _leaked(worded, 0.6, wordings)["prompt"].to_list()
    assert sorted(without) == sorted(wordings[1].replace("{prompt}", each) for each in left_out)
    assert _leaked(worded, 0.6, ["{prompt}"]).height > len(left_out) + 5
