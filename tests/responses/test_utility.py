import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import yaml

from lesion.io.formats import LesionError, read_parquet
from lesion.io.reuse import write_rows
from lesion.masks.store import read_mask, write_mask
from lesion.models.continuations import continuation_likelihoods
from lesion.models.load import Loaded
from lesion.models.prefix import left_padded
from lesion.models.record import candidate_shapes
from lesion.models.text import Example
from lesion.responses import UTILITY
from lesion.responses.jobs import UtilityJob
from lesion.responses.tasks import local_tasks, task_digest
from lesion.responses.utility import examine_variant
from lesion.study import StudyError
from lesion.study.job import Device
from lesion_testing import ROOT, families, make, tiny

HOW = UtilityJob(
    variant="toy",
    tasks={},
    folder=Path(),
    limit=None,
    batch_size=4,
    chat=False,
    device=Device(dtype="float32", threads=1, device_map=None),
)
SHIPPED = ROOT / "studies" / "tasks"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("utility"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return toy_tasks(tmp_path / "tasks")


def toy_tasks(folder: Path) -> Path:
    """Two tasks in the tiny model's words: choices of one to three words, and a completion."""
    folder.mkdir()
    rows = [
        {
            "question": " ".join(make.WORDS[place : place + 2 + place % 3]),
            "choices": [" ".join(make.WORDS[one : one + 1 + one % 3]) for one in range(4)],
            "answer": place % 4,
        }
        for place in range(9)
    ]
    write_task(folder, "toy_choice", rows, output_type="multiple_choice", doc_to_choice="choices")
    said = [{"question": row["question"], "answer": "Sure"} for row in rows]
    how = {"until": ["\n"], "max_gen_toks": 3, "do_sample": False}
    write_task(folder, "toy_words", said, output_type="generate_until", generation_kwargs=how)
    return folder


def write_task(folder: Path, name: str, rows: list[dict[str, object]], **config: object) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    whole = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": f"{name}.jsonl"}},
        "test_split": "test",
        "doc_to_text": "{{question}}",
        "doc_to_target": "answer",
        **config,
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(whole), encoding="utf-8")


