"""Exactly the stale jobs run: Snakemake's own plan after each kind of change."""

import ast
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from conftest import HARMS, MASKS, STUDY, Finished, Place
from make import WORDS

from lesion.masks.store import read_mask
from lesion.pairs.prompts import assign
from lesion.study import load_study

BEHAVIOURS = (*HARMS, "letters", "sums", "denials")
AFTERWARDS = {"judgements", "tables", "report"}
SELECTED = {"sweep 0.1", "masks", "checkpoint shared"}


def chain(*behaviours: str) -> set[str]:
    """All that is made of a behaviour alone."""
    return {f"{rule} {name}" for rule in ("prompts", "pairs", "scores") for name in behaviours}


def asked(*variants: str) -> set[str]:
    """Variants that are asked anew, and what follows from their answers."""
    return {f"responses {name}" for name in variants} | AFTERWARDS


def test_the_first_run_does_everything_once(finished: Finished) -> None:
    everything = chain(*BEHAVIOURS) | {"model", "judge"} | SELECTED | asked("intact", *MASKS)
    assert finished.jobs == everything


def test_nothing_is_left_to_do(done: Place) -> None:
    assert done.plan() == set()


# One harm type


def _edit_prompts(rows: list[dict[str, str]]) -> None:
    row = next(row for row in rows if row["kind"] == "alpha")
    row["prompt"] += " quietly"


def test_editing_one_types_prompts_plans_no_other_types_pairs_or_scores(done: Place) -> None:
    # All harm types are in one file: the rows count, not the file.
    done.edit_rows("pranks.jsonl", _edit_prompts)
    assert done.plan() == chain("alpha") | SELECTED | asked("intact", *MASKS)


def test_editing_rows_that_no_type_selects_plans_nothing(done: Place) -> None:
    done.edit_rows("pranks.jsonl", lambda rows: rows.pop())
    assert done.plan() == set()


def test_editing_a_capabilitys_prompts_plans_no_harm_types_scores(done: Place) -> None:
    done.edit_rows("sums.jsonl", lambda rows: rows.pop())
    assert done.plan() == chain("sums") | SELECTED | asked("intact", *MASKS)


def test_editing_refusals_plans_only_their_mask(done: Place) -> None:
    # No variant is asked what refusal is made of; but all masks are made by one job.
    done.edit_rows("refusals.jsonl", lambda rows: rows.pop())
    assert done.plan() == chain("denials") | (SELECTED - {"sweep 0.1"}) | asked(*MASKS)


def test_changing_one_types_filter(done: Place) -> None:
    where = {"column": "kind", "equals": "delta"}
    done.configure(lambda config: config["behaviours"]["beta"].update(where=where))
    assert done.plan() == chain("beta") | SELECTED | asked("intact", *MASKS)


def test_adding_a_harm_type(done: Place) -> None:
    delta = {"role": "harm", "source": "pranks", "where": {"column": "kind", "equals": "delta"}}
    done.configure(lambda config: config["behaviours"].update(delta=delta))
    assert done.plan() == chain("delta") | SELECTED | asked("intact", *MASKS, "delta")


def test_removing_a_harm_type(done: Place) -> None:
    done.configure(lambda config: config["behaviours"].pop("beta"))
    left = [name for name in MASKS if name != "beta"]
    assert done.plan() == SELECTED | asked("intact", *left)


# Selection, judging, statistics


def test_changing_q_leaves_the_intact_model_alone(done: Place) -> None:
    done.configure(lambda config: config["masks"].update(q=0.06))
    assert done.plan() == SELECTED | asked(*MASKS)


def test_swapping_p_and_q(done: Place) -> None:
    done.configure(lambda config: config["masks"].update(p=0.05, q=0.1))
    selected = {"sweep 0.05", "masks", "checkpoint shared"}
    assert done.plan() == selected | asked(*MASKS)


def test_swapping_two_values_of_one_stage(done: Place) -> None:
    # Snakemake stores a job's params as a set of values: these are 32 and 7 before and after.
    done.configure(lambda config: config["responses"].update(batch_size=7, max_new_tokens=32))
    assert done.plan() == asked("intact", *MASKS)


def test_changing_the_judges_threshold_plans_only_tables(done: Place) -> None:
    done.configure(lambda config: config["judgements"].update(threshold=0.6))
    assert done.plan() == {"tables", "report"}


def test_changing_what_the_judge_learns_from(done: Place) -> None:
    scores = "inputs/scorer_evals/objective/pranks.csv"
    done.edit(scores, lambda text: text.replace("kite", "balloon"))
    assert done.plan() == {"judge", *AFTERWARDS}


