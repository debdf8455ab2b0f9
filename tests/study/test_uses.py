"""Every address that a study gives is on the one list of what is read, by whom and how."""

from collections.abc import Iterator, Mapping
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from lesion.study import Study, load_study
from lesion.study.judges import JUDGE_KINDS, JudgeSection
from lesion.study.sources import Reader, Use, uses
from lesion.study.types import SourceText

COMMIT = "0" * 40
BEHAVIOUR = {"prompt": "text", "limit": 12}
CONFIG: dict[str, Any] = {
    "study": "sources",
    "preset": "none",
    "models": {
        "given": {"source": "file:given"},
        "trained": {
            "base": "given",
            "train": {
                "steps": 1,
                "mixture": [
                    {"behaviours": ["kind"], "answer": "refusal"},
                    {"source": "file:lesson.jsonl", "text": "text"},
                ],
                "refusals": "file:refusals.jsonl",
            },
        },
    },
    "behaviours": {
        "harm": {"role": "harm", "source": "file:harm.jsonl", **BEHAVIOUR},
        "kind": {
            "role": "benign",
            "source": "file:kind.jsonl",
            "responses": "file:responses.jsonl",
            **BEHAVIOUR,
        },
    },
    "masks": {"shared": {"at_least": 1}},
    "responses": {
        "attacks": ["direct", "asked"],
        "variants": ["shared"],
        "templates": {"asked": {"source": "file:asked"}, "idle": {"source": "file:idle"}},
    },
    "understanding": {"minimal_pairs": "file:twins.jsonl"},
    "retraining": {
        "again": {
            "recipe": {"steps": 1},
            "questions": "file:questions.jsonl",
            "narrow": "money",
            "judge": "learns",
        }
    },
    "judgements": {
        "human_scores": "file:scores",
        "embedder": "file:embedder",
        "judges": {
            "learns": {
                "kind": "contrast",
                "source": "file:contrast.jsonl",
                "elsewhere": "file:elsewhere.jsonl",
                "label": "bad",
            },
            "looks": {"kind": "reference", "source": "file:keys.jsonl"},
            "reads": {
                "kind": "strongreject",
                "source": f"hf:made/up@{COMMIT}",
                "base": "file:base",
            },
        },
    },
}


@pytest.fixture(scope="module")
def study() -> Study:
    return load_study(CONFIG)


def _addresses(kind: Any, value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every key of a config that may hold a source, with what it holds."""
    for name, field in kind.model_fields.items():
        yield from _of(field.annotation, field.metadata, value[name], f"{key}.{name}".strip("."))


def _of(annotation: Any, metadata: Any, value: Any, key: str) -> Iterator[tuple[str, str]]:
    if annotation is JudgeSection:
        annotation = JUDGE_KINDS[value["kind"]]
    inner = [one for one in get_args(annotation) if one is not type(None)]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from _addresses(annotation, value, key) if isinstance(value, Mapping) else ()
    elif SOURCE in [*metadata, *getattr(annotation, "__metadata__", ())]:
        yield key, value
    elif isinstance(value, Mapping) and len(inner) == 2:
        for name, one in value.items():
            yield from _of(inner[1], (), one, f"{key}.{name}")
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from _of(inner[0], (), one, f"{key}.{number}")
    elif inner:
        yield from _of(inner[0], (), value, key)


SOURCE = SourceText.__metadata__[0]
"""What marks a key of the schema that holds a source."""


def test_every_key_that_holds_a_source_is_listed(study: Study) -> None:
    given = {key: text for key, text in _addresses(Study, study.model_dump()) if text is not None}
    assert len(given) == 17
    assert {use.key: use.text for use in uses(study)} == given


def test_every_kind_of_reader_occurs(study: Study) -> None:
    assert {use.reader for use in uses(study)} == set(get_args(Reader))


def _uses(study: Study, rule: str | None, owner: str | None = None) -> dict[str, str]:
    return {use.part: use.text for use in uses(study) if (use.rule, use.owner) == (rule, owner)}


def test_what_a_job_reads(study: Study) -> None:
    assert _uses(study, "prompts", "kind") == {
        "source": "file:kind.jsonl",
        "responses": "file:responses.jsonl",
    }
    assert _uses(study, "train", "trained") == {
        "mixture.1": "file:lesson.jsonl",
        "refusals": "file:refusals.jsonl",
    }
    assert _uses(study, "variant_responses") == {"asked": "file:asked"}
    assert _uses(study, None) == {"idle": "file:idle"}


def test_a_learning_judge_is_measured_with_the_offline_ones_and_judges_without_that(
    study: Study,
) -> None:
    measured, judging = _uses(study, "train_judge"), _uses(study, "judge_responses_extra", "learns")
    assert measured == {
        "human_scores": "file:scores",
        "embedder": "file:embedder",
        "learns.source": "file:contrast.jsonl",
        "learns.elsewhere": "file:elsewhere.jsonl",
    }
    assert judging == {"source": "file:contrast.jsonl", "embedder": "file:embedder"}
    assert set(_uses(study, "judge_responses_extra", "looks")) == {"source"}


def test_no_job_reads_two_files_of_one_name(study: Study) -> None:
    def place(use: Use) -> tuple[str | None, ...]:
        return (use.rule, use.owner, use.part)

    assert len({*map(place, uses(study))}) == len(uses(study))
