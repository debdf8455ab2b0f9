"""The seed of a new study: no split of it is short of prompts, if that can be."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from lesion.io.addresses import parse
from lesion.io.formats import BadFile
from lesion.pairs.prompts import assign, select_prompts
from lesion.pairs.rows import read_rows
from lesion.plan.jobs import prompts_job
from lesion.plan.seeds import SEEDS, WANTED, fullest_seed
from lesion.sources.fetch import fetch, locate
from lesion.study import Study, load_study
from lesion_testing import make


def _study(folder: Path, preset: str = "quick", **more: Any) -> Study:
    harm = {"role": "harm", "source": f"file:{folder / 'phishing.jsonl'}"}
    model = {"source": f"file:{folder}"}
    return load_study(
        {
            "study": "mine",
            "preset": preset,
            "results": str(folder / "results"),
            "models": {"toy": model},
            "behaviours": {"plan": None, "code": None, "advice": None, "phishing": harm, **more},
        }
    )


def _requests(folder: Path, number: int) -> list[str]:
    prompts = [row["prompt"] for row in make.prompts("letters", number)]
    make.write_rows(folder / "phishing.jsonl", [{"prompt": prompt} for prompt in prompts])
    return prompts


def _fullness(prompts: list[str], study: Study, seed: int) -> float:
    pairs = study.pairs
    sizes = Counter(assign(prompts, pairs.split.model_dump(), pairs.near_duplicate, seed))
    return min(sizes[split] / wanted for split, wanted in WANTED.items())


@pytest.mark.parametrize("number", [12, 24, 40])
def test_no_other_seed_makes_the_splits_fuller(tmp_path: Path, number: int) -> None:
    prompts = _requests(tmp_path, number)
    # Of the same prompts, so that what a harm type needs decides.
    benign = {"role": "benign", "source": f"file:{tmp_path / 'phishing.jsonl'}"}
    gone = dict.fromkeys(("explain", "write", "facts", "compute"))
    study = _study(tmp_path, preset="full", letters=benign, **gone)
    # The first of those that are equally good; more than enough is no better.
    best = max(SEEDS, key=lambda seed: min(1.0, _fullness(prompts, study, seed)))
    assert fullest_seed([study]) == best


def test_the_first_seed_that_is_good_enough_is_taken(tmp_path: Path) -> None:
    _requests(tmp_path, 600)
    benign = {"role": "benign", "source": f"file:{tmp_path / 'phishing.jsonl'}"}
    gone = dict.fromkeys(("explain", "write", "facts", "compute"))
    # Without a limit on the prompts.
    study = _study(tmp_path, preset="full", letters=benign, **gone)
    assert fullest_seed([study]) == SEEDS[0]


def test_matched_requests_and_fetched_sources_are_left_out(tmp_path: Path) -> None:
    prompts = _requests(tmp_path, 24)
    rows = [{"harmful": one, "harmless": f"{one} in a film"} for one in prompts[:2]]
    make.write_rows(tmp_path / "matched.jsonl", rows)
    source = f"file:{tmp_path / 'matched.jsonl'}"
    matched = {"role": "matched", "of": "phishing", "source": source}
    more = _study(tmp_path, **{"phishing-matched": matched})
    assert fullest_seed([more]) == fullest_seed([_study(tmp_path, refusal=None)])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    _requests(tmp_path, 24)
    study = _study(tmp_path)
    (tmp_path / "phishing.jsonl").write_text("")
    with pytest.raises(BadFile, match="phishing"):
        fullest_seed([study])


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["quick", "standard"])
def test_every_seed_fills_the_splits_of_the_presets_refusals(tmp_path: Path, preset: str) -> None:
    _requests(tmp_path, 24)
    study = _study(tmp_path, preset)
    job = prompts_job(study, {"behaviour": "refusal"})
    addresses = [parse(one) for one in study.sources[study.behaviours["refusal"].source]]
    assert job.source.record is not None
    fetch(addresses, Path(job.source.path), job.source.record)
    path = locate(job.source)
    rows = select_prompts(read_rows(path), path, job.rows, job.need)
    prompts = rows["prompt"].to_list()
    assert min(_fullness(prompts, study, seed) for seed in SEEDS) > 0.83
