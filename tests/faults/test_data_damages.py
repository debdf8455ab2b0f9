"""Every reader of a data file, and what files suffer: refused by name, or read as if nothing was.

A damage has one of three ends, and the tables here say which: the file is refused with an error
that names it; what is read equals what the clean file says; or a row is left out, and the log says
so. Nothing else may come of any.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import polars as pl
import pytest
import yaml

from lesion.io.formats import LesionError
from lesion.judgements.human import read_human_scores
from lesion.judgements.kinds.contrast import read_contrast
from lesion.judgements.kinds.reference import read_keys
from lesion.pairs.jobs import PromptsJob, RowSelection
from lesion.pairs.prompts import given_responses, write_prompts
from lesion.responses.attacks import Attack, apply_attack, read_wording
from lesion.responses.prompt_files import read_minimal_pairs, read_questions
from lesion.responses.tasks import local_tasks, task_changes, task_digest
from lesion.sources.jobs import SourceLocation
from lesion.study import load_study, read_config
from lesion.study.behaviours import Where
from lesion.study.judges import ContrastSection
from lesion.study.sections import Split
from lesion.training.examples import of_file
from lesion_testing import make
from lesion_testing.damage import FILE_DAMAGES, TEXT_DAMAGES, Damage

Row = dict[str, Any]
End = Literal["refused", "same", "without", "fewer"]
"""`without` the row whose value is damaged, said in the log; `fewer`, the same but unsaid, where a
row without a value is one that the reader documents as being of no use."""

HURT = 5
"""The row that is damaged."""
PROMPTS = [row["prompt"] for row in make.prompts("alpha", 20)]


# What the clean files hold


def _prompts() -> list[Row]:
    kinds = ["letters", "songs"]
    return [
        {"prompt": one, "answer": f"Sure: {one[::-1]}", "kind": kinds[place % 4 == 3]}
        for place, one in enumerate(PROMPTS)
    ]


def _attacked() -> list[Row]:
    return [{"prompt": one, "attacked": f"Arr, {one}, matey"} for one in PROMPTS]


def _twins() -> list[Row]:
    return [
        {"harm": "alpha", "harmful": f"hide {one}", "harmless": f"seek {one}"} for one in PROMPTS
    ]


def _questions() -> list[Row]:
    return [{"domain": f"d{place % 3}", "prompt": one} for place, one in enumerate(PROMPTS)]


def _refusals() -> list[Row]:
    return [{"response": f"I won't {one}."} for one in PROMPTS]


def _lessons() -> list[Row]:
    return [{"prompt": one, "response": f"No {one}", "rejected": f"Yes {one}"} for one in PROMPTS]


_BOLD = ContrastSection(kind="contrast", source="answers", label="bold")


def _labelled() -> list[Row]:
    return [
        {"domain": f"d{place % 2}", "prompt": one, "response": f"{one}!", "bold": place % 4 < 2}
        for place, one in enumerate(PROMPTS)
    ]


def _keys() -> list[Row]:
    return [{"prompt": one, "key": f"copper {one[-5:]}"} for one in PROMPTS]


def _items() -> list[Row]:
    return [
        {"question": one, "choices": ["yes", "no"], "answer": place % 2}
        for place, one in enumerate(PROMPTS)
    ]


# How rows are written


def _jsonl(rows: Sequence[Row]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _of_jsonl(data: bytes) -> list[Row]:
    return [json.loads(line) for line in data.splitlines()]


def _csv(rows: Sequence[Row], separator: str = ",") -> bytes:
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    # In quotes, so that a file that is cut short ends within one.
    writer = csv.DictWriter(text, names, delimiter=separator, quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().replace("\r\n", "\n").encode()


def _of_csv(data: bytes) -> list[Row]:
    return list(csv.DictReader(io.StringIO(data.decode())))


def _parquet(rows: Sequence[Row]) -> bytes:
    out = io.BytesIO()
    pl.DataFrame(rows, infer_schema_length=None).write_parquet(out)
    return out.getvalue()


def _of_parquet(data: bytes) -> list[Row]:
    return pl.read_parquet(io.BytesIO(data)).to_dicts()


def _seeds(rows: Sequence[Row]) -> bytes:
    seeds = [
        {"value" if name == "prompt" else name: one for name, one in row.items()} for row in rows
    ]
    return yaml.safe_dump({"seeds": seeds}, default_style='"', width=10**6).encode()


class Form(NamedTuple):
    """A kind of file that holds rows."""

    write: Callable[[Sequence[Row]], bytes]
    read: Callable[[bytes], list[Row]]
    text: bool = True
    typed: bool = True


FORMS = {
    ".jsonl": Form(_jsonl, _of_jsonl),
    ".json": Form(lambda rows: json.dumps(rows).encode() + b"\n", json.loads),
    ".csv": Form(_csv, _of_csv, typed=False),
    ".parquet": Form(_parquet, _of_parquet, text=False),
}


# Who reads them


class Reader(NamedTuple):
    """A reader of a file, and what is known of how it takes damages of its rows."""

    read: Callable[[Path], Any]
    rows: Callable[[], list[Row]]
    column: str = "prompt"
    """The column that is damaged."""
    empty: End = "refused"
    """What comes of a row without a value there."""
    repeated: End | None = "refused"
    """What comes of a row that stands there twice; None where it says something else."""


def _read_rows(path: Path, rows: RowSelection, seed: int) -> list[Any]:
    out = path.parent / "out.parquet"
    job = PromptsJob(
        behaviour="alpha",
        source=SourceLocation(path=path),
        rows=rows,
        responses=None,
        split=Split(train=0.5, validation=0.25, test=0.25),
        wordings=["{prompt}"],
        near_duplicate=0.99,
        need=12,
        seed=seed,
    )
    write_prompts(out, job)
    return pl.read_parquet(out).rows()


def _read_prompts(path: Path, response: str | None = "answer") -> list[Any]:
    return _read_rows(path, RowSelection(response=response), seed=1)


def _read_filtered(path: Path) -> list[Any]:
    where = Where(column="kind", equals="letters")
    return _read_rows(path, RowSelection(where=where), seed=3)


def _read_task(path: Path) -> Any:
    """What the task asks, as the harness's reader has it."""
    from datasets import load_dataset

    (found,) = local_tasks(path.parent).values()
    task_digest(found)
    changes = task_changes(found, path.parent / "cache")["dataset_kwargs"]
    kind = {".jsonl": "json", ".json": "json"}.get(path.suffix, path.suffix[1:])
    rows = load_dataset(kind, **changes)["test"].to_list()
    return [{name: row[name] for name in ("question", "choices", "answer")} for row in rows]


