"""Further judges in a study: their config, what they are given, and what is kept of them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import polars as pl
import pytest

from lesion.io.formats import LesionError, sha256_file, write_json
from lesion.judgements import JUDGE_SCORES
from lesion.judgements.extra import judge_more, judge_with
from lesion.judgements.jobs import JudgeResponsesExtraJob
from lesion.judgements.kinds import KINDS, build_judge, builds
from lesion.judgements.kinds.classifiers import HarmBench, StrongReject
from lesion.judgements.kinds.rubric import Rubric
from lesion.judgements.protocol import Judge, Judgement
from lesion.plan.jobs import judge_responses_extra_job
from lesion.plan.places import sources
from lesion.plan.resources import RESOURCE_FORMULAS, judge_formula
from lesion.responses import COMPLETIONS
from lesion.sources.jobs import SourceLocation
from lesion.study import Study, StudyError, load_study
from lesion.study.job import Device
from lesion.study.judges import JUDGE_KINDS, HarmBenchSection, JudgeSection, RubricSection
from lesion.study.reference import schema_json
from lesion.study.types import Reader

COMMIT = "0123456789" * 4


class ByLength:
    """Scores a response by its length; stops after `patience` judgements."""

    name = "ruler"

    def __init__(self, patience: int = 1000, revision: str = "r1", labels: bool = True) -> None:
        self.patience, self.revision, self.labels = patience, revision, labels
        self.asked: list[tuple[str, str]] = []

    def judge(self, prompts: Sequence[str], responses: Sequence[str]) -> Iterator[Judgement]:
        pairs = list(zip(prompts, responses, strict=True))
        self.asked += pairs
        # Backwards, since a judge may give its judgements in any order.
        for number, (place, (_, response)) in enumerate(reversed(list(enumerate(pairs)))):
            if number == self.patience:
                raise LesionError("no more")
            if response == "unread":
                yield Judgement(place, None, None)
            elif response != "skipped":
                label = len(response) > 4 if self.labels else None
                yield Judgement(place, len(response) / 100, label)


def completions(path: Path, answers: Mapping[str, str], **changes: Any) -> Path:
    """A variant's completions: harmful prompts with these answers, and a benign one."""
    row = {"behaviour": "alpha", "role": "harm", "attack": "direct", "prefill": "", "key": ""}
    row |= {"tokens": 3, "finished": True, "user_turn": "", **changes}
    rows = [{**row, "prompt": prompt, "completion": one} for prompt, one in answers.items()]
    rows.append({**row, "role": "benign", "prompt": "bake", "completion": "flour"})
    table = pl.DataFrame(rows, schema={name: COMPLETIONS[name] for name in COMPLETIONS})
    path.parent.mkdir(parents=True, exist_ok=True)
    table.write_parquet(path)
    return path


def judged(out: Path) -> dict[tuple[str, str], tuple[float | None, bool | None]]:
    table = pl.read_parquet(out)
    return {
        (row["variant"], row["prompt"]): (row["score"], row["label"])
        for row in table.iter_rows(named=True)
    }


def test_every_harmful_prompt_gets_a_row(tmp_path: Path) -> None:
    made = {
        "unmodified": completions(
            tmp_path / "a.parquet", {"p": "abcde", "q": "abc", "r": "unread"}
        ),
        "shared": completions(tmp_path / "b.parquet", {"p": "abcde", "q": " \n", "r": "skipped"}),
    }
    judge, out = ByLength(), tmp_path / "ruler.parquet"
    judge_with(judge, made.items(), out)
    table = pl.read_parquet(out)
    assert table.schema == pl.Schema(JUDGE_SCORES)
    assert set(table["judge"]) == {"ruler"}
    assert set(table["revision"]) == {"r1"}
    assert judged(out) == {
        ("unmodified", "p"): (0.05, True),
        ("unmodified", "q"): (0.03, False),
        ("unmodified", "r"): (None, None),
        ("shared", "p"): (0.05, True),
        ("shared", "q"): (0.0, False),
        ("shared", "r"): (None, None),
    }
    # Equal texts once, nothing empty, nothing benign.
    assert sorted(judge.asked) == [("p", "abcde"), ("q", "abc"), ("r", "skipped"), ("r", "unread")]


