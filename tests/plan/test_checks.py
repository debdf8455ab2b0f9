"""What is known early is said by `lesion check`, or by the job that prepares a model."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import huggingface_hub.constants as hub
import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file
from typer.testing import CliRunner

from lesion import cli
from lesion.io.formats import LesionError
from lesion.models.prepare import prepare
from lesion.models.record import RECORD, has_template, read_record
from lesion.plan import checks
from lesion.responses.tasks import check_task, find_task, hub_data, is_cached
from lesion.study import Study, StudyError, load_study
from lesion_testing import ROOT, make, tiny

SHIPPED = ROOT / "studies" / "tasks"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A study of local files; its results are in the folder of the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    for name in ("HF_DATASETS_CACHE", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    make.llama(tmp_path / "model", tiny.TEXTS)
    make.embedder(tmp_path / "embedder", seed=0)
    make.human_scores(tmp_path / "scorer_evals")
    for name in ("alpha", "sums"):
        make.write_rows(tmp_path / f"{name}.jsonl", make.prompts(name, 28))
    return {
        "study": "early",
        "preset": "none",
        "models": {"llama": {"source": "file:model"}},
        "behaviours": {
            "alpha": {"role": "harm", "source": "file:alpha.jsonl"},
            "sums": {"role": "benign", "source": "file:sums.jsonl"},
        },
        "masks": {"q": 0.05, "shared": {"at_least": 1}},
        "judgements": {"human_scores": "file:scorer_evals", "embedder": "file:embedder"},
    }


def check(config: dict[str, Any], tmp_path: Path) -> str:
    """What `lesion check` prints; its error is raised."""
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    done = CliRunner().invoke(
        cli.app, ["check", str(tmp_path / "study.yaml")], catch_exceptions=False
    )
    assert done.exit_code == 0
    return done.output


def _prepared(study: Study, source: Path) -> Path:
    folder = Path(study.results) / study.study / "models" / "llama"
    prepare(source, folder, dtype="float32", license_="mit")
    return folder


@pytest.mark.parametrize(
    ("other", "experiment", "figure"),
    [
        ("llama-judged", "again", "llama-judged-curve"),
        ("llama-retraining", "curve", "llama-retraining-curve"),
    ],
)
def test_figures_of_one_name_are_refused(
    config: dict[str, Any], tmp_path: Path, other: str, experiment: str, figure: str
) -> None:
    arms = {"recipe": {"steps": 1}, "arms": ["unmodified", "shared"]}
    config["curve"] = {"families": ["shared"], "completions": True}
    config["retraining"] = {"again": arms}
    assert "can run" in check(config, tmp_path)
    config["models"][other] = config["models"]["llama"]
    config["retraining"] = {experiment: arms}
    both = f"`models.llama` and `models.{other}`|`models.{other}` and `models.llama`"
    with pytest.raises(StudyError, match=rf"({both}): each would have .* `{figure}`"):
        check(config, tmp_path)


def test_a_task_that_there_is_not(config: dict[str, Any], tmp_path: Path) -> None:
    config["utility"] = {"tasks": ["lesion_fact"], "folder": str(SHIPPED)}
    with pytest.raises(StudyError, match=r"has a task `lesion_fact`\. Did you mean `lesion_facts`"):
        check(config, tmp_path)
    config["utility"]["tasks"] = ["zzzz_nothing_like_it"]
    with pytest.raises(StudyError, match=r"`zzzz_nothing_like_it`\. `lm-eval ls tasks` lists"):
        check(config, tmp_path)
    config["utility"]["tasks"] = ["lesion_facts", "lesion_code"]
    assert "the study `early` can run" in check(config, tmp_path)


def test_lm_evals_tasks_are_found_without_it() -> None:
    """A task, one with a folder of another name, a group, a tag, and tags of included files."""
    names = ["hellaswag", "arc_easy", "mmlu", "mmlu_stem_tasks", "mafand_tasks", "acp_gen_2shot"]
    code = (
        "import sys; from pathlib import Path; from lesion.responses.tasks import find_task\n"
        f"for name in {names}: print(find_task(name, Path('none')).config is not None)\n"
        "raise SystemExit('lm_eval' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "True", "False", "False", "False", "False"]


def test_a_name_that_files_mention_and_none_declares(tmp_path: Path) -> None:
    """lm-eval is asked itself: what it indexes is what there is."""
    with pytest.raises(StudyError, match="has a task `generate_until`"):
        find_task("generate_until", tmp_path)


def test_groups_and_tags_of_the_studys_own_folder(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("task: mine\ntag: [ours, theirs]\ndataset_path: json\n")
    (tmp_path / "all.yaml").write_text("group: everything\ntask: [mine]\n")
    (tmp_path / "README").write_text("mine: everything of ours\n")
    assert find_task("mine", tmp_path).config is not None
    assert [find_task(one, tmp_path).config for one in ("ours", "everything")] == [None, None]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("humaneval", "`humaneval` runs code that the model writes"),
        ("wmt16-ro-en", "`wmt16-ro-en` has no metric of a single item"),
    ],
)
def test_tasks_that_no_study_can_use(name: str, said: str) -> None:
    with pytest.raises(LesionError, match=said):
        check_task(find_task(name, Path("none")))


def test_metrics_of_an_item_beside_those_of_all(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("task: mine\nmetric_list: [{metric: f1}, {metric: acc}]\n")
    check_task(find_task("mine", tmp_path))


def test_data_that_may_not_be_fetched(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config["utility"] = {"tasks": ["hellaswag"]}
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(StudyError, match=r"Rowan/hellaswag, which is not .*HF_HUB_OFFLINE forbids"):
        check(config, tmp_path)
    (tmp_path / "hf" / "datasets" / "Rowan___hellaswag").mkdir(parents=True)
    assert "can run" in check(config, tmp_path)


def test_where_data_is_cached(config: dict[str, Any], tmp_path: Path) -> None:
    assert not is_cached("Rowan/hellaswag")
    assert not is_cached("glue")
    (tmp_path / "hf" / "hub" / "datasets--Rowan--hellaswag").mkdir(parents=True)
    (tmp_path / "hf" / "hub" / "datasets--nyu-mll--glue").mkdir()
    assert is_cached("Rowan/hellaswag")
    assert is_cached("glue")
    assert hub_data(find_task("lesion_facts", SHIPPED)) is None


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A hub that knows no data set."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", False)
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_hub_that_lacks_the_data_or_does_not_answer_is_a_warning(
    config: dict[str, Any], tmp_path: Path, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config["utility"] = {"tasks": ["hellaswag"]}
    monkeypatch.setattr(hub, "ENDPOINT", endpoint)
    said = check(config, tmp_path)
    assert "warning: `utility.tasks`: the data of `hellaswag`" in said
    assert "the hub says:" in said
    monkeypatch.setattr(hub, "ENDPOINT", "http://127.0.0.1:9")
    assert "the hub can't be reached" in check(config, tmp_path)


def test_chat_tasks_for_a_model_without_a_template(config: dict[str, Any], tmp_path: Path) -> None:
    config["utility"] = {"tasks": ["lesion_facts"], "folder": str(SHIPPED), "chat": True}
    assert "can run" in check(config, tmp_path)
    (tmp_path / "model" / "chat_template.jinja").unlink()
    with pytest.raises(StudyError, match=r"`utility\.chat`: the model `llama` has no chat templ"):
        check(config, tmp_path)
    config["utility"]["chat"] = False
    assert "can run" in check(config, tmp_path)


def test_chat_tasks_are_refused_once_a_fetched_model_is_prepared(
    config: dict[str, Any], tmp_path: Path
) -> None:
    """Its source is not looked at: the job that prepared it calls the same."""
    (tmp_path / "model" / "chat_template.jinja").unlink()
    digest = "0" * 64
    config["models"]["llama"]["source"] = f"file:model#sha256={digest}"
    config["utility"] = {"tasks": ["lesion_facts"], "folder": str(SHIPPED), "chat": True}
    study = load_study(config)
    checks.check_study(study)
    _prepared(study, tmp_path / "model")
    with pytest.raises(StudyError, match="`llama` has no chat template"):
        checks.check_prepared(study, "llama")
    with pytest.raises(StudyError, match="`llama` has no chat template"):
        checks.check_study(study)


def test_where_a_template_may_be(tmp_path: Path) -> None:
    assert not has_template(tmp_path)
    settings = tmp_path / "tokenizer_config.json"
    settings.write_text(json.dumps({"chat_template": None}))
    assert not has_template(tmp_path)
    settings.write_text(json.dumps({"chat_template": "{{ messages }}"}))
    assert has_template(tmp_path)


def test_wanda_of_stacked_experts(config: dict[str, Any], tmp_path: Path) -> None:
    """The record alone says it, before anything is scored."""
    config["masks"]["controls"] = ["wanda"]
    study = load_study(config)
    folder = _prepared(study, tmp_path / "model")
    checks.check_prepared(study, "llama")
    record = read_record(folder)
    record["candidates"].append(["model.layers.0.mlp.experts.down_proj", [2, 64, 64]])
    (folder / RECORD).write_text(json.dumps(record))
    with pytest.raises(StudyError, match=r"`masks\.controls`: `wanda` .*experts\.down_proj"):
        checks.check_study(study)


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("judgements.embedder", {}),
        (
            "judgements.judges.sr.source",
            {"judges": {"sr": {"kind": "strongreject", "source": "file:bare"}}},
        ),
        (
            "judgements.judges.hb.source",
            {"judges": {"hb": {"kind": "harmbench", "template": "llama2", "source": "file:bare"}}},
        ),
    ],
)
def test_local_weights_of_judges(
    config: dict[str, Any], tmp_path: Path, key: str, change: dict[str, Any]
) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "pytorch_model.bin").write_bytes(b"x")
    config["judgements"] |= change or {"embedder": "file:bare"}
    with pytest.raises(LesionError, match=rf"`{key}`: bare is no folder with \.safetensors"):
        check(config, tmp_path)
    save_file({"w": np.zeros(3, np.float32)}, tmp_path / "bare" / "model.safetensors")
    assert "can run" in check(config, tmp_path)


def test_what_the_environment_lacks_is_a_warning(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOME_JUDGE_KEY", raising=False)
    monkeypatch.delenv("LESION_VLLM_PYTHON", raising=False)
    rubric = {"kind": "rubric", "url": "http://127.0.0.1:9/v1", "model": "m"}
    config["judgements"]["judges"] = {"gpt": {**rubric, "api_key_env": "SOME_JUDGE_KEY"}}
    config["responses"] = {"engine": "vllm"}
    said = check(config, tmp_path)
    assert "warning: `judgements.judges.gpt.api_key_env`: SOME_JUDGE_KEY is not set here" in said
    assert "warning: `responses.engine: vllm`: vLLM is not installed here" in said
    monkeypatch.setenv("SOME_JUDGE_KEY", "sk")
    monkeypatch.setenv("LESION_VLLM_PYTHON", str(tmp_path / "no-python"))
    said = check(config, tmp_path)
    assert "api_key_env" not in said
    assert "no-python is no program here" in said
    monkeypatch.setenv("LESION_VLLM_PYTHON", sys.executable)
    lines = check(config, tmp_path).splitlines()
    assert not [line for line in lines if "warning" in line and "matched requests" not in line]


def test_a_template_of_no_attack_need_not_be_there(config: dict[str, Any], tmp_path: Path) -> None:
    config["responses"] = {"templates": {"aim": {"source": f"file:{tmp_path}/aim.txt"}}}
    assert "can run" in check(config, tmp_path)
    config["responses"]["attacks"] = ["aim"]
    with pytest.raises(LesionError, match=r"`responses\.templates\.aim\.source`.*aim\.txt"):
        check(config, tmp_path)


@pytest.mark.parametrize("look", [checks.check_study, checks.check_splits])
@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("alpha", {"prompt": "goal"}, "alpha.jsonl: has no column `goal`"),
        ("alpha", {"source": "file:few.jsonl"}, "few.jsonl: gives 5 prompts"),
        ("alpha", {"source": "file:bad.jsonl"}, "bad.jsonl, line 1: could not be read"),
        ("alpha", {"source": "file:none.jsonl"}, None),
        (
            "alpha-matched",
            {"role": "matched", "of": "alpha", "source": "file:sums.jsonl"},
            "sums.jsonl: has no column `harmless`",
        ),
    ],
)
def test_a_bad_file_of_prompts_is_named_with_its_behaviour(
    config: dict[str, Any],
    tmp_path: Path,
    name: str,
    changes: dict[str, Any],
    said: str | None,
    look: Callable[[Study], None],
) -> None:
    make.write_rows(tmp_path / "few.jsonl", make.prompts("alpha", 5))
    (tmp_path / "bad.jsonl").write_text("{", encoding="utf-8")
    behaviours = config["behaviours"]
    behaviours[name] = {**behaviours.get(name, {}), **changes}
    with pytest.raises(LesionError) as caught:
        look(load_study(config))
    start = f"`behaviours.{name}`: {said}" if said else f"`behaviours.{name}.source`: none.jsonl: "
    assert str(caught.value).startswith(start)
    assert str(caught.value).count("behaviours.") == 1


def test_an_error_that_names_its_behaviour_is_left_as_it_is(
    config: dict[str, Any], tmp_path: Path
) -> None:
    alike = [{"prompt": f"Write an e-mail that gets a password from person {n}"} for n in range(30)]
    make.write_rows(tmp_path / "alpha.jsonl", alike)
    with pytest.raises(LesionError, match=r"^behaviour `alpha`: only \d+ of its 30 prompts"):
        checks.check_splits(load_study(config))


def test_a_bad_file_of_another_section_is_named_with_its_key(
    config: dict[str, Any], tmp_path: Path
) -> None:
    make.write_rows(tmp_path / "answers.jsonl", [{"text": "no"}])
    config["behaviours"]["alpha"]["responses"] = "file:answers.jsonl"
    said = r"^`behaviours\.alpha\.responses`: answers\.jsonl: has no column `response`"
    with pytest.raises(LesionError, match=said):
        checks.check_study(load_study(config))