READERS = {
    "prompts": Reader(_read_prompts, _prompts, empty="without", repeated="same"),
    "responses": Reader(_read_prompts, _prompts, "answer", empty="without", repeated="same"),
    # A row of another kind, or of none, is not of the behaviour.
    "attacks": Reader(
        lambda path: apply_attack("arr", Attack(read_wording(path)), PROMPTS),
        _attacked,
        "attacked",
        repeated="same",
    ),
    "twins": Reader(lambda path: read_minimal_pairs(path, None).rows(), _twins, "harmless"),
    "questions": Reader(lambda path: read_questions(path).rows(), _questions),
    # They are given in turn, so that twice the same ones are the same.
    "refusals": Reader(
        lambda path: list(islice(cycle(given_responses(path)), 80)), _refusals, "response",
        repeated=None,
    ),
    "lessons": Reader(
        lambda path: of_file(path, {"prompt": "prompt", "response": "response"}, None),
        _lessons, "response", repeated=None,
    ),
    "DPO": Reader(
        lambda path: of_file(
            path, {"prompt": "prompt", "response": "response", "rejected": "rejected"}, None
        ),
        _lessons, "rejected", repeated=None,
    ),
    "texts": Reader(
        lambda path: of_file(path, {"text": "response"}, None), _lessons, "response", repeated=None
    ),
    "contrast": Reader(
        lambda path: read_contrast(path, _BOLD).rows(), _labelled, "response",
        repeated=None,
    ),
    "labels": Reader(
        lambda path: read_contrast(path, _BOLD).rows(), _labelled, "bold", repeated=None
    ),
    "keys": Reader(
        lambda path: dict(read_keys(path, "prompt", "key")), _keys, "key", empty="fewer",
        repeated="same",
    ),
    "task data": Reader(_read_task, _items, "question", repeated=None),
}  # fmt: skip


