"""Exactly the stale jobs run: Snakemake's own plan after each kind of change."""

import ast
import os
import re
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import polars as pl
import pytest

from lesion.masks.store import read_mask
from lesion.pairs.prompts import assign
from lesion.study import load_study
from lesion_testing.make import WORDS
from lesion_testing.workflow import HARMS, MASKS, STUDY, Finished, Place, cases

pytestmark = pytest.mark.slow

BEHAVIOURS = (*HARMS, "letters", "sums", "denials")
NOTED = {"study", "report", "card shared"}
TABLED = {"compute_tables", *NOTED}
JUDGED = {"judge_responses llama", "judge_responses llama/continuations"}
AFTERWARDS = {"continuations", *JUDGED, *TABLED}
PROMPTS = {f"prompts {name}" for name in BEHAVIOURS}
SELECTED = {"sweep", "choose", "select_masks", "checkpoint shared"}


def chain(*behaviours: str) -> set[str]:
    """All that is made of a behaviour alone."""
    return {
        f"{rule} {name}"
        for rule in ("prompts", "generate_pairs", "signed_scores")
        for name in behaviours
    }


def asked(*variants: str) -> set[str]:
    """Variants that are asked anew, and what follows from their answers."""
    return {f"variant_responses {name}" for name in variants} | AFTERWARDS


class Scenario(NamedTuple):
    """A change to a finished study, and the jobs it makes stale: these and no others."""

    change: Callable[[Place], object]
    stale: set[str]


def _study(change: Callable[[dict[str, Any]], object]) -> Callable[[Place], None]:
    return lambda place: place.configure(change)


def _set(section: str, **values: object) -> Callable[[Place], None]:
    return _study(lambda config: config[section].update(values))


def _rows(name: str, change: Callable[[list[dict[str, str]]], object]) -> Callable[[Place], None]:
    return lambda place: place.edit_rows(name, change)


def _append(path: str, text: str) -> Callable[[Place], None]:
    return lambda place: place.edit(path, lambda before: before + text)


STATEMENT = "\n_EDITED = True\n"
DELTA = {"role": "harm", "source": "pranks", "where": {"column": "kind", "equals": "delta"}}
LESION = "tree/src/lesion"


def _without_layout(place: Place) -> None:
    """Parse code and write it again, so that no comment and no layout is left of it."""

    def rewritten(text: str) -> str:
        plain = ast.unparse(ast.parse(text))
        return "# A comment.\n" + re.sub('^"""', '"""An edited docstring. ', plain)

    for name in ("scores/collect.py", "models/load.py", "pairs/prompts.py", "tables/run.py"):
        place.edit(f"{LESION}/{name}", rewritten)
    place.edit("tree/workflow/scripts/signed_scores.py", lambda text: text + "\n# A comment.\n")


def _touch_everything(place: Place) -> None:
    files = [path for path in (*place.inputs.rglob("*"), *place.tree.rglob("*")) if path.is_file()]
    assert len(files) > 100
    for path in (*files, place.study):
        os.utime(path)


def _turned(value: Any) -> Any:
    """A config with its keys in the opposite order."""
    if isinstance(value, Mapping):
        return {key: _turned(value[key]) for key in reversed(value)}
    return value


def _reordered(config: dict[str, Any]) -> None:
    turned = _turned(config)
    assert list(turned["behaviours"]) != list(config["behaviours"])
    config.clear()
    config.update(turned)


def _reformatted(place: Place) -> None:
    flow = "masks: {max_benign_increase: 1.0e3, shared: {at_least: 2}, q: [0.05], p: 1e-1} # why\n"
    block = re.compile(r"^masks:\n(?:  .*\n)+", re.MULTILINE)
    place.edit("study.yaml", lambda text: "# A comment.\n\n" + block.sub(flow, text))


def _spelt(number: str) -> Callable[[Place], None]:
    def change(place: Place) -> None:
        text = place.study.read_text(encoding="utf-8")
        assert "threshold: 1.0e-05\n" in text
        place.edit("study.yaml", lambda text: text.replace("1.0e-05", number))

    return change


