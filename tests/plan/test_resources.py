"""What a job asks of a cluster: by its model's size, and more with every attempt."""

import re
from pathlib import Path
from typing import Any

import pytest

from lesion.io.formats import write_json
from lesion.plan import estimate, resources
from lesion.plan.resources import RESOURCE_FORMULAS, UNKNOWN, Size
from lesion.study import Study, load_study, read_config
from lesion_testing import ROOT
from lesion_testing.rules import rule_files

SMALL = Size(538_000_000, 106_000_000)
LARGE = Size(16_000_000_000, 7_000_000_000)
DEFAULT = load_study(read_config(ROOT / "config.yaml"))


def _study(folder: Path, source: str, **more: Any) -> Study:
    prompts = {"source": "file:prompts.jsonl", "limit": 40}
    return load_study(
        {
            "study": "s",
            "preset": "none",
            "results": str(folder / "results"),
            "sources": {"hub": "hf:some/model@main", "data": "file:data"},
            "models": {"m": {"source": source}},
            "behaviours": {
                "a": {"role": "harm", **prompts},
                "b": {"role": "benign", **prompts, "limit": 80},
            },
            "masks": {"shared": {"at_least": 1}},
            "judgements": {"human_scores": "data", "embedder": "data"},
            **more,
        }
    )


def _file(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)


@pytest.mark.parametrize("stage", RESOURCE_FORMULAS)
def test_every_attempt_gets_more(stage: str) -> None:
    memory = [resources.mem_mb(DEFAULT, stage, SMALL, attempt) for attempt in (1, 2, 3)]
    minutes = [resources.runtime(stage, SMALL, attempt=attempt) for attempt in (1, 2, 3)]
    assert memory == [memory[0], 2 * memory[0], 3 * memory[0]]
    assert minutes == [minutes[0], 2 * minutes[0], 3 * minutes[0]]


@pytest.mark.parametrize(
    "stage", [name for name, formula in RESOURCE_FORMULAS.items() if formula.weights]
)
def test_a_larger_model_gets_more(stage: str) -> None:
    assert (
        resources.mem_mb(DEFAULT, stage, LARGE) > 10 * resources.mem_mb(DEFAULT, stage, SMALL) / 2
    )
    assert resources.mem_mb(DEFAULT, stage, LARGE) * 10**6 > LARGE.weights
    assert resources.runtime(stage, LARGE) > resources.runtime(stage, SMALL)


# Most MB of a job of the default study on two cores (docs/how-to/cluster.md), its process alone.
MEASURED = {
    "model": 592,
    "generate_pairs": 1192,
    "signed_scores": 2301,
    "select_masks": 213,
    "variant_responses": 1285,
    "checkpoint": 102,
    "train_judge": 1052,
    "judge_responses": 785,
    "compute_tables": 308,
}
SNAKEMAKES = 2 * 165
"""MB of the two Snakemake processes that every job on a cluster has beside it."""


@pytest.mark.parametrize("stage", MEASURED)
def test_the_first_attempt_holds_what_was_measured(stage: str) -> None:
    assert resources.mem_mb(DEFAULT, stage, SMALL) > MEASURED[stage] + SNAKEMAKES


def test_a_size_is_that_of_the_record(tmp_path: Path) -> None:
    study = _study(tmp_path, f"file:{tmp_path / 'model'}")
    _file(tmp_path / "model" / "model.safetensors", 1000)
    assert resources.model_size(study, "m") == Size(1000, 500)
    record = tmp_path / "results" / "s" / "models" / "m" / "lesion.json"
    files = {"model.safetensors": 6000, "tokenizer.json": 50}
    write_json({"files": files, "candidates": [["x", [10, 20]], ["y", [5]]]}, record)
    assert resources.model_size(study, "m") == Size(6000, 205)
    # A record that is no record is made anew by the run.
    write_json({}, record)
    assert resources.model_size(study, "m") == Size(1000, 500)


def test_before_the_record_it_is_that_of_the_source(tmp_path: Path) -> None:
    study = _study(tmp_path, "hub")
    assert resources.model_size(study, "m") == UNKNOWN
    _file(tmp_path / "results" / "s" / "sources" / "hub" / "model.gguf", 1000)
    assert resources.model_size(study, "m") == Size(7000, 1750)


def test_a_job_without_a_model_has_no_size(tmp_path: Path) -> None:
    assert resources.model_size(_study(tmp_path, "hub"), None) == Size(0, 0)
    assert (
        resources.mem_mb(DEFAULT, "train_judge", Size(0, 0))
        == RESOURCE_FORMULAS["train_judge"].base
    )


def _pairs(study: Study, behaviour: str) -> float:
    return resources.work(study, "generate_pairs", {"model": "m", "behaviour": behaviour})