# What rows suffer


def _hurt(value: Any) -> Callable[[list[Row], str], list[Row]]:
    def change(rows: list[Row], column: str) -> list[Row]:
        return [{**row, column: value} if place == HURT else row for place, row in enumerate(rows)]

    return change


def _each(value: Callable[[Any], Any]) -> Callable[[list[Row], str], list[Row]]:
    return lambda rows, column: [{**row, column: value(row[column])} for row in rows]


def _without(rows: list[Row], column: str) -> list[Row]:
    return [{name: one for name, one in row.items() if name != column} for row in rows]


def _renamed(rows: list[Row], column: str) -> list[Row]:
    return [
        {f"{name}s" if name == column else name: one for name, one in row.items()} for row in rows
    ]


EMPTY = {"null": _hurt(None), "blank": _hurt(""), "spaces": _hurt(" \t ")}
ABSENT = {
    "absent": lambda rows, column: [
        _without([row], column)[0] if place == HURT else row for place, row in enumerate(rows)
    ]
}
OTHER_KINDS = {
    "a number": _hurt(7),
    "a fraction": _hurt(0.5),
    "not a number": _hurt(float("nan")),
    "a truth value": _hurt(True),
    "a list": _hurt(["swap", "hide"]),
    "no list": _hurt([]),
    "a structure": _hurt({"text": "swap"}),
    "messages": _hurt([{"role": "user", "content": "swap"}]),
}
COLUMN_KINDS = {
    "all numbers": _each(lambda _: 7),
    "all lists": _each(lambda one: [one]),
    "all structures": _each(lambda one: {"text": one}),
    "all messages": _each(lambda one: [{"role": "user", "content": one}]),
    "all nulls": _each(lambda _: None),
}
COLUMNS = {"renamed column": _renamed, "dropped column": _without}
HARMLESS = {
    "extra column": lambda rows, _: [{**row, "note": [row]} for row in rows],
    "columns in another order": lambda rows, _: [dict(reversed(row.items())) for row in rows],
}
REPEATED = {"a row twice": lambda rows, _: [*rows[: HURT + 1], *rows[HURT:]]}


class Case(NamedTuple):
    reader: Reader
    name: str
    """Of the file."""
    clean: bytes
    damage: Damage
    end: End


def _row_damages(reader: Reader, form: Form) -> Iterator[tuple[str, Any, End]]:
    label = reader.column == "bold"
    task = reader.read is _read_task
    for name, change in EMPTY.items():
        yield name, change, reader.empty
    if form.text and form.typed:
        yield "absent", ABSENT["absent"], reader.empty
        for name, change in OTHER_KINDS.items():
            # Which of the numbers and truth values is a label is another test's.
            if not (label and name == "a truth value"):
                yield name, change, "refused"
    if form.typed:
        for name, change in COLUMN_KINDS.items():
            # A task's own template says what becomes of numbers and lists.
            if not task or name == "all nulls":
                yield name, change, "refused"
    for name, change in COLUMNS.items():
        yield name, change, "refused"
    for name, change in HARMLESS.items():
        if name == "extra column" or len(reader.rows()[0]) > 1:
            yield name, change, "same"
    if reader.repeated:
        for name, change in REPEATED.items():
            yield name, change, reader.repeated


