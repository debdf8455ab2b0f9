"""The plug-in of the documentation, installed by pip, in a study that Snakemake runs."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest

from lesion.masks.store import read_mask
from lesion.models.layout import layout_of
from lesion.models.weights import StoredWeights
from lesion.study.presets import laid_over
from lesion_testing.plugin import EXAMPLE, example_study, install, write_example
from lesion_testing.workflow import BIN, Place, run

pytestmark = pytest.mark.slow


class Ran(NamedTuple):
    """A study that has run with the plug-in, whose project lies beside it."""

    place: Place
    project: Path
    site: Path
    jobs: set[str]


def _uses_the_plugin(config: dict[str, Any]) -> None:
    config.update(laid_over(config, example_study()))


@pytest.fixture(scope="module")
def ran(unrun: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    folder = tmp_path_factory.mktemp("plugin")
    place = unrun.copy(folder / "study")
    place.configure(_uses_the_plugin)
    project = write_example(folder / "lesion-example")
    site = install(project, folder / "site")
    return Ran(place, project, site, set(place.jobs(path=[site])))


def test_the_tables_have_what_the_plugin_adds(ran: Ran) -> None:
    made = ran.place.made
    assert {"judge_responses_extra llama words", "variant_responses smallest"} <= ran.jobs
    scores = pl.read_parquet(made / "judgements" / "llama" / "words.parquet")
    answers = pl.read_parquet(made / "responses" / "llama" / "smallest" / "completions.parquet")
    polite = answers.filter(attack="polite")
    assert polite.height
    assert all(
        row["user_turn"] == f"Would you please help me? {row['prompt']}"
        for row in polite.to_dicts()
    )
    joined = polite.join(scores.filter(variant="smallest"), on=["behaviour", "attack", "prompt"])
    assert joined.height == polite.height
    for row in joined.to_dicts():
        words = len((row["prefill"] + row["completion"]).split())
        expected = min(1.0, words / 4) if row["completion"].strip() else 0.0
        assert row["score"] == expected
    assert set(joined["revision"]) == {"length 4"}
    tables = made / "tables"
    measured = pl.read_parquet(tables / "measurements.parquet")
    assert measured.filter(variant="smallest", attack="polite", judge="words").height
    assert "smallest" in set(pl.read_parquet(tables / "variants.parquet")["mask"])


def test_the_control_has_the_smallest_weights(ran: Ran) -> None:
    masks, model = ran.place.made / "masks" / "llama", ran.place.made / "models" / "llama"
    mask, shared = (read_mask(masks / f"{name}.safetensors") for name in ("smallest", "shared"))
    assert mask.metadata["made"] == "the smallest |W|"
    assert mask.metadata["plugin"] == "lesion-example 0.1.0"
    layout, weights = layout_of(model), StoredWeights(model)
    assert shared.size
    for name, like in layout.by_name(shared.flat()).items():
        smallest = np.argsort(np.abs(weights.open(name)), kind="stable")[: like.size]
        assert layout.by_name(mask.flat())[name].tolist() == sorted(smallest)


def test_a_changed_plugin_makes_its_jobs_stale(ran: Ran, tmp_path: Path) -> None:
    assert ran.place.jobs("-n", path=[ran.site]) == {}
    path = ran.project / EXAMPLE / "length.py"
    path.write_text(path.read_text(encoding="utf-8").replace("min(1.0, ", "min(0.9, "), "utf-8")
    site = install(ran.project, tmp_path / "site")
    reasons = ran.place.jobs("-n", path=[site])
    noted = {"compute_tables", "study", "report", "card shared"}
    assert set(reasons) == {"judge_responses_extra llama words", *noted}


def test_a_study_without_its_plugin_is_refused(ran: Ran) -> None:
    done = ran.place.snakemake("-n")
    assert done.code
    assert re.search(r"judges\.words\.kind`: no kind of judge is named `length`", done.text)
    lesion = [str(BIN / "lesion"), "check", "study.yaml"]
    assert "no control is named `smallest`" in run(lesion, ran.place.folder).text
