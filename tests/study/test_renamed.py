"""A key that was renamed: its old name works, and is said once to be old."""

import copy
import logging
from pathlib import Path
from typing import Any

import pytest
import yaml

from lesion.study import load_study, read_configs, renamed
from lesion.study.renamed import RENAMED, with_new_names


def config() -> dict[str, Any]:
    """Every renamed key, by its new name."""
    prompts = {"source": "file:prompts.jsonl"}
    train = {"steps": 1, "mixture": [{"behaviours": "kind"}]}
    return {
        "study": "names",
        "preset": "none",
        "models": {"m": {"source": "file:model"}, "n": {"base": "m", "train": train}},
        "training_stages": {"family": ["m", "n"]},
        "behaviours": {"harm": {"role": "harm", **prompts}, "kind": {"role": "benign", **prompts}},
        "pairs": {"reference_model": "m"},
        "masks": {"q": 0.01, "preservation_pooling": "max", "shared": {"at_least": 1}},
        "responses": {"judged_variants": ["shared"]},
        "curve": {"families": ["shared"], "max_pairs": 3},
        "understanding": {"minimal_pairs": "file:pairs.jsonl"},
        "judgements": {
            "human_scores": "file:scores",
            "embedder": "file:embedder",
            "judges": {"looks": {"kind": "reference", "source": "file:keys.jsonl"}},
            "primary": "looks",
        },
    }


def _old(found: dict[str, Any], key: str) -> dict[str, Any]:
    """The config with the old name of one key."""
    *folders, last = key.replace("*", "n").split(".")
    section = found = copy.deepcopy(found)
    for folder in folders:
        section = section[folder]
    section[last] = section.pop(RENAMED[key])
    return found


@pytest.fixture(autouse=True)
def _nothing_said() -> None:
    renamed._warn.cache_clear()


@pytest.mark.parametrize("key", RENAMED)
def test_an_old_name_works_and_is_named_once(key: str, caplog: pytest.LogCaptureFixture) -> None:
    study = load_study(config())
    assert not caplog.records
    old = _old(config(), key)
    assert load_study(old) == load_study(old) == study
    written = key.replace("*", "n")
    new = ".".join([*written.split(".")[:-1], RENAMED[key]])
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.message == f"`{written}` is now called `{new}`; the old name still works"


def test_the_old_name_of_an_arm_works_and_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    def study(*arms: str) -> Any:
        again = {"recipe": {"steps": 1}, "arms": [*arms]}
        return load_study({**config(), "retraining": {"again": again}})

    new = study("unmodified", "shared")
    assert not caplog.records
    assert study("shared", "intact") == study("intact", "shared") == new
    (record,) = caplog.records
    assert record.message == "`intact` is now called `unmodified`; the old name still works"


@pytest.mark.parametrize(
    "names", [("completed", "judged_variants"), ("judged_variants", "completed")]
)
def test_the_file_above_counts_whichever_name_it_uses(
    names: tuple[str, str], tmp_path: Path
) -> None:
    below, above = config(), {"responses": {names[1]: []}}
    below["responses"] = {names[0]: ["shared"]}
    paths = [tmp_path / "below.yaml", tmp_path / "above.yaml"]
    for path, text in zip(paths, (below, above), strict=True):
        path.write_text(yaml.safe_dump(text), encoding="utf-8")
    assert load_study(read_configs(paths)).responses.judged_variants == []
    # And so do keys of the command line, over all files.
    over = {"responses": {names[0]: ["random"]}}
    assert load_study(read_configs(paths, over)).responses.judged_variants == ["random"]
    # Snakemake lays files over each other before it knows of the names.
    merged = below | {"responses": below["responses"] | above["responses"]}
    assert load_study(merged).responses.judged_variants == []


@pytest.mark.parametrize("given", [{"masks": 3}, {"masks": None}, {"models": {"n": None}}, {}])
def test_what_is_no_section_is_left_to_the_schema(given: dict[str, Any]) -> None:
    assert with_new_names(given) == given