class Variant:
    """A variant's inputs and output, and what its last run said."""

    def __init__(
        self, model: Path, folder: Path, out: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.model, self.folder, self.out, self.capsys = model, folder, out, capsys
        self.mask: Path | None = None

    def run(self, *names: str, **how: object) -> str:
        own = local_tasks(self.folder)
        tasks = {name: task_digest(own[name]) if name in own else None for name in names}
        asked = HOW.model_copy(update={"tasks": tasks, "folder": self.folder, **how})
        examine_variant(asked, self.model, self.mask, self.out)
        return self.capsys.readouterr().err

    def read(self) -> pl.DataFrame:
        return read_parquet(self.out, UTILITY)


@pytest.fixture
def variant(
    model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Variant:
    return Variant(model, folder, tmp_path / "out" / "utility.parquet", capsys)


def alone(loaded: Loaded, tokens: list[int], start: int) -> tuple[float, bool]:
    """The log-likelihood of one row by itself, with nothing shared."""
    with torch.inference_mode():
        logits = loaded.model(torch.tensor([tokens])).logits[0]
    chosen = logits.double().log_softmax(-1)[start - 1 : -1]
    wanted = torch.tensor(tokens[start:])
    nats = chosen[torch.arange(len(wanted)), wanted].sum().item()
    return nats, bool((chosen.argmax(-1) == wanted).all())


def rows_of(folder: Path, name: str) -> Iterator[dict[str, object]]:
    for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
        yield json.loads(line)


def test_choices_are_scored_as_each_row_by_itself_would_be(variant: Variant) -> None:
    said = variant.run("toy_choice")
    assert "ran 1 of 1 tasks" in said
    loaded = tiny.loaded(variant.model)
    wanted = []
    for row in rows_of(variant.folder, "toy_choice"):
        question, choices = str(row["question"]), row["choices"]
        assert isinstance(choices, list)
        start = len(loaded.tokenizer.encode(question))
        nats = [
            alone(loaded, loaded.tokenizer.encode(f"{question} {one}"), start)[0] for one in choices
        ]
        best = {
            "acc": np.argmax(nats),
            "acc_norm": np.argmax(np.divide(nats, list(map(len, choices)))),
        }
        wanted.append({metric: float(one == row["answer"]) for metric, one in best.items()})
    found = variant.read()
    assert found["task"].unique().to_list() == ["toy_choice"]
    assert found["metric"][0] == "acc"
    for metric in ("acc", "acc_norm"):
        mine = found.filter(metric=metric)
        assert mine["item"].to_list() == [str(place) for place in range(9)]
        assert mine["value"].to_list() == [one[metric] for one in wanted]
    assert 0 < found["value"].mean() < 1  # type: ignore[operator]


@pytest.mark.parametrize("batch_size", [1, 3, 100])
@pytest.mark.parametrize("prefix", [0, 40])
def test_sharing_contexts_changes_no_likelihood(model: Path, batch_size: int, prefix: int) -> None:
    loaded = tiny.loaded(model)
    draw = np.random.default_rng(prefix)
    words = len(loaded.tokenizer)
    common = draw.integers(4, words, prefix).tolist()
    contexts = [common + draw.integers(4, words, 1 + length).tolist() for length in (0, 5, 2, 9, 0)]
    asked = [
        Example(context + draw.integers(4, words, 1 + place % 3).tolist(), len(context))
        for context in contexts
        for place in range(4)
    ]
    # One that greedy decoding would write.
    with torch.inference_mode():
        logits = loaded.model(torch.tensor([contexts[1]])).logits
    asked.append(Example([*contexts[1], int(logits[0, -1].argmax())], len(contexts[1])))
    told: list[int] = []
    found = continuation_likelihoods(loaded.model, asked, batch_size, told.append)
    assert sum(told) == len(asked)
    wanted = [alone(loaded, *one) for one in asked]
    assert [one.nats for one in found] == pytest.approx([nats for nats, _ in wanted], abs=1e-4)
    assert [one.greedy for one in found] == [greedy for _, greedy in wanted]
    assert found[-1].greedy


def test_a_harness_model_is_the_one_in_memory_as_it_is(model: Path) -> None:
    from lesion.responses.harness import InMemory

    loaded = tiny.loaded(model)
    loaded.model.to(torch.bfloat16)
    before = {name: one.data_ptr() for name, one in loaded.model.named_parameters()}
    held = InMemory(loaded, 4, "toy")
    assert held.model is loaded.model
    assert {name: one.data_ptr() for name, one in held.model.named_parameters()} == before
    assert {one.dtype for one in held.model.parameters()} == {torch.bfloat16}
    assert held.tokenizer is loaded.tokenizer


def test_a_mask_makes_other_scores_and_leaves_the_checkpoint(variant: Variant, model: Path) -> None:
    from lesion.masks.lesion import lesioned
    from lesion.responses.harness import open_tasks, run_tasks
    from lesion.responses.tasks import task_changes

    variant.run("toy_choice")
    unmodified = variant.read()
    variant.mask = variant.out.parent / "mask"
    write_mask(np.arange(0, 20_480, 2), candidate_shapes(model), {}, variant.mask)
    assert "ran 1 of 1 tasks" in variant.run("toy_choice")
    assert variant.read()["value"].to_list() != unmodified["value"].to_list()

    loaded = tiny.loaded(model)
    own = local_tasks(variant.folder)
    changed = {name: task_changes(path, variant.out.parent) for name, path in own.items()}

    def values() -> list[float]:
        tasks = open_tasks(["toy_choice"], variant.folder, changed)["toy_choice"]
        return [one.value for one in run_tasks(loaded, tasks, 4, None, False, "toy")]

    with lesioned(loaded.model, read_mask(variant.mask).indices):
        assert values() == variant.read()["value"].to_list()
    assert values() == unmodified["value"].to_list()


def test_only_tasks_that_changed_are_run_again(variant: Variant) -> None:
    variant.run("toy_choice", "toy_words")
    before = variant.out.read_bytes()
    assert "ran 0 of 2 tasks" in variant.run("toy_choice", "toy_words")
    assert variant.out.read_bytes() == before
    path = variant.folder / "toy_choice.jsonl"
    rows = list(rows_of(variant.folder, "toy_choice"))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows[:5]), encoding="utf-8")
    assert "ran 1 of 2 tasks" in variant.run("toy_choice", "toy_words")
    counts = dict(variant.read().group_by("task").len().rows())
    assert counts == {"toy_choice": 10, "toy_words": 9}
    assert "ran 2 of 2 tasks" in variant.run("toy_choice", "toy_words", chat=True)