def test_changing_the_bootstrap(done: Place) -> None:
    done.configure(lambda config: config["tables"].update(resamples=101))
    assert done.plan() == {"tables", "report"}


def test_changing_how_many_examples_the_page_shows(done: Place) -> None:
    done.configure(lambda config: config["report"].update(examples=1))
    assert done.plan() == {"report"}


# Code

STATEMENT = "\n_EDITED = True\n"


def test_editing_the_scoring_code(done: Place) -> None:
    done.edit("tree/src/lesion/scores/collect.py", lambda text: text + STATEMENT)
    scored = {f"scores {name}" for name in BEHAVIOURS}
    assert done.plan() == scored | SELECTED | asked(*MASKS)


def test_editing_the_report_code(done: Place) -> None:
    done.edit("tree/src/lesion/report/page.py", lambda text: text + STATEMENT)
    assert done.plan() == {"report"}


@pytest.mark.parametrize("suffix", [".j2", ".js"])
def test_editing_the_reports_template_and_script(done: Place, suffix: str) -> None:
    path = next((done.tree / "src/lesion/report").glob(f"*{suffix}"))
    done.edit(str(path.relative_to(done.folder)), lambda text: text + "\n")
    assert done.plan() == {"report"}


def test_editing_a_rules_script(done: Place) -> None:
    done.edit("tree/workflow/scripts/tables.py", lambda text: text + STATEMENT)
    assert done.plan() == {"tables", "report"}


def test_comments_docstrings_and_layout_of_code_plan_nothing(done: Place) -> None:
    def rewritten(text: str) -> str:
        # Parsed and written again: no comment and none of the layout is left.
        plain = ast.unparse(ast.parse(text))
        return "# A comment.\n" + re.sub('^"""', '"""An edited docstring. ', plain)

    for name in ("scores/collect.py", "models/load.py", "pairs/prompts.py", "tables/run.py"):
        done.edit(f"tree/src/lesion/{name}", rewritten)
    done.edit("tree/workflow/scripts/scores.py", lambda text: text + "\n# A comment.\n")
    assert done.plan() == set()


# What must plan nothing


def _files(*places: Path) -> list[Path]:
    below = [place.rglob("*") if place.is_dir() else [place] for place in places]
    return [path for paths in below for path in paths if path.is_file()]


def test_touching_every_input_and_source_file_plans_nothing(done: Place) -> None:
    files = _files(done.inputs, done.tree, done.study)
    assert len(files) > 100
    for path in files:
        os.utime(path)
    assert done.plan() == set()


def _reordered(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _reordered(value[key]) for key in reversed(value)}
    return value


def test_reordering_the_yaml_plans_nothing(done: Place) -> None:
    def change(config: dict[str, Any]) -> None:
        turned = _reordered(config)
        assert list(turned["behaviours"]) != list(config["behaviours"])
        config.clear()
        config.update(turned)

    done.configure(change)
    assert done.plan() == set()


def test_reformatting_and_commenting_the_yaml_plans_nothing(done: Place) -> None:
    flow = "masks: {max_benign_increase: 1.0e3, shared: {at_least: 2}, q: [0.05], p: 1e-1} # why\n"
    block = re.compile(r"^masks:\n(?:  .*\n)+", re.MULTILINE)
    done.edit("study.yaml", lambda text: "# A comment.\n\n" + block.sub(flow, text))
    assert done.plan() == set()


@pytest.mark.parametrize("spelling", ["0.00001", "1e-5", "1E-05", ".1e-4", "10.0e-6"])
def test_another_spelling_of_a_number_plans_nothing(done: Place, spelling: str) -> None:
    assert "threshold: 1.0e-05\n" in done.study.read_text(encoding="utf-8")
    done.edit("study.yaml", lambda text: text.replace("1.0e-05", spelling))
    assert done.plan() == set()


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
    assert done.jobs() == chain("beta") | SELECTED | asked("intact", *MASKS)

    assert _counted(done, "pairs/llama/beta.log", "responses") == (len(new), pairs.height)
    remade = {name for name in MASKS if _weights(done, name) != before[name]}
    # Other types' masks are what they were: their scores and what is preserved are.
    assert {"beta", "shared"} <= remade <= set(MASKS) - {"alpha", "gamma"}
    for name in ("intact", *MASKS):
        log = f"responses/llama/{name}.log"
        made, completions = _counted(done, log, "completions")
        measured, likelihoods = _counted(done, log, "NLLs")
        assert completions > 40
        # The one new test prompt is asked directly and under the prefill, and has one NLL.
        due = (completions, likelihoods) if name in remade else (2, 1)
        assert (made, measured) == due, name
        print(f"{name}: generated {made} of {completions}, measured {measured} of {likelihoods}")
    assert done.plan() == set()
