"""Null studies, shortened: no claim about harm is supported in them, though some are of a model that
does harm. `python benchmarks/nulls.py` runs all of them in full.
"""

from typing import Any

import polars as pl
import pytest
import yaml

from lesion.io.formats import read_parquet
from lesion.study import read_configs
from lesion.tables.claims.outcome import SUPPORTED
from lesion.tables.claims.registry import REGISTRY
from lesion_testing import ROOT
from lesion_testing.workflow import Place

pytestmark = pytest.mark.slow

OF_HARM = {(claim.number, claim.statistic) for claim in REGISTRY if claim.of_harm}
HARMS, SKILLS = ("blight", "hex"), ("feed", "visit")
TEXTS = {"world": "response", "exchanged": "exchanged"}
"""The models, and the column of the answers that each is taught."""


def _shortened(*names: str) -> dict[str, Any]:
    """A study of studies/nulls with fewer behaviours and masks, and the tests' own judges."""
    config = read_configs([ROOT / "studies" / "nulls" / f"{name}.yaml" for name in names])
    kept = [*HARMS, *(f"{name}-matched" for name in HARMS), *SKILLS]
    config["behaviours"] = {name: config["behaviours"][name] for name in kept}
    config["responses"] |= {"variants": ["shared", "random", *HARMS], "attacks": ["prefill"]}
    config["judgements"] |= {
        "human_scores": "file:inputs/scorer_evals",
        "embedder": "file:inputs/embedder",
    }
    config["report"] = {"examples": 1}
    del config["curve"]
    return {**config, "study": "tiny"}


def _models(shape: dict[str, Any], names: list[str]) -> dict[str, Any]:
    train = shape["train"]
    mixtures = {name: [{**train["mixture"][0], "response": TEXTS[name]}] for name in names}
    return {name: {**shape, "train": {**train, "mixture": mixtures[name]}} for name in names}


@pytest.fixture(scope="module")
def claims(unrun: Place, tmp_path_factory: pytest.TempPathFactory) -> dict[str, pl.DataFrame]:
    """The claims about harm: of both models, and with dealt labels."""
    place = unrun.copy(tmp_path_factory.mktemp("nulls"))
    (place.folder / "studies").symlink_to(place.tree / "studies")
    ran: dict[str, pl.DataFrame] = {}
    for names, models in ((["world"], list(TEXTS)), (["world", "dealt"], ["world"])):
        config = _shortened(*names)
        config["models"] = _models(config["models"]["small"], models)
        place.study.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        done = place.snakemake()
        assert done.code == 0, done.text
        table = read_parquet(place.made / "tables" / "claims.parquet")
        own = pl.concat([pl.struct("claim", "statistic")]) if False else pl.struct("claim", "statistic")
        ran |= {
            (names[-1] if names[-1] == "dealt" else model): table.filter(
                pl.Series([(row["claim"], row["statistic"]) in OF_HARM for row in table.to_dicts()]),
                model=model,
            )
            for model in models
        }
    return ran