def test_the_prefill_belongs_to_the_answer(tmp_path: Path) -> None:
    files = {
        "unmodified": completions(
            tmp_path / "a.parquet", {"p": " ok", "q": ""}, prefill="Sure, here"
        )
    }
    judge, out = ByLength(), tmp_path / "ruler.parquet"
    judge_with(judge, files.items(), out)
    assert judge.asked == [("p", "Sure, here ok")]
    assert judged(out)["unmodified", "q"] == (0.0, False)


def test_an_empty_answer_has_no_label_from_a_judge_without_labels(tmp_path: Path) -> None:
    files = {"unmodified": completions(tmp_path / "a.parquet", {"p": ""})}
    judge_with(ByLength(labels=False), files.items(), tmp_path / "ruler.parquet")
    assert judged(tmp_path / "ruler.parquet") == {("unmodified", "p"): (0.0, None)}


def test_what_was_not_asked_has_no_score(tmp_path: Path) -> None:
    files = {"unmodified": completions(tmp_path / "a.parquet", {"p": ""}, tokens=0, finished=False)}
    judge_with(ByLength(), files.items(), tmp_path / "ruler.parquet")
    assert judged(tmp_path / "ruler.parquet") == {("unmodified", "p"): (None, None)}


ANSWERS = {f"p{number}": "x" * (number + 1) for number in range(6)}


def test_a_failed_judge_goes_on_where_it_stopped(tmp_path: Path) -> None:
    files = {"unmodified": completions(tmp_path / "a.parquet", ANSWERS)}
    out = tmp_path / "ruler.parquet"
    with pytest.raises(LesionError, match="no more"):
        judge_with(ByLength(patience=4), files.items(), out)
    assert not out.exists()
    again = ByLength()
    judge_with(again, files.items(), out)
    assert [prompt for prompt, _ in again.asked] == ["p0", "p1"]
    assert judged(out)["unmodified", "p5"] == (0.06, True)
    out.unlink()
    rested = ByLength(patience=0)
    judge_with(rested, files.items(), out)
    assert rested.asked == []
    assert len(judged(out)) == 6


def test_a_line_that_a_killed_job_left_is_dropped(tmp_path: Path) -> None:
    files = {"unmodified": completions(tmp_path / "a.parquet", ANSWERS)}
    out = tmp_path / "ruler.parquet"
    judge_with(ByLength(), files.items(), out)
    rows = tmp_path / ".ruler.parquet.rows"
    rows.write_text(rows.read_text(encoding="utf-8")[:-9], encoding="utf-8")
    again = ByLength()
    judge_with(again, files.items(), out)
    assert len(again.asked) == 1
    assert len([json.loads(line) for line in rows.read_text("utf-8").splitlines()]) == 6


def test_another_revision_or_answer_is_judged_anew(tmp_path: Path) -> None:
    out = tmp_path / "ruler.parquet"
    judge_with(ByLength(), [("unmodified", completions(tmp_path / "a.parquet", ANSWERS))], out)
    files = {"unmodified": completions(tmp_path / "a.parquet", ANSWERS | {"p2": "new"})}
    changed, replaced = ByLength(), ByLength(revision="r2")
    judge_with(changed, files.items(), out)
    judge_with(replaced, files.items(), out)
    assert changed.asked == [("p2", "new")]
    assert len(replaced.asked) == 6