def test_a_training_is_as_long_as_its_steps_of_all_seeds(tmp_path: Path) -> None:
    recipe = {"steps": 30, "batch_size": 16}
    train = {**recipe, "mixture": [{"behaviours": ["b"]}]}
    study = _study(
        tmp_path,
        "hub",
        models={"m": {"source": "hub"}, "taught": {"base": "m", "train": train}},
        retraining={"again": {"recipe": recipe, "seeds": [1, 2, 3], "arms": ["unmodified"]}},
    )
    # The steps that were measured had 8 examples.
    assert resources.work(study, "train", {"model": "taught"}) == 60
    arm = {"model": "m", "experiment": "again", "arm": "unmodified"}
    assert resources.work(study, "train", arm) == 180


def test_more_prompts_and_tokens_take_longer(tmp_path: Path) -> None:
    tokens = {"max_new_tokens": 72}
    short, long = _study(tmp_path, "hub"), _study(tmp_path, "hub", pairs=tokens, responses=tokens)
    for study in (short, long):
        # `b` has twice the prompts of `a`.
        assert _pairs(study, "b") == 2 * _pairs(study, "a")
    for stage in ("sweep", "variant_responses", "continuations", "curve"):
        assert resources.work(long, stage, {}) > resources.work(short, stage, {})
    assert resources.runtime("generate_pairs", SMALL, 20.0) > resources.runtime(
        "generate_pairs", SMALL
    )
    # What is less than the default study's is not asked for with less.
    assert resources.runtime("generate_pairs", SMALL, 0.1) == resources.runtime(
        "generate_pairs", SMALL
    )


def test_work_is_counted_in_default_studies() -> None:
    study = load_study(read_config(ROOT / "config.yaml"))
    for stage in RESOURCE_FORMULAS.keys() - {"train"}:
        assert resources.work(study, stage, {}) == 1, stage
    for name in study.behaviours:
        assert _pairs(study, name) == 1
    doubled = study.model_copy(
        update={
            "behaviours": {
                name: one.model_copy(update={"limit": 2 * (one.limit or 0)})
                for name, one in study.behaviours.items()
            }
        }
    )
    assert resources.work(doubled, "variant_responses", {}) == 2
    # The unmodified model reads the answers of every judged variant.
    every = study.model_copy(
        update={"responses": study.responses.model_copy(update={"judged_variants": None})}
    )
    judged = len(every.judged_variants) / len(study.judged_variants)
    assert resources.work(every, "continuations", {}) == judged > 1
    assert _pairs(doubled, "code") == 2


def test_a_curve_takes_longer_with_more_sizes_draws_and_completions() -> None:
    def much(family: str, **keys: Any) -> float:
        curve = {"families": ["shared", "random"], "sizes": [0.25, 0.5, 1, 2], **keys}
        study = load_study({**read_config(ROOT / "config.yaml"), "curve": curve})
        return resources.work(study, "curve", {"family": family})

    assert much("shared") == much("random") == 1
    assert much("unmodified", seeds=3, completions=True) == 1 / 4
    assert much("shared", sizes=[1, 2], seeds=3) == 1 / 2
    # Only a control that is drawn has several masks of a size, and one of them completes prompts.
    assert much("random", seeds=3) == 3
    assert much("shared", completions=True) == 3
    assert much("random", seeds=3, completions=True) == 5
    # Of 40 prompts, at most 12 are test prompts.
    assert much("shared", max_pairs=3) == 1 / 2
    assert much("shared", max_pairs=None) == pytest.approx(2)


def test_a_large_model_is_taken_to_have_a_gpu() -> None:
    above = Size(0, resources.LARGE + 1)
    below = Size(0, resources.LARGE)
    assert resources.runtime("signed_scores", above) < resources.runtime("signed_scores", below)
    assert resources.runtime("select_masks", above) >= resources.runtime("select_masks", below)


@pytest.mark.parametrize(
    ("masks", "billions", "processes"),
    [
        ({"q": [1e-5]}, 0, 1),
        ({"q": [1e-5]}, 0.1, 1),
        ({"q": [1e-5]}, 7, 7),
        ({"q": [1e-5]}, 68, 16),
        ({"q": [1e-2]}, 68, 5),
        ({"q": [5e-2]}, 68, 1),
        ({"q": [1e-2], "scope": "matrix"}, 68, 16),
    ],
)
def test_large_models_scores_are_read_by_several_processes_within_a_memory(
    tmp_path: Path, masks: dict[str, Any], billions: float, processes: int
) -> None:
    study = _study(tmp_path, "hub", masks={"shared": {"at_least": 1}, **masks})
    size = Size(0, int(billions * 1e9))
    assert resources.readers(study, size) == processes
    asked = resources.mem_mb(study, "select_masks", size)
    scored = resources.mem_mb(study, "signed_scores", size)
    assert asked <= scored or processes == 1