ALL_MASKS = asked(*MASKS)
ALL_VARIANTS = asked("unmodified", *MASKS)
SCENARIOS = {
    "nothing is changed": Scenario(lambda _: None, set()),
    # Behaviours. All harm types are in one file: the rows count, not the file.
    "one type's prompts are edited": Scenario(
        _rows("pranks.jsonl", lambda rows: rows[3].update(prompt="swap the salt for the sugar")),
        chain("alpha") | SELECTED | ALL_VARIANTS,
    ),
    "rows are edited that no type selects": Scenario(
        _rows("pranks.jsonl", lambda rows: rows.pop()), set()
    ),
    "a capability's prompts are edited": Scenario(
        _rows("sums.jsonl", lambda rows: rows.pop()), chain("sums") | SELECTED | ALL_VARIANTS
    ),
    "refusals are edited, whose likelihood every variant gives": Scenario(
        _rows("refusals.jsonl", lambda rows: rows.pop()),
        chain("denials") | (SELECTED - {"sweep", "choose"}) | ALL_VARIANTS,
    ),
    "one type's filter is changed": Scenario(
        _study(lambda config: config["behaviours"]["beta"].update(where=DELTA["where"])),
        chain("beta") | SELECTED | ALL_VARIANTS,
    ),
    "a harm type is added": Scenario(
        _study(lambda config: config["behaviours"].update(delta=DELTA)),
        chain("delta") | SELECTED | ALL_VARIANTS,
    ),
    "a harm type is removed": Scenario(
        _study(lambda config: config["behaviours"].pop("alpha")),
        SELECTED | ALL_VARIANTS,
    ),
    "a variant is added": Scenario(_set("responses", variants=[*MASKS, "random"]), asked("random")),
    "an attack is added that needs no further weights": Scenario(
        _set("responses", attacks=["direct", "own-prefix", "prefill"]), ALL_VARIANTS
    ),
    # The importance for refusals is computed with their signed scores, which masks read.
    "an attack is added that zeroes the weights of refusal": Scenario(
        _set("responses", attacks=["direct", "prefill", "refusal-ablation"]),
        {
            "signed_scores denials",
            "refusal_mask",
            "select_masks",
            "checkpoint shared",
            *ALL_VARIANTS,
        },
    ),
    # Selection
    "q is changed": Scenario(_set("masks", q=0.06), SELECTED | ALL_MASKS),
    "p and q are swapped": Scenario(
        _set("masks", p=0.05, q=0.1),
        SELECTED | ALL_MASKS,
    ),
    # Snakemake stores a job's params as a set of values: those are 32 and 6 before and after.
    "two values of one stage are swapped": Scenario(
        _set("pairs", batch_size=6, max_new_tokens=32),
        chain(*BEHAVIOURS) - PROMPTS | SELECTED | ALL_VARIANTS,
    ),
    # Judges, statistics, page
    "the judge's threshold is changed": Scenario(_set("judgements", threshold=0.6), TABLED),
    "what the judge learns from is edited": Scenario(
        lambda place: place.edit(
            "inputs/scorer_evals/objective/pranks.csv", lambda text: text.replace("kite", "balloon")
        ),
        {"train_judge", *JUDGED, *TABLED},
    ),
    "the bootstrap is changed": Scenario(_set("tables", resamples=101), TABLED),
    "the page shows fewer examples": Scenario(_set("report", examples=1), {"report"}),
    # How often a job saves what it has so far is nobody's number; the page shows the config.
    "sums are saved more often": Scenario(
        _study(lambda config: config.setdefault("scores", {}).update(save_minutes=1.5)), NOTED
    ),
    "a checkpoint is asked for twice": Scenario(
        _study(lambda config: config.update(checkpoints=["shared", "shared"])), set()
    ),
    # Code
    "the scoring code is edited": Scenario(
        _append(f"{LESION}/scores/collect.py", STATEMENT),
        {f"signed_scores {name}" for name in BEHAVIOURS} | SELECTED | ALL_MASKS,
    ),
    "the report code is edited": Scenario(
        _append(f"{LESION}/report/page.py", STATEMENT), {"report"}
    ),
    "the report's template is edited": Scenario(
        _append(f"{LESION}/report/page.html.j2", "\n"), {"report"}
    ),
    "a rule's script is edited": Scenario(
        _append("tree/workflow/scripts/compute_tables.py", STATEMENT), TABLED
    ),
    # What must make nothing stale
    "every input and source file is touched": Scenario(_touch_everything, set()),
    "comments, docstrings and layout of code are edited": Scenario(_without_layout, set()),
    "the YAML is put in another order": Scenario(_study(_reordered), set()),
    "the YAML is reformatted and commented": Scenario(_reformatted, set()),
    "1.0e-05 is written as 0.00001": Scenario(_spelt("0.00001"), set()),
    "1.0e-05 is written as 1e-5": Scenario(_spelt("1e-5"), set()),
}