def test_the_chance_of_an_item_is_that_of_a_guess_among_its_choices(variant: Variant) -> None:
    rows: list[dict[str, object]] = [
        {"question": "Sure", "choices": make.WORDS[:count], "answer": 0, "right": [0, 1]}
        for count in (2, 4, 5)
    ]
    how = {"output_type": "multiple_choice", "doc_to_choice": "choices"}
    metrics = [{"metric": name} for name in ("acc", "acc_norm", "exact_match")]
    write_task(variant.folder, "sizes", rows, **how, metric_list=metrics)
    write_task(variant.folder, "several", rows, **{**how, "doc_to_target": "right"})
    variant.run("sizes", "several", "toy_words")
    chances = {
        place: own["chance"].to_list()
        for place, own in variant.read().group_by("task", "metric", maintain_order=True)
    }
    assert chances == {
        ("sizes", "acc"): [1 / 2, 1 / 4, 1 / 5],
        ("sizes", "acc_norm"): [1 / 2, 1 / 4, 1 / 5],
        ("sizes", "exact_match"): [0.0] * 3,
        ("several", "acc"): [1.0, 2 / 4, 2 / 5],
        ("several", "acc_norm"): [1.0, 2 / 4, 2 / 5],
        ("toy_words", "exact_match"): [0.0] * 9,
    }


def test_rows_without_a_chance_are_made_again(variant: Variant) -> None:
    variant.run("toy_choice")
    made = variant.read()
    write_rows(made.drop("chance"), variant.out)
    assert "ran 1 of 1 tasks" in variant.run("toy_choice")
    assert variant.read().equals(made)


def test_a_limit_takes_the_first_items(variant: Variant) -> None:
    variant.run("toy_choice")
    whole = variant.read().drop("key")
    variant.run("toy_choice", limit=3)
    first = variant.read().drop("key")
    assert first.equals(whole.filter(pl.col("item").is_in(["0", "1", "2"])))


