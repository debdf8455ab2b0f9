import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl
import pytest

from lesion.io.formats import LesionError, read_parquet, write_parquet
from lesion.pairs.jobs import MatchedPromptsJob, RowSelection
from lesion.pairs.matched import write_matched_prompts
from lesion.pairs.prompts import worded
from lesion.pairs.tables import PROMPTS
from lesion.plan.checks import warnings
from lesion.sources.jobs import SourceLocation
from lesion.study import StudyError, load_study, read_config
from lesion_testing import ROOT, make
from lesion_testing.rich_study import STUDY

SPLITS = [*["train"] * 12, *["validation"] * 6, *["test"] * 6]
HARMFUL = [row["prompt"] for row in make.prompts("alpha", 24)]
HARMLESS = [row["prompt"] for row in make.prompts("beta", 24)]


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _rows() -> list[dict[str, str]]:
    pairs = zip(HARMFUL, HARMLESS, strict=True)
    return [{"harmful": left, "harmless": right} for left, right in pairs]


def _made(
    folder: Path,
    rows: list[dict[str, str]],
    limit: int | None = None,
    wordings: Sequence[str] = ("{prompt}",),
    harmful: Sequence[str] = HARMFUL,
) -> pl.DataFrame:
    pairs = zip(harmful, SPLITS, strict=True)
    harm = [{"prompt": prompt, "split": split} for prompt, split in pairs]
    write_parquet(pl.DataFrame(harm, schema=PROMPTS), folder / "harm.parquet")
    job = MatchedPromptsJob(
        behaviour="beta",
        of="alpha",
        source=SourceLocation(path=make.write_rows(folder / "pairs.jsonl", rows)),
        rows=RowSelection(prompt="harmless", harmful="harmful", limit=limit),
        wordings=list(wordings),
        near_duplicate=0.6,
        need=12,
    )
    write_matched_prompts(folder / "harm.parquet", folder / "out.parquet", job)
    return read_parquet(folder / "out.parquet", PROMPTS)


def test_both_sides_of_a_pair_are_in_one_split(tmp_path: Path) -> None:
    table = _made(tmp_path, _rows()[::-1])
    assert table["counterpart"].to_list() == HARMFUL[::-1]
    assert table["prompt"].to_list() == HARMLESS[::-1]
    assert table["split"].to_list() == SPLITS[::-1]
    assert table["response"].null_count() == 24


@pytest.mark.parametrize("named", [str, lambda text: f"sha256:{sha256(text)}"])
def test_both_sides_of_a_pair_have_the_same_wording(
    tmp_path: Path, named: Callable[[str], str]
) -> None:
    wordings = ["{prompt}", "Could you do this? {prompt}", "{prompt} It is urgent.", "A: {prompt}."]
    harmful = worded(HARMFUL, wordings, 3)
    rows = [{**row, "harmful": named(row["harmful"])} for row in _rows()]
    table = _made(tmp_path, rows, wordings=wordings, harmful=harmful)
    assert table["counterpart"].to_list() == harmful
    assert table["split"].to_list() == SPLITS
    drawn = [
        text.replace(prompt, "{prompt}") for text, prompt in zip(harmful, HARMFUL, strict=True)
    ]
    assert set(drawn) == set(wordings)
    expected = [text.replace("{prompt}", own) for text, own in zip(drawn, HARMLESS, strict=True)]
    assert table["prompt"].to_list() == expected


def test_a_harmful_request_may_be_given_by_its_digest(tmp_path: Path) -> None:
    rows = _rows()
    for row in rows:
        row["harmful"] = f"sha256:{sha256(row['harmful'])}"
    assert _made(tmp_path, rows)["counterpart"].to_list() == HARMFUL


def test_requests_without_a_harmful_one_are_left_out_before_the_limit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = {"harmful": "not of this type", "harmless": "a request of another file"}
    with caplog.at_level(logging.INFO):
        table = _made(tmp_path, [other, *_rows()], limit=20)
    assert table["prompt"].to_list() == HARMLESS[:20]
    assert "and 1 whose harmful request is not among the prompts of `alpha`" in caplog.text


def test_a_request_that_resembles_one_of_another_split_is_left_out(tmp_path: Path) -> None:
    rows = _rows()
    rows[23]["harmless"] = f"{rows[0]['harmless']} please"
    rows[1]["harmless"] = f"{rows[0]['harmless']} now"
    table = _made(tmp_path, rows)
    assert table["counterpart"].to_list() == HARMFUL[:23]


def test_of_several_requests_for_one_harmful_one_the_first_counts(tmp_path: Path) -> None:
    rows = _rows()
    again = {"harmful": rows[0]["harmful"], "harmless": "another request for the first one"}
    table = _made(tmp_path, [*rows, again])
    assert table["prompt"].to_list() == HARMLESS


def test_pairs_of_another_harm_type_are_an_error_that_names_the_column(tmp_path: Path) -> None:
    rows = [{**row, "harmful": f"{row['harmful']}."} for row in _rows()]
    message = r"`beta`: only 0 of its 24 requests .* split `train` of `alpha`.* column `harmful`"
    with pytest.raises(LesionError, match=message):
        _made(tmp_path, rows)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"of": None}, "role `matched` requires `of`"),
        ({"of": "alfa"}, r"behaviours.gamma-matched.of`: no harm type .*Did you mean `alpha`"),
        ({"of": "sums"}, r"behaviours.gamma-matched.of`: no harm type is named `sums`"),
        ({"response": "answer"}, "takes no `response`"),
        ({"harmful": None}, "`harmful` must name the column"),
        ({"role": "benign"}, "`of` requires `role: matched`"),
    ],
)
def test_what_a_matched_behaviour_must_say(changes: dict[str, object], message: str) -> None:
    own = {**STUDY["behaviours"]["gamma-matched"], **changes}
    behaviours = {**STUDY["behaviours"], "gamma-matched": own}
    with pytest.raises(StudyError, match=message):
        load_study({**STUDY, "behaviours": behaviours})


def test_a_harm_type_has_one_set_of_matched_requests() -> None:
    again = STUDY["behaviours"]["gamma-matched"]
    behaviours = {**STUDY["behaviours"], "other": again}
    with pytest.raises(StudyError, match=r"`behaviours\.other\.of`: `gamma-matched` holds"):
        load_study({**STUDY, "behaviours": behaviours})


def test_matched_requests_go_with_their_harm_type() -> None:
    masks = {**STUDY["masks"], "shared": {"at_least": 1}}
    behaviours = {**STUDY["behaviours"], "gamma": None}
    study = load_study({**STUDY, "behaviours": behaviours, "masks": masks})
    assert not study.of_role("matched")
    assert set(study.behaviours) == set(behaviours) - {"gamma", "gamma-matched"}


def test_harm_types_without_matched_requests_are_warned_of() -> None:
    (said,) = (text for text in warnings(load_study(STUDY)) if "matched" in text)
    assert said.startswith("`behaviours`: alpha, beta have no matched requests")
    study = load_study(read_config(ROOT / "config.yaml"))
    assert not [text for text in warnings(study) if "matched" in text]
