"""The captions of Snakemake's report give this run's numbers, and no job depends on them."""

import pickle
from pathlib import Path
from types import SimpleNamespace

import pytest
from jinja2 import Environment, StrictUndefined

from lesion.report.run_captions import CaptionedConfig
from lesion.study import load_study, read_config
from lesion_testing import ROOT
from lesion_testing.invented import Shape, write_study

CAPTIONS = ROOT / "workflow" / "report"
WITH_NUMBERS = {
    "page": "Claim 1 can't tell; claim 6 can't tell; claim 2 supported",
    "claims": "Of the paper’s 8 claims, 5 were measured here: 3 are supported",
    "measurements": "Task accuracy 67% → 67% [63%, 71%]",
    "sweep": "12 points were tried; p = 0.05 and q = 0.0002 were chosen within a limit of 0.1",
    "curve": "9,187 weights halve the likelihood of harmful tokens and add 0.24 nats",
    "equal-cost": "At a limit of 0.05, shared (9,006 weights) adds 0.59 [0.57, 0.61] nats",
    "equal_cost": "matched (9,007 weights) adds 0.21 [0.19, 0.23] nats",
    "outcomes": "harmful 60% → 20% [10%, 30%]",
    "overlap": "share most: ",
}


def _filled(tables: Path | None) -> dict[str, str]:
    """Every caption as Snakemake fills it in."""
    snakemake = SimpleNamespace(config=CaptionedConfig({}, tables))
    environment = Environment(undefined=StrictUndefined)
    return {
        path.stem: environment.from_string(path.read_text(encoding="utf-8")).render(
            snakemake=snakemake
        )
        for path in CAPTIONS.glob("*.rst")
    }


def test_captions_have_the_runs_numbers(tables: Path) -> None:
    filled = _filled(tables)
    for name, words in WITH_NUMBERS.items():
        assert "**In this run.**" in filled[name]
        assert words in filled[name], filled[name]


def test_each_model_has_its_numbers(tmp_path: Path) -> None:
    tables = write_study(tmp_path / "tables", Shape(models=["b", "a"], whole=False))
    filled = _filled(tables)
    assert filled["sweep"].index("``b``: 12 points") < filled["sweep"].index("``a``: 12 points")
    assert filled["curve"].endswith("Nothing was measured.")


def test_a_study_that_is_not_finished_has_no_numbers(tmp_path: Path) -> None:
    filled = _filled(write_study(tmp_path / "tables"))
    (tmp_path / "tables" / "study.json").unlink()
    without = _filled(tmp_path / "tables")
    assert without.keys() == filled.keys()
    for name in WITH_NUMBERS:
        assert without[name].endswith("Nothing was measured.")


def test_jobs_get_the_study_alone(tmp_path: Path) -> None:
    # The folder has no tables: nothing is read before a caption asks.
    config = CaptionedConfig(load_study(read_config(ROOT / "config.yaml")).model_dump(), tmp_path)
    given = pickle.loads(pickle.dumps(config))
    assert type(given) is dict
    assert load_study(given) == load_study(read_config(ROOT / "config.yaml"))
    with pytest.raises(KeyError):
        config["caption"]


def test_numbers_in_a_storage_are_not_called_missing() -> None:
    texts = _filled(None).values()
    assert not [text for text in texts if "Nothing was measured" in text]
    assert [text for text in texts if "in the tables, which are in the storage" in text]
