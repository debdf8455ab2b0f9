from collections.abc import Callable
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import polars as pl
import pytest

from lesion.io.formats import LesionError, read_json, read_parquet, write_json, write_parquet
from lesion.models import load
from lesion.models.jobs import ResolvedChat
from lesion.models.load import open_chat
from lesion.models.prepare import prepare
from lesion.models.record import read_record
from lesion.pairs.jobs import PairsJob
from lesion.pairs.respond import respond
from lesion.pairs.tables import PAIRS, PROMPTS, encode_pairs
from lesion.study.job import Device
from lesion_testing import make, tiny

JOB = PairsJob(
    behaviour="alpha",
    role="harm",
    prefill=tiny.PREFILL,
    max_new_tokens=4,
    batch_size=8,
    device=Device(dtype="float32"),
)
REFUSING = JOB.model_copy(update={"role": "refusal"})
SPLITS = ["train", "validation", "test"] * 2
Respond = Callable[[pl.DataFrame], pl.DataFrame]


def _prompts(responses: list[str | None]) -> pl.DataFrame:
    prompts = [row["prompt"] for row in make.prompts("alpha", 6)]
    columns = {"prompt": prompts, "response": responses, "split": SPLITS}
    return pl.DataFrame({**columns, "counterpart": [None] * len(prompts)}, schema=PROMPTS)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("respond"))


@pytest.fixture
def answer(tmp_path: Path, model: Path) -> Respond:
    def run(prompts: pl.DataFrame) -> pl.DataFrame:
        write_parquet(prompts, tmp_path / "prompts.parquet")
        out = tmp_path / "pairs.parquet"
        respond(tmp_path / "prompts.parquet", model, out, JOB)
        return read_parquet(out, PAIRS)

    return run


def test_the_model_writes_what_is_not_given(answer: Respond) -> None:
    given: list[str | None] = ["a pie", "two pies", None, None, None, None]
    table = answer(_prompts(given))
    assert table["response"].to_list()[:2] == given[:2]
    assert table["prefill"].to_list() == ["", ""] + [tiny.PREFILL] * 4
    assert all(len(text.split()) == 4 for text in table["response"][2:])


def test_a_response_once_given_is_not_taken_for_the_models(
    answer: Respond, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(_prompts(["a given pie"] * 6))
    assert "generated 0 of 6 responses" in capsys.readouterr().err
    table = answer(_prompts([None] * 6))
    assert "generated 6 of 6 responses" in capsys.readouterr().err
    assert "a given pie" not in table["response"].to_list()
    assert answer(_prompts([None] * 6)).equals(table)
    assert "generated 0 of 6 responses" in capsys.readouterr().err


def test_the_log_shows_an_example_of_each_outcome(
    answer: Respond, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = _prompts(["I cannot " + "hide socks " * 20, " ", "a pie", "x", "y", "z"])
    prompts = prompts.with_columns(split=pl.Series(["train"] * 3 + SPLITS[:3]))
    answer(prompts)
    said = capsys.readouterr().err.splitlines()
    (refused,) = [line for line in said if line.startswith("alpha: refused, such as ")]
    assert '"I cannot hide socks hide' in refused
    assert "…" in refused
    assert refused.endswith(f'to "{prompts["prompt"][0]}"')
    assert any(line.startswith('alpha: empty, such as " " to ') for line in said)
    assert any(line.startswith('alpha: kept, such as "a pie" to ') for line in said)


def test_refused_and_empty_responses_are_no_pairs(answer: Respond) -> None:
    table = answer(_prompts(["pie", "pie", "pie", "I'm sorry, no.", " ", "pie"]))
    assert table["outcome"].to_list() == ["kept"] * 3 + ["refused", "empty", "kept"]


def test_a_split_without_pairs_is_named(answer: Respond) -> None:
    with pytest.raises(
        LesionError, match=r"no pair is left in split `test` \(1 .* 1 empty, 0 too long;"
    ):
        answer(_prompts(["pie", "pie", "I cannot", "pie", "pie", ""]))


def test_a_given_response_beyond_the_context_is_left_out_and_counted(
    answer: Respond, capsys: pytest.CaptureFixture[str]
) -> None:
    room = 256 - len(make.prompts("alpha", 6)[3]["prompt"].split()) - 4
    given: list[str | None] = ["pie", "pie", "pie", " ".join(["pie"] * room), "pie", "pie"]
    assert answer(_prompts(given))["outcome"].to_list() == ["kept"] * 6
    given[3] = " ".join(["pie"] * (room + 1))
    table = answer(_prompts(given))
    assert table["outcome"].to_list() == ["kept"] * 3 + ["too long"] + ["kept"] * 2
    assert "train: 1 pairs kept, 0 refused, 0 empty, 1 too long" in capsys.readouterr().err


def test_what_the_model_wrote_is_kept_as_its_tokens(answer: Respond, model: Path) -> None:
    chat = open_chat(model)
    table = answer(_prompts(["a pie", None, None, None, None, None]))
    assert table["token_ids"].is_null().to_list() == [True, *[False] * 5]
    for row, example in zip(table.iter_rows(named=True), encode_pairs(chat, table), strict=True):
        if row["token_ids"] is not None:
            assert example.tokens[example.start :] == row["token_ids"]
            ended = row["token_ids"][-1] == chat.end_of_turn
            assert ended == row["finished"]


def _again(model: Path, tmp_path: Path, name: str, template: str) -> tuple[pl.DataFrame, str]:
    """The same prompts put to the same weights under another template, in the same folder."""
    other = tmp_path / name
    settings = ResolvedChat(template="own.jinja", text=template)
    prepare(model, other, dtype="float32", license_="mit", chat=settings)
    # Of the same digest: what differs is how prompts are put alone.
    record = read_json(other / "lesion.json")
    write_json({**record, "digest": read_record(model)["digest"]}, other / "lesion.json")
    write_parquet(_prompts([None] * 6), tmp_path / "prompts.parquet")
    out = tmp_path / "pairs.parquet"
    with redirect_stderr(StringIO()) as said:
        respond(tmp_path / "prompts.parquet", other, out, REFUSING)
    return read_parquet(out, PAIRS), said.getvalue()


def test_rows_are_known_by_the_tokens_that_the_model_is_fed(model: Path, tmp_path: Path) -> None:
    first, _ = _again(model, tmp_path, "first", make.CHAT)
    same, said = _again(model, tmp_path, "same", "{# The same text. #}" + make.CHAT)
    assert "generated 0 of 6 responses" in said
    assert same.equals(first)
    _, said = _again(model, tmp_path, "other", "apple " + make.CHAT)
    assert "generated 6 of 6 responses" in said


def test_rows_are_known_by_the_precision_that_auto_comes_to(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_parquet(_prompts([None] * 6), tmp_path / "prompts.parquet")

    def run(native: bool) -> str:
        monkeypatch.setattr(load, "_native_bf16", lambda: native)
        job = REFUSING.model_copy(update={"device": Device(dtype="auto")})
        place = (tmp_path / "prompts.parquet", model, tmp_path / "pairs.parquet")
        respond(*place, job)
        return capsys.readouterr().err

    assert "generated 6 of 6" in run(native=False)
    assert "generated 0 of 6" in run(native=False)
    assert "generated 6 of 6" in run(native=True)
