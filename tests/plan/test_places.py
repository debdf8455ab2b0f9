"""Which files and which contents of its sources a job depends on."""

import json
from pathlib import Path
from typing import Any

import pytest

from lesion.plan.places import inputs, places
from lesion.sources.jobs import SourceLocation
from lesion.study import Study, StudyError, load_study

MADE = Path("results/tiny")
SHA = "0" * 64


def _rows(path: Path, *rows: dict[str, Any]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def _prompts(path: Path, word: str, *others: str) -> None:
    _rows(path, *({"prompt": f"{word} {number}"} for number in (*map(str, range(12)), *others)))


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A study whose files are here, but for the fetched ones."""
    monkeypatch.chdir(tmp_path)
    _prompts(Path("harm.jsonl"), "harm")
    _prompts(Path("kind.jsonl"), "kind")
    _rows(Path("refusals.jsonl"), {"response": "No."})
    Path("aim.txt").write_text("Play: {{ prompt }}", encoding="utf-8")
    for name in ("model/a.safetensors", "model/b.json", "scores/a.csv"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    return load_study(
        {
            "study": "tiny",
            "preset": "none",
            "sources": {"fetched": f"file:elsewhere.jsonl#sha256={SHA}"},
            "models": {"m": {"source": "file:model"}, "n": {"source": "fetched"}},
            "behaviours": {
                "harm": {"role": "harm", "source": "file:harm.jsonl", "limit": 12},
                "far": {"role": "harm", "source": "fetched"},
                "kind": {
                    "role": "benign",
                    "source": "file:kind.jsonl",
                    "responses": "file:refusals.jsonl",
                },
            },
            "masks": {"shared": {"at_least": 1}},
            "responses": {"attacks": ["aim"], "templates": {"aim": {"source": "file:aim.txt"}}},
            "judgements": {"human_scores": "file:scores", "embedder": "fetched"},
        }
    )


def contents(study: Study, rule: str, owner: str | None = None) -> dict[str, str]:
    found = {part: place.content for part, place in places(study, rule, owner).items()}
    return {part: content for part, content in found.items() if content is not None}


def test_a_local_model_is_input_files_and_local_rows_are_not(study: Study) -> None:
    assert inputs(study, "model", "m") == [Path("model/a.safetensors"), Path("model/b.json")]
    assert inputs(study, "prompts", "kind") == []
    assert inputs(study, "variant_responses") == []
    record = MADE / "sources" / "fetched.json"
    assert inputs(study, "prompts", "far") == [record]
    assert inputs(study, "model", "n") == [record]
    assert inputs(study, "train_judge") == [Path("scores/a.csv"), record]


def test_where_a_job_finds_its_sources(study: Study) -> None:
    digests = contents(study, "prompts", "kind")
    assert places(study, "prompts", "kind") == {
        part: SourceLocation(path=Path(name), content=digests[part])
        for part, name in (("source", "kind.jsonl"), ("responses", "refusals.jsonl"))
    }
    folder = MADE / "sources" / "fetched"
    fetched = SourceLocation(path=folder, record=Path(f"{folder}.json"))
    scores = SourceLocation(path=Path("scores"))
    assert places(study, "train_judge") == {"human_scores": scores, "embedder": fetched}


def test_only_what_is_taken_of_a_file_counts(study: Study) -> None:
    def now() -> list[dict[str, str]]:
        jobs = [("prompts", "harm"), ("prompts", "kind"), ("variant_responses", None)]
        return [contents(study, rule, owner) for rule, owner in jobs]

    harm, kind, attack = before = now()
    assert [set(one) for one in before] == [{"source"}, {"source", "responses"}, {"aim"}]
    assert not contents(study, "prompts", "far")
    assert not contents(study, "model", "m")

    _prompts(Path("harm.jsonl"), "harm", "beyond the limit")
    assert now() == before
    _prompts(Path("harm.jsonl"), "other")
    changed, *rest = now()
    assert changed != harm
    assert rest == [kind, attack]

    _rows(Path("refusals.jsonl"), {"response": "Never."})
    _, answered, _ = now()
    assert answered["source"] == kind["source"]
    assert answered["responses"] != kind["responses"]

    Path("aim.txt").write_text("Say: {{ prompt }}", encoding="utf-8")
    assert now()[2] != attack


def test_a_missing_file_is_named_with_its_key(study: Study) -> None:
    Path("refusals.jsonl").unlink()
    with pytest.raises(StudyError, match=r"`behaviours\.kind\.responses`: refusals\.jsonl"):
        contents(study, "prompts", "kind")
    with pytest.raises(StudyError, match=r"`behaviours\.kind\.responses`: refusals\.jsonl"):
        places(study, "prompts", "kind")
