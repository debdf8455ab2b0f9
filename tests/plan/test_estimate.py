"""What a study takes: the jobs that Snakemake has, and numbers that follow from their formulas."""

import re

import pytest

from lesion.plan import estimate
from lesion.plan.resources import RESOURCE_FORMULAS, Size
from lesion.study import load_study, read_config
from lesion_testing import ROOT, workflow

BILLION = Size(2 * 10**9, 10**9)


def test_formulas_are_those_of_the_rules() -> None:
    text = "\n".join(path.read_text() for path in (ROOT / "workflow" / "rules").glob("*.smk"))
    of_rules = dict(re.findall(r'^rule (\w+):.*?mem_mb=memory\("(\w+)"\)', text, re.M | re.S))
    assert len(of_rules) > 20
    # Their memory is that of a formula of its own, by the kind of the judge.
    of_rules.pop("judge_responses_extra", None)
    for rule, formula in of_rules.items():
        assert estimate._FORMULAS.get(rule, rule) == formula, rule


def test_a_study_takes_what_its_jobs_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "model_size", lambda *_: BILLION)
    study = load_study(read_config(ROOT / "config.yaml"))
    rows = {row.rule: row for row in estimate.estimates(study)}
    assert rows["generate_pairs"].jobs == len(study.behaviours) == 18
    assert rows["generate_pairs"].seconds == pytest.approx(
        18 * RESOURCE_FORMULAS["generate_pairs"].seconds
    )
    assert rows["signed_scores"].memory == 1500 + (1.5 * 2 + 8) * 1000
    # Signed scores of all, preservation of the harmless; the model and one checkpoint.
    assert estimate.disk_bytes(study) == (18 + 12) * 4 * 10**9 + 2 * 2 * 10**9
    half = load_study({**read_config(ROOT / "config.yaml"), "pairs": {"limit": 20}})
    halves = {row.rule: row for row in estimate.estimates(half)}
    assert halves["generate_pairs"].seconds == pytest.approx(rows["generate_pairs"].seconds / 2)


def test_truncated_scores_need_less_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "model_size", lambda *_: BILLION)
    whole = load_study(read_config(ROOT / "config.yaml"))
    masks = {"p": 0.001, "q": 1e-4, "preservation_pooling": "max", "shared": {"at_least": 2}}
    tail = {"tail": {"p": 0.001, "q": 1e-4}}
    short = load_study({**workflow.STUDY, "scores": tail, "masks": masks})
    cut = whole.model_copy(update={"scores": short.scores})
    assert estimate.disk_bytes(cut) < estimate.disk_bytes(whole) / 10


def test_a_gpu_is_named_for_large_models(monkeypatch: pytest.MonkeyPatch) -> None:
    study = load_study(read_config(ROOT / "config.yaml"))
    monkeypatch.setattr(estimate, "model_size", lambda *_: Size(16 * 10**9, 8 * 10**9))
    assert estimate.on_gpu(study)
    monkeypatch.setattr(estimate, "model_size", lambda *_: BILLION)
    assert not estimate.on_gpu(study)