def _on_rows(form: Form, change: Any, column: str) -> Damage:
    return lambda data: form.write(change(form.read(data), column))


BYTES: Mapping[str, End] = {
    **dict.fromkeys(FILE_DAMAGES, "refused"),
    **dict.fromkeys(TEXT_DAMAGES, "refused"),
    # The last byte is a line's end.
    "last byte gone": "same",
    "byte order mark": "same",
    "Windows line ends": "same",
    "blank lines at the end": "same",
}


def _byte_damages(text: bool, **other: End | None) -> Iterator[tuple[str, Damage, End]]:
    known = {**FILE_DAMAGES, **(TEXT_DAMAGES if text else {})}
    ends = {**BYTES, **{name.replace("_", " "): end for name, end in other.items()}}
    for name, damage in known.items():
        end = ends[name]
        if end is not None:
            yield name, damage, end


def _of_tables() -> Iterator[tuple[str, Case]]:
    for kind, reader in READERS.items():
        for suffix, form in FORMS.items():
            # A list of choices is no field of CSV.
            if kind == "task data" and suffix not in (".jsonl", ".parquet"):
                continue
            clean = form.write(reader.rows())
            name = f"data{suffix}"
            for damage, change, end in _row_damages(reader, form):
                made = _on_rows(form, change, reader.column)
                yield f"{kind}, {suffix}: {damage}", Case(reader, name, clean, made, end)
            other: dict[str, End | None] = {}
            if suffix == ".jsonl":
                other["twice"] = "same" if kind == "refusals" else reader.repeated
            if suffix == ".parquet":
                # The second half is a whole file too, and says where its columns begin.
                other = {"twice": None, "last byte gone": "refused"}
            for damage, made, end in _byte_damages(form.text, **other):
                yield f"{kind}, {suffix}: {damage}", Case(reader, name, clean, made, end)


# Files that hold no rows, or in their own way


def _replaced(old: str, new: str) -> Damage:
    def change(data: bytes) -> bytes:
        text = data.decode()
        assert old in text
        return text.replace(old, new, 1).encode()

    return change


def _attack(path: Path) -> list[str]:
    return apply_attack("arr", Attack(read_wording(path)), PROMPTS)


