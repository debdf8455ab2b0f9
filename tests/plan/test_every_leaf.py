"""Every key of a study decides some job, and no job that it should not.

One key after the other is given another value. The specifications of all jobs are built before
and after; what differs is what Snakemake would make anew.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from typing import Any, Literal, NamedTuple, get_args, get_origin

import pytest
from pydantic import BaseModel

from lesion.plan.estimate import every_job
from lesion.plan.jobs import RULES
from lesion.study import Study, StudyError, load_study
from lesion_testing import ROOT
from lesion_testing.rich_study import OTHER, STUDY

Key = tuple[str | int, ...]
Jobs = dict[tuple[str, str], str]

ASKED = {
    *(
        "variant_responses",
        "continuations",
        "curve",
        "equal_cost",
        "understanding",
        "utility",
        "retrain",
    ),
}
SCORED = {"signed_scores", "harmless_scores"}
JUDGED = {"train_judge", "judge_responses", "judge_responses_extra"}
TABLED = {"compute_tables"}
SELECTED = {"sweep", "select_masks", "curve_masks", "equal_cost_masks"}
BEHAVIOURS = {
    *("prompts", "matched_prompts", "generate_pairs", "refusal_mask"),
    *SCORED,
    *SELECTED,
    *ASKED,
    *TABLED,
}


TOUCHES: dict[str, set[str]] = {
    # Numbers and places that many stages go by.
    "equal_cost": {"equal_cost_masks"},
    "equal_cost.masks": {"equal_cost_masks", "equal_cost", "signed_scores", *TABLED},
    "seed": {"prompts", "select_masks", "curve_masks", "equal_cost_masks", "train_judge", *TABLED},
    "date": {"model"},
    "threads": {
        "train",
        "generate_pairs",
        *SCORED,
        "sweep",
        "equal_cost_masks",
        *ASKED,
        "judge_responses",
        "judge_responses_extra",
    },
    "device_map": {
        "train",
        "generate_pairs",
        *SCORED,
        "sweep",
        "equal_cost_masks",
        *ASKED,
        "judge_responses_extra",
    },
    "sources": {"source"},
    # Models
    "models": {"model", "train"},
    "models.*.base": {"model", "train", *TABLED},
    "models.*.train.method": {"train", *TABLED},
    "models.*.train.seeds": {"train", *TABLED},
    "models.*.source": {"source", "model"},
    "models.*.license": {"model", "train", "checkpoint"},
    "models.*.train.mixture.*.source": {"source", "train"},
    "models.*.train.refusals": {"source", "train"},
    "training_stages": TABLED,
    # Behaviours
    "behaviours": {"prompts"},
    "behaviours.*.role": {*BEHAVIOURS, "control_answers"},
    "behaviours.*.of": {"matched_prompts", *SELECTED, *TABLED},
    "behaviours.*.source": {"source", "prompts"},
    "behaviours.gamma-matched": {"matched_prompts"},
    "behaviours.gamma-matched.source": {"source", "matched_prompts"},
    "behaviours.*.responses": {"source", "prompts"},
    "pairs": {"prompts"},
    "pairs.near_duplicate": {"prompts", "matched_prompts", *TABLED},
    "pairs.prefill": {"generate_pairs", "variant_responses", "curve", "retrain"},
    "pairs.max_new_tokens": {"generate_pairs"},
    "pairs.batch_size": {"generate_pairs"},
    # Scores and masks
    "scores": SCORED,
    "masks": SELECTED,
    "masks.scope": {*SCORED, *SELECTED},
    "masks.p": {"sweep"},
    "masks.q": {"sweep"},
    "masks.max_benign_increase": {"sweep", "choose", *TABLED},
    "masks.controls": {"signed_scores", "select_masks"},
    "checkpoints": {"checkpoint", "card"},
    # What is asked
    "responses": {"variant_responses"},
    "responses.dtype": {*ASKED, "generate_pairs", "sweep", "equal_cost_masks"} - {"retrain"},
    "responses.attacks": {"source", *SCORED, "refusal_mask", "variant_responses"},
    "responses.ablation": {"variant_responses", "understanding", "utility", *TABLED},
    "responses.refusal_ablation": {"refusal_mask"},
    "responses.refusal_ablation.signed": {"refusal_mask", *SCORED},
    "responses.templates.*.source": {"source", "variant_responses"},
    "responses.variants": {"variant_responses", *TABLED},
    "responses.judged_variants": {
        "variant_responses",
        "continuations",
        "judge_responses",
        "judge_responses_extra",
    },
    "responses.max_new_tokens": {
        "variant_responses",
        "curve",
        "understanding",
        "retrain",
        "train_judge",
    },
    "responses.batch_size": {"variant_responses", "curve", "understanding", "retrain"},
    "responses.batch_tokens": {*ASKED, "sweep", "equal_cost_masks"} - {"utility"},
    "curve": {"curve"},
    "curve.families": {
        "curve_masks",
        "curve",
        "continuations",
        "judge_responses",
        "judge_responses_extra",
        *TABLED,
    },
    "curve.sizes": {"curve_masks"},
    "curve.seeds": {"curve_masks"},
    "curve.completions": {
        "curve",
        "continuations",
        "judge_responses",
        "judge_responses_extra",
        *TABLED,
    },
    "understanding": {"understanding"},
    "understanding.minimal_pairs": {"source", "understanding"},
    "understanding.variants": {
        "understanding",
        "continuations",
        "judge_responses",
        "judge_responses_extra",
        *TABLED,
    },
    "utility": {"utility"},
    "utility.tasks": {"utility", *TABLED},
    "utility.variants": {"utility", *TABLED},
    "retraining": {"retrain", "judge_responses", "judge_responses_extra", *TABLED},
    "retraining.*.recipe": {"retrain"},
    "retraining.*.questions": {"source", "retrain"},
    # Who judges
    "judgements": TABLED,
    "judgements.human_scores": {"source", "train_judge"},
    "judgements.embedder": {"source", *JUDGED},
    "judgements.primary": {*TABLED, "judge_responses", "judge_responses_extra"},
    "judgements.judges.*": {"source", "judge_responses_extra"},
    "judgements.judges.own": {"source", "train_judge", "judge_responses_extra"},
    "tables": TABLED,
    "report": {"report"},
}
"""By the beginning of a key, the rules whose jobs it may touch; the longest one counts."""

UNTOUCHED = {
    "study": "names the folder of the results, in which there is nothing yet",
    "results": "is that folder's place, in which there is nothing yet",
    "scores.save_minutes": "only says how often unfinished sums are saved",
    "preset": "its keys count by their own names",
    "pairs.limit": "is the limit of behaviours, here all written out",
    "preload": "only says how jobs are started",
    "models.*.train.save_minutes": "only says how often an unfinished training is saved",
    "models.*.pairs": "decides which model's pairs a rule without a specification copies",
    "pairs.reference_model": "decides which model's pairs a rule without a specification copies",
}
"""Keys that decide no specification, and why."""


class Leaf(NamedTuple):
    """A key that holds no section."""

    key: Key
    annotation: Any
    value: Any
    field: str
    """Its section and its name there."""


def leaves(section: BaseModel, key: Key = ()) -> Iterator[Leaf]:
    """Every key of a section, and of those within, that holds no section."""
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        within = list(_sections_in(value, (*key, name)))
        for one, where in within:
            yield from leaves(one, where)
        if not within:
            yield Leaf((*key, name), field.annotation, value, f"{type(section).__name__}.{name}")


def _sections_in(value: Any, key: Key) -> Iterator[tuple[BaseModel, Key]]:
    if isinstance(value, BaseModel):
        yield value, key
    parts = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value if isinstance(value, list) else ())
    )
    for name, one in parts:
        if isinstance(one, BaseModel):
            yield one, (*key, name)


def others(value: Any, annotation: Any) -> Iterator[Any]:
    """Values to try in a key's place; not all are valid."""
    yield from _literals(annotation)
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, (int, float)):
        yield from (value + 1, value * 2, value * 0.9, value / 2, 0.25, 0.99)
    elif isinstance(value, str):
        yield from (OTHER, f"{value}x", "2026-02-02", "auto", "plain", "hb", "alpha")
    elif isinstance(value, list):
        yield [one + 1 if isinstance(one, int) else one for one in value]
        yield [one * 0.9 if isinstance(one, float) else one for one in value]
        yield from (value[:-1], value[1:])
        yield from ([*value, one] for one in ("shared", "gamma", "code", "alpha", "arc_easy"))
        yield from ([*value, one] for one in (0.01, 3))
    elif isinstance(value, dict):
        yield {**value, "more": 1}
        yield {name: one[::-1] for name, one in value.items() if isinstance(one, list)}
    elif value is None:
        yield from (3, 30, 0.0005, "x", OTHER, "base", True, "auto")
        yield from ({"column": "kind", "equals": "a"}, {"rank": 2})


