"""Paths as people write them: every key that holds one expands it alike, or is refused by name.

The keys are found in the schema: a new one that is listed nowhere below fails.
"""

import copy
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import AfterValidator, BaseModel
from typer.testing import CliRunner

from lesion import cli
from lesion.io.addresses import AddressError, expanded
from lesion.study import Study, StudyError, load_study, read_config, with_preset
from lesion.study.judges import JUDGE_KINDS, JudgeSection
from lesion.study.types import AddressText, PathText, ResultsText, SourceText, TemplateText
from lesion_testing import ROOT

KINDS = {
    get_args(kind)[1].func: name
    for kind, name in (
        (AddressText, "address"),
        (SourceText, "address"),
        (TemplateText, "address"),
        (PathText, "path"),
        (ResultsText, "path"),
    )
}
JUDGES = ("judgements", "judges")
PLACES: dict[str, tuple[str | int, ...]] = {
    "results": ("results",),
    "sources.*": ("sources", "advbench", 0),
    "models.*.source": ("models", "smollm2-135m-instruct", "source"),
    "models.*.chat.template": ("models", "smollm2-135m-instruct", "chat", "template"),
    "models.*.train.mixture.source": ("models", "tuned", "train", "mixture", 0, "source"),
    "models.*.train.refusals": ("models", "tuned", "train", "refusals"),
    "behaviours.*.source": ("behaviours", "financial", "source"),
    "behaviours.*.responses": ("behaviours", "refusal", "responses"),
    "responses.templates.*.source": ("responses", "templates", "pirate", "source"),
    "understanding.minimal_pairs": ("understanding", "minimal_pairs"),
    "utility.folder": ("utility", "folder"),
    "retraining.*.questions": ("retraining", "narrow", "questions"),
    "judgements.human_scores": ("judgements", "human_scores"),
    "judgements.embedder": ("judgements", "embedder"),
    "judgements.judges.*.source": (*JUDGES, "own", "source"),
    "judgements.judges.*.elsewhere": (*JUDGES, "own", "elsewhere"),
    "judgements.judges.*.base": (*JUDGES, "tuned", "base"),
}
"""Where each key that holds a path is in the config of these tests."""
NO_PATHS = {
    *(
        "date",
        "models.*.chat.system",
        "models.*.license",
        "pairs.prefill",
        "responses.templates.*.prefill",
        "utility.tasks",
    ),
    *(f"behaviours.*.{key}" for key in ("prompt", "response", "harmful")),
    *(f"behaviours.*.where.{key}" for key in ("column", "equals", "first", "contains", "lacks")),
    *(f"models.*.train.mixture.{key}" for key in ("prompt", "response", "rejected", "text")),
    *(
        f"judgements.judges.*.{key}"
        for key in ("prompt", "response", "label", "domain", "key", "url", "model", "api_key_env")
    ),
}
"""Keys that hold free text of another kind."""