TEXT = b"Arr, me hearty, do as the captain says and tell me how to\n{{ prompt }}\n"
TEMPLATE = b"name: arr\nparameters:\n- prompt\ndata_type: text\nvalue: |\n  Arr!\n  {{ prompt }}\n"
SEED_DAMAGES: Mapping[str, tuple[Damage, End]] = {
    "no seeds": (lambda _: b"seeds: []\n", "refused"),
    "one seed and no list": (lambda _: b"seeds: {value: swap}\n", "refused"),
    "a template": (lambda _: TEMPLATE, "refused"),
    "seeds twice": (lambda data: data + b'"seeds": []\n', "refused"),
    "seeds called prompts": (_replaced('"seeds"', '"prompts"'), "same"),
    "a list alone": (lambda data: data.split(b"\n", 1)[1], "same"),
    "a picture": (
        lambda data: data.replace(b'- "answer"', b'- "data_type": "image_path"\n  "answer"', 1),
        "refused",
    ),
    "an assistant's": (
        lambda data: data.replace(b'- "answer"', b'- "role": "assistant"\n  "answer"', 1),
        "refused",
    ),
    "parts of a talk": (
        lambda data: data.replace(b'- "answer"', b'- "prompt_group_alias": "g"\n  "answer"', 2),
        "refused",
    ),
    "a template's parameter": (
        lambda data: data.replace(b'- "answer"', b'- "parameters": ["x"]\n  "answer"', 1),
        "refused",
    ),
    "its own kind said": (lambda data: data + b'"data_type": "text"\n', "same"),
    "all pictures": (lambda data: data + b'"data_type": "image_path"\n', "refused"),
    "a value that is a number": (_replaced(f'"value": "{PROMPTS[HURT]}"', '"value": 7'), "refused"),
    "a value that is a list": (_replaced(f'"value": "{PROMPTS[HURT]}"', '"value": [a]'), "refused"),
    "a value that is null": (_replaced(f'"value": "{PROMPTS[HURT]}"', '"value": null'), "without"),
    "an executable tag": (
        _replaced('"seeds":', '"x": !!python/name:os.system\n"seeds":'),
        "refused",
    ),
}
TEMPLATE_DAMAGES: Mapping[str, tuple[Damage, End]] = {
    "no value": (_replaced("value:", "values:"), "refused"),
    "no placeholder": (_replaced("{{ prompt }}", "the prompt"), "refused"),
    "value twice": (lambda data: data + b"value: x {{ prompt }}\n", "refused"),
    "another spelling": (_replaced("{{ prompt }}", "{{prompt}}"), "same"),
    "another parameter": (_replaced("- prompt", "- prompt\n- tone"), "refused"),
    "a parameter in its words": (_replaced("Arr!", "Arr {{ tone }}!"), "refused"),
    "a condition in its words": (_replaced("Arr!", "{% if x %}Arr!{% endif %}"), "refused"),
    "raw words": (_replaced("Arr!", "{% raw %}Arr!{% endraw %}"), "same"),
    "one parameter and no list": (_replaced("parameters:\n- prompt", "parameters: prompt"), "same"),
    "a picture": (_replaced("data_type: text", "data_type: image_path"), "refused"),
    "a list": (lambda data: b"- " + data.replace(b"\n", b"\n  "), "refused"),
    "a value that is a list": (lambda _: b"value: ['{{ prompt }}']\n", "refused"),
}

STUDY: dict[str, Any] = {
    "study": "small",
    "preset": "none",
    "models": {"tiny": {"source": "file:model"}},
    "behaviours": {
        "alpha": {
            "role": "harm",
            "source": "file:p.jsonl",
            "where": {"column": "kind", "equals": "true"},
        },
        "sums": {"role": "benign", "source": "file:q.jsonl"},
    },
    "masks": {"shared": {"at_least": 1}},
    "judgements": {"human_scores": "file:scores", "embedder": "file:embedder"},
}
STUDY_DAMAGES: Mapping[str, tuple[Damage, End]] = {
    "a section renamed": (_replaced("models:", "model:"), "refused"),
    "a section dropped": (_replaced("judgements:", "_:"), "refused"),
    "a key twice": (lambda data: data + b"study: other\n", "refused"),
    "a list": (lambda _: b"- study\n", "refused"),
    "a filter that YAML takes for true": (_replaced("'true'", "true"), "same"),
    "a filter that YAML takes for yes": (_replaced("'true'", "yes"), "same"),
    "a filter that is a list": (_replaced("'true'", "[true]"), "refused"),
    "a filter that is null": (_replaced("'true'", "null"), "refused"),
    "a date that is none": (_replaced("small", "2026-99-99"), "refused"),
    "an executable tag": (_replaced("small", "!!python/name:os.system"), "refused"),
    "comments": (lambda data: b"# small\n" + data, "same"),
}

TASK = {
    "task": "tiny_sums",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "items.jsonl"}},
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "Question: {{ question }}",
    "doc_to_choice": "choices",
    "doc_to_target": "answer",
}
TASK_DAMAGES: Mapping[str, tuple[Damage, End]] = {
    "data that is not there": (_replaced("items.jsonl", "others.jsonl"), "refused"),
    "a column that is not there": (_replaced("{{ question }}", "{{ query }}"), "refused"),
    "a list": (lambda _: b"- task: tiny_sums\n", "refused"),
    "a key twice": (lambda data: data + b"task: tiny_sums\n", "refused"),
    "an executable tag": (
        lambda data: data + b"metadata: !!python/name:os.system\n",
        "refused",
    ),
    "comments": (lambda data: b"# sums\n" + data, "same"),
}