@pytest.fixture(scope="module")
def plans(
    request: pytest.FixtureRequest,
    finished: Finished,
    pool: ThreadPoolExecutor,
    tmp_path_factory: pytest.TempPathFactory,
) -> Mapping[str, Future[dict[str, str]]]:
    """What Snakemake plans in each scenario that is asked for."""

    def planned(name: str) -> dict[str, str]:
        place = finished.place.copy(tmp_path_factory.mktemp("scenario"))
        SCENARIOS[name].change(place)
        found = place.plan()
        shutil.rmtree(place.folder)
        return found

    return {name: pool.submit(planned, name) for name in cases(request, "scenario")}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_exactly_the_stale_jobs_are_planned(
    plans: Mapping[str, Future[dict[str, str]]], scenario: str
) -> None:
    planned = plans[scenario].result()
    reasons = [f"{job}: {reason}" for job, reason in planned.items()]
    assert set(planned) == SCENARIOS[scenario].stale, "\n".join(reasons)


def test_the_first_run_does_everything_once(finished: Finished) -> None:
    everything = chain(*BEHAVIOURS) | {"model", "train_judge"} | SELECTED | ALL_VARIANTS
    assert finished.jobs == everything


# A real run after an edit


def _counted(place: Place, log: str, what: str) -> tuple[int, int]:
    """How many rows a job made, of how many, by its own log."""
    text = (place.made / "logs" / log).read_text(encoding="utf-8")
    found = re.findall(rf"(?:generated|measured) (\d+) of (\d+) {what}", text)
    assert len(found) == 1, text
    return int(found[0][0]), int(found[0][1])


def _weights(place: Place, variant: str) -> list[int]:
    return read_mask(place.made / "masks" / "llama" / f"{variant}.safetensors").flat().tolist()


def _reworded(prompt: str, split: str) -> str:
    """The prompt with a word added that leaves it in its split, which its text decides."""
    study = load_study(STUDY)
    settings = (study.pairs.split.model_dump(), study.pairs.near_duplicate, study.seed)
    candidates = (f"{prompt} {word}" for word in WORDS)
    return next(text for text in candidates if assign([text], *settings) == [split])


def test_a_real_run_generates_only_the_rows_that_are_due(done: Place) -> None:
    """One train and one test prompt of `beta` are reworded; the model writes its responses."""
    pairs = pl.read_parquet(done.made / "pairs" / "llama" / "beta.parquet")
    first = {split: pairs.filter(split=split)["prompt"][0] for split in ("train", "test")}
    new = {prompt: _reworded(prompt, split) for split, prompt in first.items()}
    before = {name: _weights(done, name) for name in MASKS}

    def change(rows: list[dict[str, str]]) -> None:
        for row in rows:
            row["prompt"] = new.get(row["prompt"], row["prompt"])

    done.edit_rows("pranks.jsonl", change)
    assert set(done.run()) == chain("beta") | SELECTED | ALL_VARIANTS

    assert _counted(done, "pairs/llama/beta.log", "responses") == (len(new), pairs.height)
    remade = {name for name in MASKS if _weights(done, name) != before[name]}
    # Other types' masks are what they were: their scores and what is preserved are.
    assert remade == {"beta", "shared"}
    for name in ("unmodified", *MASKS):
        log = f"responses/llama/{name}.log"
        made, completions = _counted(done, log, "completions")
        measured, likelihoods = _counted(done, log, "NLLs")
        print(f"{name}: generated {made} of {completions}, measured {measured} of {likelihoods}")
        assert completions > 40
        # The one new test prompt is asked directly and under the prefill, and has one NLL.
        due = (completions, likelihoods) if name in remade else (2, 1)
        assert (made, measured) == due, name
    assert not done.plan()


FAILED = {
    "model": "models/llama/lesion.json",
    "prompts alpha": "pairs/prompts/alpha.parquet",
    "generate_pairs sums": "pairs/llama/sums.parquet",
    "signed_scores alpha": "scores/llama/alpha/*",
    "signed_scores sums": "scores/llama/sums/*",
    "sweep": "masks/llama/sweep.parquet",
    "choose": "masks/llama/chosen.json",
    "select_masks": "masks/llama/[a-z]*",
    "checkpoint shared": "checkpoints/llama/shared/lesion.json",
    "card shared": "checkpoints/llama/shared/README.md",
    "variant_responses shared": "responses/llama/shared/*",
    "continuations": "responses/llama/*.parquet",
    "train_judge": "judgements/judge*",
    "judge_responses llama": "judgements/llama.parquet",
    "compute_tables": "tables/*",
    "study": "tables/study.json",
    "report": "report/index.html",
}
"""What Snakemake removes before a job, and so what is not there after one that failed."""


@pytest.mark.parametrize("job", FAILED)
def test_a_job_that_failed_runs_again(done: Place, job: str) -> None:
    """Without it, what it would have changed counts as up to date."""
    removed = list(done.made.glob(FAILED[job]))
    assert removed
    for path in removed:
        path.unlink()
    assert job in done.plan()


def test_every_rule_of_the_study_may_fail(finished: Finished) -> None:
    ran = {job.split()[0] for job in finished.jobs}
    assert {job.split()[0] for job in FAILED} == ran
