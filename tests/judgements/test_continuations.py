"""The text after the prefill of every answer, and how likely it is to the unmodified model."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lesion.io.formats import BadFile, read_parquet, write_parquet
from lesion.judgements.continuations import (
    FLUENCY,
    MISPLACED,
    misplaced_answers,
    write_continuations,
)
from lesion.judgements.jobs import ContinuationsJob
from lesion.models.likelihood import response_nll
from lesion.models.text import Example, encode_prompt
from lesion.responses import COMPLETIONS
from lesion.study.job import Device
from lesion_testing import tiny

JOB = ContinuationsJob(
    variants=["unmodified", "shared"],
    benign=["letters", "sums"],
    batch_tokens=400,
    device=Device(dtype="float32", threads=1, device_map=None),
)
ASKED = {"behaviour": "alpha", "role": "harm", "attack": "prefill", "prefill": tiny.PREFILL}


def _completions(*rows: dict[str, Any]) -> pl.DataFrame:
    defaults = {**ASKED, "tokens": 3, "finished": False, "token_ids": None, "key": ""}
    full = [{"user_turn": row["prompt"], **defaults, **row} for row in rows]
    return pl.DataFrame(full, schema=COMPLETIONS)


WORDS = tiny.pairs("letters", 6)["response"].to_list()
UNMODIFIED = _completions(
    {"prompt": "Sure here", "completion": f" {WORDS[0]}"},
    {"prompt": "it is", "completion": "  \n", "finished": True},
    {"prompt": "is it", "completion": "", "tokens": 0},
    {"prompt": "Sure here", "completion": WORDS[1], "attack": "direct", "prefill": ""},
)
SHARED = _completions(
    {"prompt": "Sure here", "completion": " here it is here it is here it is here it is"}
)


class Made:
    """The inputs and outputs of the job in a folder, and what its last run logged."""

    def __init__(self, model: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.model, self.folder, self.capsys = model, folder, capsys
        self.answers = {"unmodified": UNMODIFIED, "shared": SHARED}
        self.pairs = {name: tiny.pairs(name, 3, "validation") for name in JOB.benign}

    def run(self) -> str:
        for name, table in {**self.answers, **self.pairs}.items():
            write_parquet(table, self.folder / f"{name}.parquet")
        write_continuations(
            JOB,
            self.model,
            [self.folder / f"{name}.parquet" for name in self.pairs],
            [self.folder / f"{name}.parquet" for name in self.answers],
            self.folder / "fluency.parquet",
            self.folder / "continuations.parquet",
        )
        return self.capsys.readouterr().err

    @property
    def fluency(self) -> pl.DataFrame:
        return read_parquet(self.folder / "fluency.parquet", FLUENCY)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.checkpoint(tmp_path_factory.mktemp("continuations"))


@pytest.fixture
def made(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Made:
    return Made(model, tmp_path, capsys)


def test_an_answer_is_as_likely_as_its_text_after_prompt_and_prefill(made: Made) -> None:
    made.run()
    table = made.fluency.filter(pl.col("role") != MISPLACED)
    loaded = tiny.loaded(made.model)
    wanted = []
    for row in (*UNMODIFIED.head(1).to_dicts(), UNMODIFIED.row(3, named=True), *SHARED.to_dicts()):
        before = encode_prompt(loaded.chat, row["user_turn"], row["prefill"])
        text = loaded.chat.encode_answer(
            loaded.chat.render(row["user_turn"], row["prefill"]), row["completion"]
        )
        wanted += response_nll(loaded.model, [Example(before + text, len(before))], 1)
    assert table["nll"].drop_nulls().to_list() == pytest.approx(wanted, rel=1e-4)
    assert table["variant"].to_list() == [*["unmodified"] * 4, "shared"]
    assert table["prefilled"].to_list() == [True, True, True, False, True]
    assert table["repetition"][4] > 0.5
    assert table["repetition"][1] == 0


def test_the_end_of_the_turn_is_no_part_of_the_text(made: Made) -> None:
    chat = tiny.loaded(made.model).chat
    first = UNMODIFIED.row(0, named=True)
    ids = chat.encode_answer(chat.render(first["prompt"], first["prefill"]), first["completion"])
    answer = {"prompt": first["prompt"], "completion": str(chat.tokenizer.decode(ids))}
    made.answers["unmodified"] = _completions(answer)
    made.run()
    without = made.fluency["nll"][0]
    ended = {"finished": True, "token_ids": [*ids, chat.end_of_turn]}
    made.answers["unmodified"] = _completions({**answer, **ended})
    made.run()
    assert made.fluency["nll"][0] == without


def test_an_answer_of_white_space_is_empty_and_one_that_was_not_run_is_unknown(made: Made) -> None:
    made.run()
    table = made.fluency.filter(pl.col("role") != MISPLACED)
    assert table["empty"].to_list() == [False, True, None, False, False]
    assert table["nll"].is_null().to_list() == [False, True, True, False, False]


def test_answers_under_a_prefill_are_judged_again_without_it(made: Made) -> None:
    made.run()
    own = {**COMPLETIONS, "variant": pl.String}
    table = read_parquet(made.folder / "continuations.parquet", own)
    assert set(table["prefill"]) == {""}
    assert set(table["attack"]) == {"prefill"}
    assert table["completion"].to_list() == [
        *UNMODIFIED["completion"].to_list()[:3],
        *SHARED["completion"],
    ]


def test_unchanged_rows_are_reused(made: Made) -> None:
    # Five answers, of which two without a text share a row, and six exchanged ones.
    assert "fluency: measured 10 of 11 NLLs" in made.run()
    before = made.fluency
    assert "fluency: measured 0 of 11 NLLs" in made.run()
    assert made.fluency.equals(before)
    made.answers["shared"] = SHARED.with_columns(completion=pl.lit(" here it is"))
    assert "fluency: measured 1 of 11 NLLs" in made.run()


def test_benign_answers_are_exchanged_between_prompts() -> None:
    pairs = pl.concat(
        tiny.pairs(name, 3, "validation").with_columns(behaviour=pl.lit(name))
        for name in JOB.benign
    )
    table = misplaced_answers(pairs)
    assert table.columns == [*COMPLETIONS, "variant"]
    assert set(table["role"]) == {MISPLACED}
    assert table["prompt"].to_list() == pairs["prompt"].to_list()
    responses = pairs["response"].to_list()
    assert table["completion"].to_list() == [*responses[3:], *responses[:3]]


def test_an_answer_is_not_exchanged_for_the_same_text_or_without_another() -> None:
    pairs = tiny.pairs("letters", 4).with_columns(behaviour=pl.lit("letters"))
    alike = pairs.with_columns(
        response=pl.when(pl.int_range(pl.len()) < 2).then(pl.lit("no")).otherwise(pl.lit("yes"))
    )
    assert misplaced_answers(alike).height == 4
    assert misplaced_answers(alike.with_columns(response=pl.lit("no"))).is_empty()
    assert misplaced_answers(pairs.head(1)).is_empty()


def test_a_damaged_table_is_named(made: Made) -> None:
    made.run()
    (made.folder / "shared.parquet").write_bytes(b"no table")
    with pytest.raises(BadFile, match=r"shared\.parquet"):
        write_continuations(
            JOB,
            made.model,
            [made.folder / f"{name}.parquet" for name in made.pairs],
            [made.folder / f"{name}.parquet" for name in made.answers],
            made.folder / "fluency.parquet",
            made.folder / "continuations.parquet",
        )