def config(tmp_path: Path, judges: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    prompts = {"source": f"file:{tmp_path}/prompts.jsonl"}
    return {
        "study": "small",
        "preset": "none",
        "sources": {"llama-cls": f"hf:cais/some-cls@{COMMIT}"},
        "models": {"tiny": {"source": f"file:{tmp_path}"}},
        "behaviours": {"alpha": {"role": "harm", **prompts}, "sums": {"role": "benign", **prompts}},
        "masks": {"shared": {"at_least": 1}},
        "judgements": {
            "human_scores": f"file:{tmp_path}",
            "embedder": f"file:{tmp_path}",
            "judges": judges,
        },
    }


def study(tmp_path: Path, **judges: Mapping[str, Any]) -> Study:
    return load_study(config(tmp_path, judges))


RUBRIC = {"kind": "rubric", "url": "http://127.0.0.1:8000/v1", "model": "m"}


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("learned", RUBRIC, "`judgements.judges.learned`: this name is taken"),
        ("j", {"kind": "strongreject"}, "`source` is missing; a `strongreject` judge needs it"),
        ("j", {"kind": "harmbench", "source": "llama-cls"}, "`template` is missing"),
        ("j", {"kind": "rubric", "model": "m"}, "`url` is missing"),
        ("j", {**RUBRIC, "source": "llama-cls"}, "`source` is not a key of a `rubric` judge"),
        ("j", {**RUBRIC, "batch_size": 2}, "`batch_size` is not a key of a `rubric` judge"),
        (
            "j",
            {**RUBRIC, "parameters": {"model": "x"}},
            "`parameters.model` is set by the pipeline",
        ),
        (
            "j",
            {**RUBRIC, "parameters": {"seed": float("nan")}},
            "`parameters` can't be sent as JSON",
        ),
        ("j", {**RUBRIC, "url": "https://me:secret@host/v1"}, "`api_key_env`"),
        ("j", {**RUBRIC, "url": "https://host/v1?key=secret"}, "`api_key_env`"),
        ("j", {**RUBRIC, "concurency": 2}, "Did you mean `concurrency`"),
        ("j", {"kind": "poll"}, "judgements.judges.j.kind"),
        ("j", {"kind": "strongreject", "source": "lama-cls"}, "no source is named `lama-cls`"),
        ("j", {"kind": "strongreject", "source": "hf:a/b@main"}, "`main` is not a commit of a/b"),
    ],
)
def test_a_wrong_judge_is_named(
    tmp_path: Path, name: str, settings: dict[str, Any], told: str
) -> None:
    with pytest.raises(StudyError) as caught:
        study(tmp_path, **{name: settings})
    assert told in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_job_reads_the_same_judges_back(tmp_path: Path) -> None:
    first = study(tmp_path, gpt=RUBRIC, sr={"kind": "strongreject", "source": "llama-cls"})
    assert load_study(first.model_dump()) == first


def test_sources_and_jobs(tmp_path: Path) -> None:
    base = f"hf:google/some-2b@{COMMIT}"
    judges = {
        "gpt": {**RUBRIC, "api_key_env": "SOME_KEY"},
        "hb": {"kind": "harmbench", "source": "llama-cls", "template": "llama2"},
        "sr": {"kind": "strongreject", "source": f"file:{tmp_path}", "base": base},
    }
    made = study(tmp_path, **judges)
    # What lies here is used where it lies.
    assert [base] in sources(made).values()
    assert sources(made)["llama-cls"] == [f"hf:cais/some-cls@{COMMIT}"]
    assert len(sources(made)) == 2
    of_endpoint = judge_responses_extra_job(made, {"judge": "gpt", "answers": "tiny"})
    assert isinstance(of_endpoint.judge, RubricSection)
    assert of_endpoint.judge.api_key_env == "SOME_KEY"
    assert of_endpoint.places == {}
    of_classifier = judge_responses_extra_job(made, {"judge": "hb", "answers": "tiny"})
    assert isinstance(of_classifier.judge, HarmBenchSection)
    assert of_classifier.device.dtype == of_classifier.judge.dtype == "auto"
    for job in (of_endpoint, of_classifier):
        assert JudgeResponsesExtraJob.model_validate_json(job.model_dump_json()) == job