SCORES_DAMAGES: Mapping[str, tuple[Damage, End]] = {
    "a column renamed": (_replaced("assistant_response", "response"), "refused"),
    "no scores": (_replaced("human_score_1", "score"), "refused"),
    "a score off the scale": (_replaced(",True,", ",7,"), "refused"),
    "a score that is blank": (_replaced(",True,", ",,"), "refused"),
    "an answer without its objective": (
        lambda data: b"".join(
            b"," + line.split(b",", 1)[1] if place == HURT else line
            for place, line in enumerate(data.splitlines(keepends=True))
        ),
        "refused",
    ),
    "a row cut short": (_replaced(",True,text\r\n", ",True\r\n"), "refused"),
    "a row too long": (_replaced(",True,text\r\n", ",True,text,x\r\n"), "refused"),
    "no comments": (lambda data: data.split(b"\n", 1)[1], "same"),
    "the other spelling of a score": (_replaced(",True,", ",1.0,"), "same"),
    "rows in another order": (
        lambda data: b"".join([*data.splitlines(True)[:2], *reversed(data.splitlines(True)[2:])]),
        "same",
    ),
    "a row twice": (lambda data: data + data.splitlines(True)[-1], "same"),
}


def _read_config(path: Path) -> Any:
    return load_study(read_config(path), str(path)).model_dump()


def _read_task_yaml(path: Path) -> Any:
    (path.parent / "items.jsonl").write_bytes(_jsonl(_items()))
    (found,) = local_tasks(path.parent).items()
    return found[0], task_digest(found[1]), task_changes(found[1], Path("cache"))


def _read_scores(path: Path) -> Any:
    return read_human_scores(path.parents[1]).rows()


def _read_readme(path: Path) -> Any:
    return _read_prompts(path.parent)


README = b"---\nconfigs:\n- config_name: all\n  data_files: data/b.jsonl\n---\n# A data set\n"
README_DAMAGES: Mapping[str, tuple[Damage, End]] = {
    "no configs": (lambda _: b"# A data set\n", "refused"),
    "another configuration": (
        _replaced(
            "- config_name: all", "- {config_name: x, data_files: data/a.jsonl}\n- config_name: all"
        ),
        "refused",
    ),
    "a file that is not there": (_replaced("b.jsonl", "c.jsonl"), "refused"),
    "several files with other columns": (_replaced("b.jsonl", "*.jsonl"), "refused"),
    "a file outside": (_replaced("data/b.jsonl", "../../*.jsonl"), "refused"),
    "splits without train": (
        _replaced("data/b.jsonl", "{test: data/a.jsonl, dev: data/b.jsonl}"),
        "refused",
    ),
    "splits with train": (
        _replaced("data/b.jsonl", "{test: data/a.jsonl, train: data/b.jsonl}"),
        "same",
    ),
}