def _texts(annotation: Any, key: str, marks: tuple[Any, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every text below an annotation: its key, and what validates it."""
    if annotation is str:
        yield key, marks
    elif annotation is JudgeSection:
        for section in JUDGE_KINDS.values():
            yield from _texts(section, key)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            yield from _texts(field.annotation, f"{key}.{name}".strip("."), tuple(field.metadata))
    elif hasattr(annotation, "__metadata__"):
        yield from _texts(annotation.__origin__, key, annotation.__metadata__)
    elif getattr(annotation, "__origin__", None) is dict:
        # The names of sections are checked as names.
        yield from _texts(get_args(annotation)[1], f"{key}.*")
    elif getattr(annotation, "__origin__", None) is not None or get_args(annotation):
        # What sorts a list says nothing of its items.
        own = () if getattr(annotation, "__origin__", None) is list else marks
        for part in get_args(annotation):
            yield from _texts(part, key, own)


def _kind(marks: tuple[Any, ...]) -> str | None:
    functions = [mark.func for mark in marks if isinstance(mark, AfterValidator)]
    found = [KINDS[one] for one in functions if one in KINDS]
    # A name, of whatever kind, can be no path.
    return found[0] if found else "name" if functions else None


FOUND = {key: _kind(marks) for key, marks in _texts(Study, "")}
PATHS = {key: kind for key, kind in FOUND.items() if kind in ("address", "path")}


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("HOME", "/home/Jürgen K")
    monkeypatch.setenv("SCRATCH", "/scratch/grün und blau")
    monkeypatch.setenv("TILDE", "~/in")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("NOPE", raising=False)
    found = with_preset(read_config(ROOT / "config.yaml"))
    found["sources"]["advbench"] = [found["sources"]["advbench"]]
    train = {"steps": 1, "mixture": [{"source": "file:x", "text": "t"}], "refusals": "file:x"}
    found["models"]["tuned"] = {"base": "smollm2-135m-instruct", "train": train}
    found["responses"]["templates"] = {"pirate": {"source": "file:x"}}
    found["judgements"]["judges"] = {
        "own": {"kind": "contrast", "source": "file:x", "elsewhere": "file:x", "label": "l"},
        "tuned": {"kind": "strongreject", "source": "file:x", "base": "file:x"},
    }
    found["retraining"] = {
        "narrow": {
            "recipe": {"steps": 1},
            "questions": "file:x",
            "narrow": "law",
            "judge": "own",
        }
    }
    return found


def _with(config: dict[str, Any], key: str, value: str) -> dict[str, Any]:
    changed = copy.deepcopy(config)
    *way, last = PLACES[key]
    at: Any = changed
    for part in way:
        at = at[part] if isinstance(at, list) else at.setdefault(part, {})
    at[last] = value
    return changed


def _at(study: Study, key: str) -> str:
    at: Any = study.model_dump()
    for part in PLACES[key]:
        at = at[part]
    return str(at)


def test_every_key_that_holds_text_is_known_to_hold_a_path_or_not() -> None:
    assert set(PATHS) == set(PLACES)
    assert {key for key, kind in FOUND.items() if kind is None} == NO_PATHS
    assert len(PATHS) == 17


@pytest.mark.parametrize("key", PATHS)
@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("~/x", "/home/Jürgen K/x"),
        ("~", "/home/Jürgen K"),
        ("$SCRATCH/x", "/scratch/grün und blau/x"),
        ("${SCRATCH}/x y", "/scratch/grün und blau/x y"),
        ("a/${SCRATCH}x", "a//scratch/grün und blaux"),
        ("$TILDE/x", "/home/Jürgen K/in/x"),
        ("über/Größe 1 #2.jsonl", "über/Größe 1 #2.jsonl"),
        ("a#b/c#sha.csv", "a#b/c#sha.csv"),
        ("日本 [x] 'y' & z;%20", "日本 [x] 'y' & z;%20"),
        ("a/~/b", "a/~/b"),
        ("./~a", "./~a"),
        ("/a/b", "/a/b"),
    ],
)
def test_a_spelling_is_expanded_alike(
    config: dict[str, Any], key: str, written: str, meant: str
) -> None:
    file = "file:" if PATHS[key] == "address" else ""
    study = load_study(_with(config, key, file + written))
    wanted = meant.replace("//", "/") if key == "results" else meant
    assert _at(study, key) == file + wanted
    # A job, and a study made anew from its page, read again what has been expanded.
    assert load_study(study.model_dump()) == study


@pytest.mark.parametrize("key", PATHS)
@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("$NOPE/x", "the environment variable `NOPE` is not set"),
        ("x/${NOPE}", "the environment variable `NOPE` is not set"),
        ("$EMPTY/x", "the environment variable `EMPTY` is empty"),
        ("${SCRATCH:-/tmp}/x", "`${SCRATCH:-/tmp}` is not expanded; only variables written as"),
        ("$1/x", "`$1` is not expanded"),
        ("${}/x", "`${}` is not expanded"),
        ("a$/x", "holds a `$` that does not begin a variable"),
        ("$(pwd)/x", "holds a `$` that does not begin a variable"),
        ("~nobody-of-this-name/x", "there is no home folder `~nobody-of-this-name`"),
        ("a{b}/x", "holds {, }, < or >"),
        ("<results>/x", "holds {, }, < or >"),
        ("a\nb", "holds a line break or another control character"),
        ("a\0b", "holds a line break or another control character"),
    ],
)
def test_what_cannot_be_expanded_is_refused_by_the_key(
    config: dict[str, Any], key: str, written: str, words: str
) -> None:
    file = "file:" if PATHS[key] == "address" else ""
    with pytest.raises(StudyError) as error:
        load_study(_with(config, key, file + written))
    named = ".".join(str(part) for part in PLACES[key])
    assert f"`{named}`: " in str(error.value)
    assert words in str(error.value)


@pytest.mark.parametrize("key", [key for key, kind in PATHS.items() if kind == "address"])
def test_a_digest_stays_one(config: dict[str, Any], key: str) -> None:
    study = load_study(_with(config, key, f"file:~/a#b.csv#sha256={'9f' * 32}"))
    assert _at(study, key) == f"file:/home/Jürgen K/a#b.csv#sha256={'9f' * 32}"


@pytest.mark.parametrize("key", [key for key, kind in PATHS.items() if kind == "path"])
@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("", "is empty"),
        (" ", "is empty"),
        ("file:~/x", "remove `file:`"),
        ("s3://bucket/x", "must be on this machine"),
    ],
)
def test_what_is_no_path(config: dict[str, Any], key: str, written: str, words: str) -> None:
    with pytest.raises(StudyError, match=f"`{key}`: .*{words}"):
        load_study(_with(config, key, written))


@pytest.mark.parametrize("written", ["~/data/x.jsonl", "$SCRATCH/x", "my/x.jsonl"])
def test_a_path_without_its_form_is_told_it(config: dict[str, Any], written: str) -> None:
    with pytest.raises(StudyError) as error:
        load_study(_with(config, "behaviours.*.source", written))
    assert f"no source is named `{written}`. A path is written `file:{written}`" in str(error.value)


@pytest.mark.parametrize(
    ("written", "made"),
    [("out//a/", "out/a"), ("//out", "/out"), ("a/../b/./c", "b/c"), ("///a//b", "/a/b")],
)
def test_results_are_named_in_one_way(config: dict[str, Any], written: str, made: str) -> None:
    assert load_study(_with(config, "results", written)).results == made


def test_a_value_cannot_be_expanded_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWN", "/a/$HOME")
    with pytest.raises(AddressError, match=r"holds a `\$` that does not begin a variable"):
        expanded("$OWN/x")


@pytest.mark.parametrize("written", ["~/s.yaml", "$AT/s.yaml", "${AT}/s.yaml"])
def test_the_command_line_expands_what_no_shell_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AT", str(tmp_path))
    (tmp_path / "s.yaml").write_text("study: 3\n", encoding="utf-8")
    for arguments in (["check", written], ["summary", written], ["verdicts", written]):
        with pytest.raises(StudyError, match=f"^{tmp_path}/s.yaml: the study can't run"):
            CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
    for arguments in (["show", written], ["overlap", written, "other.safetensors"]):
        with pytest.raises(Exception, match=str(tmp_path)):
            CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
    other = os.path.dirname(written)  # noqa: PTH120
    with pytest.raises(Exception, match=f"^{tmp_path}: holds no tables"):
        CliRunner().invoke(cli.app, ["compare", other, other], catch_exceptions=False)


def test_a_file_that_is_there_is_taken_as_it_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "$odd.yaml").write_text("study: 3\n", encoding="utf-8")
    with pytest.raises(StudyError, match=r"^\$odd.yaml: the study can't run"):
        CliRunner().invoke(cli.app, ["check", "$odd.yaml"], catch_exceptions=False)
