"""The seed of a new study: no split of it is short of prompts."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from lesion.io.formats import BadFile
from lesion.pairs.prompts import assign
from lesion.plan.seeds import WANTED, fullest_seed
from lesion.study import Study, load_study
from lesion_testing import make


def _study(folder: Path, **more: Any) -> Study:
    harm = {"role": "harm", "source": f"file:{folder / 'phishing.jsonl'}"}
    behaviours = {"plan": None, "code": None, "advice": None, "phishing": harm, **more}
    model = {"source": f"file:{folder}"}
    return load_study(
        {"study": "mine", "preset": "quick", "models": {"toy": model}, "behaviours": behaviours}
    )


@pytest.fixture
def requests(tmp_path: Path) -> list[str]:
    found = [row["prompt"] for row in make.prompts("letters", 24)]
    make.write_rows(tmp_path / "phishing.jsonl", [{"prompt": prompt} for prompt in found])
    return found


def _least(prompts: list[str], study: Study, seed: int) -> float:
    pairs = study.pairs
    sizes = Counter(assign(prompts, pairs.split.model_dump(), pairs.near_duplicate, seed))
    return min(sizes[split] / wanted for split, wanted in WANTED.items())


def test_no_split_is_short_of_prompts(tmp_path: Path, requests: list[str]) -> None:
    study = _study(tmp_path)
    seed = fullest_seed([study])
    assert _least(requests, study, seed) > 0.9
    # With most seeds some split is, or there would be nothing to choose.
    assert sum(_least(requests, study, other) > 0.9 for other in range(40)) < 20


def test_matched_requests_and_fetched_sources_are_left_out(
    tmp_path: Path, requests: list[str]
) -> None:
    rows = [{"harmful": one, "harmless": f"{one} in a film"} for one in requests[:2]]
    make.write_rows(tmp_path / "matched.jsonl", rows)
    source = f"file:{tmp_path / 'matched.jsonl'}"
    matched = {"role": "matched", "of": "phishing", "source": source}
    more = _study(tmp_path, **{"phishing-matched": matched})
    assert fullest_seed([more]) == fullest_seed([_study(tmp_path, refusal=None)])


def test_a_missing_file_is_named(tmp_path: Path, requests: list[str]) -> None:
    study = _study(tmp_path)
    (tmp_path / "phishing.jsonl").write_text("")
    with pytest.raises(BadFile, match="phishing"):
        fullest_seed([study])