def test_judges_are_built_of_their_jobs(tmp_path: Path) -> None:
    fetched, record = tmp_path / "fetched", tmp_path / "fetched.json"
    for name in ("config.json", "model.safetensors"):
        (fetched / name).parent.mkdir(exist_ok=True)
        (fetched / name).write_text(name, encoding="utf-8")
    shas = {path.name: {"sha256": sha256_file(path)} for path in fetched.iterdir()}
    write_json({"address": f"hf:cais/x@{COMMIT}", "files": shas}, record)
    made = study(
        tmp_path,
        gpt=RUBRIC,
        hb={"kind": "harmbench", "source": "llama-cls", "template": "mistral"},
        sr={"kind": "strongreject", "source": "llama-cls"},
    )
    place = {"source": SourceLocation(path=fetched, record=record)}
    places = {"gpt": {}, "hb": place, "sr": {"source": SourceLocation(path=fetched)}}
    kinds = {"gpt": Rubric, "hb": HarmBench, "sr": StrongReject}
    for name, kind in kinds.items():
        judge = _built(made, name, places[name])
        assert isinstance(judge, kind)
        assert judge.name == name
    assert f"hf:cais/x@{COMMIT}" in _built(made, "sr", places["hb"]).revision
    before = _built(made, "sr", places["sr"]).revision
    (fetched / "README.md").write_text("read me", encoding="utf-8")
    assert _built(made, "sr", places["sr"]).revision == before
    (fetched / "model.safetensors").write_text("other weights", encoding="utf-8")
    assert _built(made, "sr", places["sr"]).revision != before


def _built(made: Study, name: str, places: Mapping[str, SourceLocation]) -> Judge:
    job = judge_responses_extra_job(made, {"judge": name, "answers": "tiny"})
    return build_judge(name, job.judge, places, job.device)


@pytest.fixture
def dice() -> Iterator[type[JudgeSection]]:
    """A further kind of judge, as a module of `lesion.judgements.kinds` adds it."""

    class DiceSection(JudgeSection):
        __module__ = "lesion.judgements.kinds.dice"
        files: ClassVar[Mapping[str, Reader]] = {"numbers": "keys"}
        kind: Literal["dice"]
        sides: int = 6
        numbers: str | None = None

    @builds(DiceSection)
    def roll(
        name: str, judge: DiceSection, places: Mapping[str, SourceLocation], device: Device
    ) -> ByLength:
        assert places == {}
        found = ByLength()
        found.name, found.revision = name, f"{judge.sides} sides"
        return found

    yield DiceSection
    del JUDGE_KINDS["dice"], KINDS[DiceSection]


def test_a_local_file_of_a_further_kind_is_digested(
    tmp_path: Path, dice: type[JudgeSection]
) -> None:
    file = tmp_path / "numbers.csv"

    def content(text: str) -> str | None:
        file.write_text(text, encoding="utf-8")
        made = study(tmp_path, luck={"kind": "dice", "numbers": f"file:{file}"})
        job = judge_responses_extra_job(made, {"judge": "luck", "answers": "tiny"})
        return job.places["numbers"].content

    assert content("1,2") == content("1,2") != content("1,3")


def test_a_further_kind_of_judge_is_one_module(tmp_path: Path, dice: type[JudgeSection]) -> None:
    made = study(tmp_path, luck={"kind": "dice", "sides": 20}, gpt=RUBRIC)
    assert load_study(made.model_dump()) == made
    job = judge_responses_extra_job(made, {"judge": "luck", "answers": "tiny"})
    assert isinstance(job.judge, dice)
    again = JudgeResponsesExtraJob.model_validate_json(job.model_dump_json())
    assert again == job
    given = completions(tmp_path / "a.parquet", ANSWERS)
    again = again.model_copy(update={"variants": ["unmodified"]})
    judge_more(again, [given], tmp_path / "luck.parquet")
    assert set(pl.read_parquet(tmp_path / "luck.parquet")["revision"]) == {"20 sides"}
    assert judge_formula(made, "luck") in RESOURCE_FORMULAS
    with pytest.raises(StudyError, match="`url` is not a key of a `dice` judge"):
        study(tmp_path, luck={"kind": "dice", "url": "http://a/b"})
    with pytest.raises(StudyError, match=r"Did you mean `dice`"):
        study(tmp_path, luck={"kind": "dise"})
    assert "sides" in schema_json()