@pytest.mark.parametrize(
    ("stage", "size", "spread", "wanted"),
    [
        ("select_masks", LARGE, True, 0),
        ("signed_scores", LARGE, False, 1),
        ("variant_responses", LARGE, True, 1),
        ("signed_scores", LARGE, True, 2),  # 16 GB of weights and 56 of sums
        ("variant_responses", Size(141_000_000_000, 68_000_000_000), True, 3),
    ],
)
def test_gpus_hold_the_weights(stage: str, size: Size, spread: bool, wanted: int) -> None:
    assert resources.gpus(stage, size, spread) == wanted


def test_every_rule_asks_by_a_law() -> None:
    asked = []
    for name, text in rule_files().items():
        asked += re.findall(r'(?:memory|minutes|gpus)\("(\w+)"\)', text)
        for line in re.findall(r"^ +(?:mem_mb|runtime)=.*", text, re.M):
            # A number of a rule's own is in no table, and no attempt may raise it.
            assert not re.search(r"\d", line), f"{name}: {line}"
    assert asked
    assert set(asked) <= set(RESOURCE_FORMULAS)


def _table_of_resources() -> dict[str, tuple[str, str]]:
    """The memory and the minutes of each rule, as docs/how-to/cluster.md gives them."""
    text = (ROOT / "docs" / "how-to" / "cluster.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.+?`) \| (.+?) \| (.+?) \|$", text, re.M)
    return {rule: (mb, time) for rules, mb, time in rows for rule in re.findall(r"\w+", rules)}


def _memory_text(formula: resources.ResourceFormula) -> str:
    factors = {"W": formula.weights, "C": formula.candidates}
    parts = [name if n == 1 else f"{n:g} {name}" for name, n in factors.items() if n]
    return " + ".join([str(formula.base), *parts])


def _time_text(formula: resources.ResourceFormula) -> str:
    seconds = f" + {resources.SLACK} × {formula.seconds:g} s C" if formula.seconds else ""
    return f"{formula.minutes}{seconds}"


def test_the_documented_resources_are_those_that_are_asked_for() -> None:
    table = _table_of_resources()
    mb, minutes = table.pop("judge_responses_extra")
    one, other = (RESOURCE_FORMULAS[name] for name in ("judge_responses_extra", "classifier"))
    assert mb == f"{_memory_text(one)}, or {_memory_text(other)} for a classifier"
    assert minutes == _time_text(one) == _time_text(other)
    assert len(table) > 20
    for rule, (mb, minutes) in table.items():
        of_time = estimate.FORMULAS.get(rule, rule)
        of_time = {"harmless_scores": "signed_scores"}.get(of_time, of_time)
        of_memory = RESOURCE_FORMULAS[estimate.MEMORY.get(rule, of_time)]
        # What follows is said in words: what the time is multiplied by, and what may need more.
        assert re.sub(r", or more .*", "", mb) == _memory_text(of_memory), rule
        seconds, *factors = minutes.split(" C × ")
        assert seconds + " C" * bool(factors) == _time_text(RESOURCE_FORMULAS[of_time]), rule


def test_the_documented_multiples_are_the_default_studys() -> None:
    text = " ".join((ROOT / "docs" / "how-to" / "cluster.md").read_text("utf-8").split())
    judged, masks = len(DEFAULT.judged_variants), len(DEFAULT.equal_cost_masks)
    assert (
        f"its {len(DEFAULT.behaviours)} behaviours, {len(DEFAULT.masks.q)} points (p, q), "
        f"{judged} judged variants, {len(DEFAULT.curve.sizes)} sizes of a curve, and {masks} masks"
    ) in text


def test_a_site_without_gpus_takes_back_what_every_rule_asks_for() -> None:
    asking, inherits = set(), {}
    for text in rule_files().values():
        for block in re.split(r"^(?=(?:use )?rule )", text, flags=re.M):
            named = re.match(r"(?:use rule (\w+) as|rule) (\w+)", block)
            if named and re.search(r"^ +gpu=", block, re.M):
                asking.add(named[2])
            elif named and named[1]:
                inherits[named[2]] = named[1]
    asking |= {rule for rule, other in inherits.items() if other in asking}
    assert len(asking) > 8
    (profile,) = (ROOT / "workflow" / "profiles" / "slurm").iterdir()
    advice = re.search(r"set-resources: \{.*?\}\}", profile.read_text("utf-8"), re.S)
    assert advice
    assert set(re.findall(r"(\w+): \{gpu: 0\}", advice[0])) == asking