def _literals(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    for part in get_args(annotation):
        if not isinstance(part, str):
            yield from _literals(part)


@cache
def changed(name: str) -> Study | None:
    """The study with another valid value of one key; None if none of those tried is valid.

    Where a key excludes another one of its section, that one is taken out.
    """
    key, annotation, value, _ = LEAVES[name]
    config = base()[0]
    *above, last = key
    section: Any = config
    for part in above:
        section = section[part]
    siblings = [name for name in section if name != last] if isinstance(section, dict) else []
    for left_out in (None, *siblings):
        for other in others(value, annotation):
            changes = {last: other} if left_out is None else {last: other, left_out: None}
            copy = _put(config, tuple(above), {**section, **changes})
            with suppress(StudyError):
                study = load_study(copy)
                if study.model_dump(mode="json") != config:
                    return study
    return None


def _put(config: Any, key: Key, value: Any) -> Any:
    """A copy of a config with one value replaced."""
    if not key:
        return value
    first, *rest = key
    if isinstance(config, list):
        assert isinstance(first, int)
        return [*config[:first], _put(config[first], tuple(rest), value), *config[first + 1 :]]
    return {**config, first: _put(config[first], tuple(rest), value)}


def jobs(study: Study) -> Jobs:
    """The specification of every job of a study."""
    named = [
        ("generate_pairs" if rule == "same_pairs" else rule, names)
        for rule, names in every_job(study)
    ]
    return {
        (rule, str(sorted(names.items()))): RULES[rule].build(study, names).model_dump_json()
        for rule, names in named
    }


@cache
def base() -> tuple[dict[str, Any], Jobs]:
    """The whole config of the study, every default written out, and its jobs."""
    study = load_study(STUDY)
    return study.model_dump(mode="json"), jobs(study)


def _matches(pattern: str, key: Key) -> bool:
    parts = pattern.split(".")
    return len(parts) <= len(key) and all(
        one in ("*", str(part)) for one, part in zip(parts, key, strict=False)
    )


def _allowed(key: Key) -> set[str]:
    found = [pattern for pattern in TOUCHES if _matches(pattern, key)]
    return TOUCHES[max(found, key=lambda pattern: (pattern.count("."), "*" not in pattern))]


def _reason(key: Key) -> str | None:
    found = [pattern for pattern in UNTOUCHED if _matches(pattern, key)]
    return UNTOUCHED[found[0]] if found else None


LEAVES = {".".join(map(str, leaf.key)): leaf for leaf in leaves(load_study(STUDY))}


def _touched(study: Study) -> set[str]:
    """The rules whose jobs are others."""
    before, after = base()[1], jobs(study)
    return {
        rule
        for rule, names in before.keys() | after.keys()
        if before.get((rule, names)) != after.get((rule, names))
    }


@cache
def _touched_by(name: str) -> frozenset[str]:
    """The rules whose jobs a key touches, but for `study`, which writes the whole config down."""
    study = changed(name)
    return frozenset(_touched(study) - {"study"} if study else ())


def _alike(name: str) -> list[str]:
    """The key, and those of the same name in other sections of its kind."""
    field = LEAVES[name].field
    return [name, *(other for other, leaf in LEAVES.items() if leaf.field == field)]


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_key_touches_the_jobs_that_it_should(leaf: str) -> None:
    key, study = LEAVES[leaf].key, changed(leaf)
    if study is None:
        return  # its section's key is changed elsewhere; see the next test
    touched = _touched(study)
    # Whatever is said in the config is said beside the tables, but for what the page alone goes by.
    assert ("study" in touched) == (key[0] != "report")
    touched -= {"study"}
    if _reason(key) is not None:
        assert not touched or leaf in ("study", "results", "preset")
        return
    allowed = _allowed(key)
    assert touched <= allowed, f"touches {sorted(touched - allowed)} as well"
    # A column of a file says nothing of examples without one: another of the same key does.
    assert any(map(_touched_by, _alike(leaf))), "touches no job"


def test_every_key_touches_a_job_somewhere() -> None:
    fields: dict[str, list[str]] = {}
    for name, leaf in LEAVES.items():
        if _reason(leaf.key) is None:
            fields.setdefault(leaf.field, []).append(name)
    idle = {field for field, names in fields.items() if not any(map(_touched_by, names))}
    decided = {field for field in idle if field.endswith(".kind")} | {"Model.new", "Model.train"}
    assert idle - decided == set(TOGETHER)


TOGETHER: dict[str, tuple[dict[str, Any], set[str]]] = {
    **dict.fromkeys(
        ("Split.train", "Split.validation", "Split.test"),
        ({"pairs": {"split": {"train": 0.4, "validation": 0.3, "test": 0.3}}}, {"prompts"}),
    ),
    "Pairs.wordings": (
        {"pairs": {"wordings": ["Could you do this? {prompt}"]}},
        {"prompts", "matched_prompts", *TABLED},
    ),
    "Masks.contrast": (
        {"masks": {"contrast": [0.5]}, "scores": {"tail": None}},
        {*SCORED, "sweep"},
    ),
    "Masks.preservation_pooling": (
        {"masks": {"preservation_pooling": "mean"}, "scores": {"tail": None}},
        {*SCORED, *SELECTED, "refusal_mask"},
    ),
}
"""Keys of which no other value is valid alone: what they are changed with, and what this touches.
The kind of a judge, and whether a model is trained, decide which sections there are."""


@pytest.mark.parametrize("field", TOGETHER)
def test_keys_that_go_together_touch_what_they_should(field: str) -> None:
    changes, touched = TOGETHER[field]
    config = base()[0]
    merged = {section: {**config[section], **values} for section, values in changes.items()}
    assert _touched(load_study({**config, **merged})) - {"study"} == touched


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from _sections(field.annotation)
    for part in get_args(annotation):
        if not isinstance(part, str):
            yield from _sections(part)


def _used(value: Any) -> Iterator[type[BaseModel]]:
    if isinstance(value, BaseModel):
        yield type(value)
        for name in type(value).model_fields:
            yield from _used(getattr(value, name))
    elif isinstance(value, dict):
        for one in value.values():
            yield from _used(one)
    elif isinstance(value, list):
        for one in value:
            yield from _used(one)


def test_the_study_has_every_section() -> None:
    from lesion.study.judges import JUDGE_KINDS, JudgeSection

    wanted = {*_sections(Study), *JUDGE_KINDS.values()} - {JudgeSection}
    assert set(_used(load_study(STUDY))) == wanted


def test_the_docs_say_the_same() -> None:
    page = (ROOT / "docs" / "reference" / "reruns.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([\w.*]+)` \| (`[a-z_]+`(?:, `[a-z_]+`)*) \|$", page, re.M))
    assert len(rows) > 20
    for key, rules in rows.items():
        assert set(re.findall(r"[a-z_]+", rules)) == TOUCHES[key], key