def test_an_unknown_task_is_told_before_the_model_is_loaded(
    variant: Variant, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr("lesion.responses.variant.EvaluatedVariant.load", never)
    # The harness's own thousands of tasks take ten seconds to read.
    from lesion.responses import harness

    whole = harness.TaskManager
    monkeypatch.setattr(
        harness, "TaskManager", lambda **how: whole(**{**how, "include_defaults": False})
    )
    with pytest.raises(LesionError, match=r"`utility.tasks`.*`toy_chioce`.*mean `toy_choice`"):
        variant.run("toy_chioce")


def test_a_task_whose_data_cannot_be_had_is_named(
    variant: Variant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    write_task(variant.folder, "far", [], output_type="multiple_choice", doc_to_choice="choices")
    path = variant.folder / "far.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    del config["dataset_kwargs"]
    path.write_text(yaml.safe_dump({**config, "dataset_path": str(variant.folder / "no-such")}))
    with pytest.raises(LesionError, match=r"`utility.tasks`: the data of `far` can't be loaded"):
        variant.run("far")


def test_a_task_that_runs_written_code_is_refused(variant: Variant) -> None:
    rows: list[dict[str, object]] = [{"question": "Sure", "answer": "here"}]
    write_task(variant.folder, "runs", rows, output_type="generate_until", unsafe_code=True)
    with pytest.raises(LesionError, match="`runs` runs code that the model writes"):
        variant.run("runs")


def test_generation_is_that_of_the_harness_itself(variant: Variant) -> None:
    from lm_eval.models.huggingface import HFLM

    from lesion.responses.harness import InMemory

    loaded = tiny.loaded(variant.model)
    rows = [[5, 6, 7, 8] * 8 + rest for rest in ([9, 10, 11], [12])]
    tokens, mask = left_padded(rows)
    how = {"attention_mask": mask, "max_length": 50, "stop": ["\n"]}
    own, theirs = (
        model._model_generate(tokens, **how)
        for model in (
            InMemory(loaded, 2, "toy"),
            HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer),
        )
    )
    assert own.tolist() == theirs.tolist()


@pytest.mark.parametrize("kind", ["rwkv", "minimax", "no_repeat"])
def test_padding_changes_no_generated_answer(model: Path, kind: str) -> None:
    from lesion.responses.harness import InMemory

    loaded = tiny.loaded(model)
    network = loaded.model
    if kind == "no_repeat":
        network.generation_config.no_repeat_ngram_size = 1
    else:
        network = families.model(kind)
        network.generation_config.eos_token_id = None
    asked = InMemory(loaded._replace(model=network), 4, "toy")
    asked.tokenizer.pad_token_id = 7
    rows = [[5, 6, 7, 8, 9], [10, 11, 12], [13, 14, 15], [16, 17, 18, 19, 20, 21, 22, 23]]

    def written(rows: list[list[int]]) -> list[list[int]]:
        tokens, mask = left_padded(rows, asked.tokenizer.pad_token_id)
        width = tokens.shape[1]
        made = asked._model_generate(tokens, attention_mask=mask, max_length=width + 6, stop=["\n"])
        assert made[:, :width].tolist() == tokens.tolist()
        return made[:, width:].tolist()  # type: ignore[no-any-return]

    # Padded with a word that would be written, and may not be where it is taken for text.
    asked.tokenizer.pad_token_id = written([rows[1]])[0][0]
    assert written(rows) == [words for row in rows for words in written([row])]


def test_data_is_looked_for_beside_the_task(folder: Path) -> None:
    own = local_tasks(folder)
    before = task_digest(own["toy_choice"])
    own["toy_choice"].write_text("# a comment\n" + own["toy_choice"].read_text(encoding="utf-8"))
    assert task_digest(own["toy_choice"]) == before
    data = folder / "toy_choice.jsonl"
    data.write_text(data.read_text(encoding="utf-8").split("\n")[0], encoding="utf-8")
    assert task_digest(own["toy_choice"]) != before
    (folder / "toy_choice.jsonl").unlink()
    with pytest.raises(StudyError, match=r"toy_choice\.yaml: its data `toy_choice\.jsonl`"):
        task_digest(own["toy_choice"])


@pytest.mark.parametrize("name", sorted(local_tasks(SHIPPED)))
def test_shipped_items_have_one_right_answer(name: str) -> None:
    rows = list(rows_of(SHIPPED, name.removeprefix("lesion_")))
    assert 60 <= len(rows) <= 100
    assert len({json.dumps(row) for row in rows}) == len(rows)
    for row in rows:
        if "choices" in row:
            choices = row["choices"]
            assert isinstance(choices, list)
            assert len(set(choices)) == len(choices) > 1
            assert choices[int(str(row["answer"]))]
        else:
            assert row["answer"]


def test_generated_items_are_those_of_the_script() -> None:
    import runpy

    made = runpy.run_path(str(SHIPPED / "make.py"))
    for name in made["TASKS"]:
        assert list(made["items"](name)) == list(rows_of(SHIPPED, name))