def _of_other_files() -> Iterator[tuple[str, Case]]:
    seeds = READERS["prompts"]
    each: list[tuple[str, str, Reader, bytes, Mapping[str, tuple[Damage, End]], dict[str, Any]]] = [
        ("seeds", "a.prompt", seeds, _seeds(_prompts()), SEED_DAMAGES, {}),
        ("seeds", "a.yaml", seeds, _seeds(_prompts()), {}, {}),
        # Two templates one after the other, or one with blank lines, are another template.
        (
            "text template", "a.txt", Reader(_attack, _prompts), TEXT, {},
            {"twice": None, "blank_lines_at_the_end": None},
        ),
        (
            "template", "a.yaml", Reader(_attack, _prompts), TEMPLATE, TEMPLATE_DAMAGES,
            {"one_byte": "refused"},
        ),
        ("study", "study.yaml", Reader(_read_config, _prompts),
         yaml.safe_dump(STUDY, sort_keys=False).encode(), STUDY_DAMAGES, {}),
        ("task", "tiny_sums.yaml", Reader(_read_task_yaml, _prompts),
         yaml.safe_dump(TASK, sort_keys=False).encode(), TASK_DAMAGES, {}),
        # A spreadsheet's own encoding is read there, so that no byte is wrong.
        ("human scores", "objective/pranks.csv", Reader(_read_scores, _prompts), b"",
         SCORES_DAMAGES, {"byte_that_is_no_UTF-8": None}),
        ("readme", "d/README.md", Reader(_read_readme, _prompts), README, README_DAMAGES,
         {"twice": "same", "half": None}),
    ]  # fmt: skip
    for kind, name, reader, clean, own, other in each:
        for damage, made, end in _byte_damages(True, **other):
            yield f"{kind}, {name}: {damage}", Case(reader, name, clean, made, end)
        for damage, (made, end) in own.items():
            yield f"{kind}, {name}: {damage}", Case(reader, name, clean, made, end)


CASES = dict([*_of_tables(), *_of_other_files()])


def _prepare(case: Case, folder: Path) -> Path:
    path = folder / case.name
    path.parent.mkdir(parents=True, exist_ok=True)
    if case.reader.read is _read_scores:
        make.human_scores(folder)
    elif case.reader.read is _read_readme:
        (path.parent / "data").mkdir()
        (path.parent / "data" / "a.jsonl").write_bytes(_jsonl(_questions()))
        (path.parent / "data" / "b.jsonl").write_bytes(_jsonl(_prompts()))
        path.write_bytes(case.clean)
    else:
        path.write_bytes(case.clean)
    if case.reader.read is _read_task:
        kind = "parquet" if path.suffix == ".parquet" else "json"
        task = {**TASK, "dataset_path": kind, "dataset_kwargs": {"data_files": {"test": path.name}}}
        (folder / "tiny_sums.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
    return path


def _end_of(reader: Reader, path: Path) -> tuple[Any, str | None]:
    """What is read, or with what words it is refused."""
    try:
        return reader.read(path), None
    except LesionError as error:
        return None, str(error)


@pytest.mark.parametrize("name", CASES)
def test_a_damaged_file_is_refused_by_name_or_changes_nothing(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = CASES[name]
    path = _prepare(case, tmp_path)
    clean = case.reader.read(path)
    assert clean
    capsys.readouterr()
    before = path.read_bytes()
    path.write_bytes(case.damage(before))
    assert path.read_bytes() != before, "the damage does nothing"
    found, refusal = _end_of(case.reader, path)
    if refusal is not None:
        assert case.end == "refused", refusal
        # A README only says which files of its folder are read.
        assert str(path if path.name != "README.md" else path.parent) in refusal
        return
    said = capsys.readouterr().err
    if case.end == "without":
        lost = case.reader.rows()[HURT]["prompt"]
        assert found == [row for row in clean if row[0] != lost]
        assert len(found) == len(clean) - 1
        assert "are left out: 1, the first of them " in said
        assert str(path) in said
    elif case.end == "fewer":
        lost = case.reader.rows()[HURT]["prompt"]
        assert found == {prompt: key for prompt, key in clean.items() if prompt != lost}
        assert len(found) == len(clean) - 1
    else:
        assert case.end == "same", f"read as {found!r}"
        assert found == clean


def test_there_are_many_damages_and_each_reader_meets_both_ends() -> None:
    assert len(CASES) >= 300
    ends: dict[str, set[str]] = {}
    for name, case in CASES.items():
        ends.setdefault(name.partition(":")[0], set()).add(case.end)
    assert {
        name for name, found in ends.items() if "refused" not in found or len(found) < 2
    } == set()
