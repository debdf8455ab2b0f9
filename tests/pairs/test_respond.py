from collections.abc import Callable
from pathlib import Path

import make
import polars as pl
import pytest
import tiny

from lesion.formats import LesionError, read_parquet, write_parquet
from lesion.pairs.respond import Decoding, respond
from lesion.pairs.tables import PAIRS, PROMPTS

HOW = Decoding(tiny.PREFILL, 4, 8, "float32", 1, None)
SPLITS = ["train", "validation", "test"] * 2
Respond = Callable[[pl.DataFrame], pl.DataFrame]


def _prompts(responses: list[str | None]) -> pl.DataFrame:
    prompts = [row["prompt"] for row in make.prompts("alpha", 6)]
    columns = {"prompt": prompts, "response": responses, "split": SPLITS}
    return pl.DataFrame(columns, schema=PROMPTS)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("respond"))


@pytest.fixture
def answer(tmp_path: Path, model: Path) -> Respond:
    def run(prompts: pl.DataFrame) -> pl.DataFrame:
        write_parquet(prompts, tmp_path / "prompts.parquet")
        out = tmp_path / "pairs.parquet"
        respond(tmp_path / "prompts.parquet", model, out, "alpha", "harm", HOW)
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
    with pytest.raises(LesionError, match=r"no pair is left in split `test` \(1 .* 1 empty\)"):
        answer(_prompts(["pie", "pie", "I cannot", "pie", "pie", ""]))
