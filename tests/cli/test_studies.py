"""The path of a new user: init, check, run, open; and what is said where it goes wrong."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from lesion import cli
from lesion.cli.plan import _too_large
from lesion.io.bundle import bundle
from lesion.study import load_study, read_config, read_configs
from lesion.study.sections import Tail
from lesion_testing import ROOT, make


class Said(NamedTuple):
    """How a command ended, and what it said."""

    code: int
    text: str


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder but for a file of prompts, and no hub."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    make.write_rows(tmp_path / "phishing.jsonl", [{"prompt": one} for one in make.requests()])
    return tmp_path


@pytest.fixture
def lesion(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> object:
    def call(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["lesion", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
        output = capfd.readouterr()
        return Said(int(end.value.code or 0), output.out + output.err)

    return call


def test_a_study_is_written_checked_and_planned(lesion, folder: Path) -> None:  # type: ignore[no-untyped-def]
    said = lesion("init", "mine", "--harm", "phishing.jsonl")
    assert said.code == 0, said.text
    assert "18 prompts in the column `prompt`" in said.text
    assert said.text.endswith("next: lesion check mine.yaml\n")
    text = (folder / "mine.yaml").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 20
    study = load_study(read_configs([folder / "mine.yaml"]))
    assert (study.study, study.of_role("harm"), len(study.models)) == ("mine", ["phishing"], 1)
    said = lesion("check", "mine")  # without its ending
    assert said.code == 0, said.text
    assert "have no matched requests" in said.text
    assert said.text.splitlines()[-2] == "next: lesion plan mine.yaml"
    said = lesion("plan", "mine")
    assert said.code == 0, said.text
    assert re.search(r"^smollm2-135m-instruct: \d+ jobs, about [\d.]+ core hours", said.text, re.M)
    assert "`smollm2-135m-instruct` is not here yet, and the hub did not say its size" in said.text
    assert "next: lesion run mine.yaml" in said.text


def test_matched_requests_beside_a_file_are_taken(lesion, folder: Path) -> None:  # type: ignore[no-untyped-def]
    rows = [{"harmful": one, "harmless": f"{one} in a film"} for one in make.requests()]
    make.write_rows(folder / "phishing-matched.jsonl", rows)
    assert lesion("init", "mine", "--harm", "phishing.jsonl").code == 0
    study = load_study(read_configs([folder / "mine.yaml"]))
    assert study.behaviours["phishing-matched"].of == "phishing"
    assert "matched requests" not in lesion("check", "mine.yaml").text


@pytest.mark.parametrize(
    ("model", "name", "source"),
    [
        ("hf:org/Some-Model_1.5B", "some-model_1-5b", "hf:org/Some-Model_1.5B@main"),
        ("org/model@abc", "model", "hf:org/model@abc"),
        ("./own", "own", "file:own"),
        ("file:own", "own", "file:own"),
    ],
)
def test_a_model_is_given_in_the_ways_that_people_use(  # type: ignore[no-untyped-def]
    model: str, name: str, source: str, lesion, folder: Path
) -> None:
    make.llama(folder / "own", ["some words"])
    said = lesion("init", "mine", "--model", model, "--harm", "phishing.jsonl")
    assert said.code == 0, said.text
    study = load_study(read_configs([folder / "mine.yaml"]))
    assert {key: model.source for key, model in study.models.items()} == {name: source}


def test_another_column_and_an_odd_name(lesion, folder: Path) -> None:  # type: ignore[no-untyped-def]
    lines = [f'"{request}",{n}' for n, request in enumerate(make.requests())]
    (folder / "My Scams.csv").write_text("\n".join(["goal,id", *lines]), encoding="utf-8")
    assert lesion("init", "mine", "--harm", "My Scams.csv").code == 0
    study = load_study(read_configs([folder / "mine.yaml"]))
    assert study.behaviours["my-scams"].prompt == "goal"
    assert study.behaviours["my-scams"].source == "file:My Scams.csv"


@pytest.mark.parametrize("name", ["2024", "no", "1e5", "null"])
def test_names_that_yaml_takes_for_something_else(name: str, lesion, folder: Path) -> None:  # type: ignore[no-untyped-def]
    (folder / "phishing.jsonl").rename(folder / f"{name}.jsonl")
    said = lesion("init", name, "--harm", f"{name}.jsonl")
    assert said.code == 0, said.text
    assert lesion("check", name).code == 0
    study = load_study(read_configs([folder / f"{name}.yaml"]))
    assert (study.study, study.of_role("harm")) == (name, [name])


def test_a_harm_type_is_none_of_the_presets_capabilities(lesion, folder: Path) -> None:  # type: ignore[no-untyped-def]
    (folder / "phishing.jsonl").rename(folder / "advice.jsonl")
    assert lesion("init", "mine", "--harm", "advice.jsonl").code == 0
    study = load_study(read_configs([folder / "mine.yaml"]))
    assert study.of_role("harm") == ["advice-harm"]
    assert "advice" in study.of_role("benign")


WRONG = {
    "no harm types": (["init", "mine"], "--harm my/phishing.jsonl"),
    "no such file": (["init", "mine", "--harm", "none.jsonl"], "none.jsonl"),
    "no prompts in it": (["init", "mine", "--harm", "odd.jsonl"], "it has a, b"),
    "too few": (["init", "mine", "--harm", "few.jsonl"], "at least 12"),
    "alike": (["init", "mine", "--harm", "alike.jsonl"], "Take prompts that differ more"),
    "no model": (["init", "x", "--model", "nowhere", "--harm", "phishing.jsonl"], "hf:org/name"),
    "no weights": (
        ["init", "x", "--model", "empty", "--harm", "phishing.jsonl"],
        "holds no safetensors",
    ),
    "no folder": (["init", "x", "--model", "./own", "--harm", "phishing.jsonl"], "no such file"),
    "no header": (["init", "x", "--harm", "bare.csv"], "Call the column with the requests"),
    "semicolons": (["init", "x", "--harm", "semicolons.csv"], "Use commas"),
    "the same name": (
        ["init", "x", "--harm", "phishing.jsonl", "--harm", "empty/phishing.jsonl"],
        "two files would be the harm type `phishing`",
    ),
    "a model without weights": (["check", "unweighted"], "holds no safetensors"),
    "a path without its form": (["check", "unformed"], "A path is written `file:phishing.jsonl`"),
    "a model of the hub": (["check", "hub"], "`hf:org/name@main`"),
    "no revision": (["check", "unpinned"], "add the revision"),
    "matched with nothing": (["check", "unmatched"], "letter for letter"),
    "another column": (
        ["check", "column"],
        "`behaviours.phishing`: phishing.jsonl: has no column `goal`; it has prompt. Set the beh",
    ),
    "too few to check": (["check", "few"], "`behaviours.phishing`: few.jsonl: gives 5 prompts"),
    "a study to lay over another": (
        ["check", "over.yaml"],
        "give that one first: `lesion check config.yaml over.yaml`",
    ),
    "a bad name": (["init", "My Study", "--harm", "phishing.jsonl"], "use small letters"),
    "a file that is there": (["init", "there", "--harm", "phishing.jsonl"], "--force"),
    "no such preset": (["init", "x", "--preset", "fast", "--harm", "phishing.jsonl"], "quick"),
    "no study": (["check"], "lesion init"),
    "no study to run": (["run"], "lesion init"),
    "no such study": (["check", "their.yaml"], "there is no such config file"),
    "a folder": (["check", "empty"], "is a folder"),
    "no YAML": (["check", "bad.yaml"], "bad.yaml"),
    "nothing in it": (["check", "nothing.yaml"], "should hold keys and values"),
    "no harm": (["check", "there"], "at least one behaviour of role `harm`"),
    "a misspelt key": (["check", "misspelt"], "Did you mean `behaviours`?"),
    "not run": (["open", "good"], "lesion run good.yaml"),
    "not run quickly": (["open", "good", "--quick"], "lesion run good.yaml --quick"),
    "no page of tables": (["summary", "good"], "run"),
    "no such cluster": (["run", "good", "--cluster", "slrum"], "slurm"),
    "keys for Snakemake": (["run", "good", "--", "--config", "seed=1"], "into a second file"),
    "quick without a preset": (["run", "alone", "--quick"], "no quick form"),
    "no such command": (["start"], "No such command"),
    "no such option": (["run", "good", "--fast"], "No such option"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_command_is_told_what_to_do(kind: str, lesion, folder: Path) -> None:  # type: ignore[no-untyped-def]
    make.write_rows(folder / "few.jsonl", [{"prompt": one} for one in make.requests()[:5]])
    alike = [{"prompt": f"Write an e-mail that gets a password from person {n}"} for n in range(30)]
    make.write_rows(folder / "alike.jsonl", alike)
    make.write_rows(folder / "odd.jsonl", [{"a": "x", "b": "y"}])
    (folder / "empty").mkdir()
    (folder / "there.yaml").write_text("models: {a: {source: 'hf:org/a@main'}}\n", encoding="utf-8")
    (folder / "bad.yaml").write_text("a: [\n", encoding="utf-8")
    (folder / "nothing.yaml").write_text("", encoding="utf-8")
    good = (
        "models: {a: {source: 'hf:org/a@main'}}\n"
        "behaviours: {phishing: {role: harm, source: 'file:phishing.jsonl'}}\n"
    )
    (folder / "good.yaml").write_text(good, encoding="utf-8")
    prompts = "\n".join(make.requests())
    (folder / "bare.csv").write_text(prompts, encoding="utf-8")
    numbered = "\n".join(f"{number};{one}" for number, one in enumerate(make.requests()))
    (folder / "semicolons.csv").write_text(f"id;prompt\n{numbered}", encoding="utf-8")
    rows = [{"harmful": f"{one}?", "harmless": f"{one} in a film"} for one in make.requests()]
    make.write_rows(folder / "others.jsonl", rows)
    variants = {
        "unweighted": ("hf:org/a@main", "file:empty"),
        "hub": ("hf:org/a@main", "org/name"),
        "unpinned": ("hf:org/a@main", "hf:org/a"),
        "column": ("role: harm", "role: harm, prompt: goal"),
        "few": ("file:phishing.jsonl", "file:few.jsonl"),
        "unformed": ("file:phishing.jsonl", "phishing.jsonl"),
        "unmatched": (
            "'file:phishing.jsonl'}",
            "'file:phishing.jsonl'}, o: {role: matched, of: phishing, source: 'file:others.jsonl'}",
        ),
    }
    for name, (old, new) in variants.items():
        (folder / f"{name}.yaml").write_text(good.replace(old, new), encoding="utf-8")
    (folder / "alone.yaml").write_text(f"preset: none\n{good}", encoding="utf-8")
    (folder / "over.yaml").write_text("curve: {families: []}\n", encoding="utf-8")
    misspelt = good.replace("behaviours", "behaviors")
    (folder / "misspelt.yaml").write_text(misspelt, encoding="utf-8")
    arguments, said = WRONG[kind]
    before = sorted(path.name for path in folder.iterdir())
    done = lesion(*arguments)
    assert done.code == 2, done.text
    assert said in done.text
    assert "Traceback" not in done.text
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.parametrize("storage", [[], ["--default-storage-provider", "fs"]])
def test_a_run_that_fails_says_where_its_logs_are(storage: list[str], lesion, folder: Path) -> None:  # type: ignore[no-untyped-def]
    lesion("init", "mine", "--harm", "phishing.jsonl")
    done = lesion("run", "mine", "--", "--no-such-option", *storage)
    assert done.code != 0
    assert (" of the storage" in done.text) == bool(storage)
    assert "results/mine/logs" in done.text


def test_the_command_of_a_run(folder: Path) -> None:
    from lesion.cli.run import snakemake_command

    files = [folder / "a.yaml", folder / "b.yaml"]
    command = snakemake_command(files, "a-quick", quick=True, cluster=None, cores="4")
    assert command[1:5] == ["-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    assert command[5:8] == ["--configfile", *map(str, files)]
    assert command[8:] == ["--config", "preset=quick", "study=a-quick", "--cores", "4"]
    command = snakemake_command(files, "a", quick=False, cluster="slurm", cores="all")
    assert command[8:] == ["--workflow-profile", str(ROOT / "workflow" / "profiles" / "slurm")]


@pytest.mark.slow
def test_a_wheel_runs_in_any_folder(folder: Path) -> None:
    """The wheel alone, without the checkout: from a file of prompts to the plan of a run."""
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", str(folder / "wheel"), str(ROOT)], check=True)
    (wheel,) = (folder / "wheel").glob("*.whl")
    target = folder / "installed"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, "--target", str(target), str(wheel)], check=True)
    measured = Path("judgements", "measured")
    assert [*(target / "lesion" / measured).glob("*.parquet")], "the judge's agreement with people"
    place = folder / "place"
    (place / "my").mkdir(parents=True)
    (folder / "phishing.jsonl").rename(place / "my" / "phishing.jsonl")

    def lesion(*arguments: str) -> Said:
        done = subprocess.run(
            [sys.executable, "-c", "from lesion.cli import main; main()", *arguments],
            cwd=place,
            env={**os.environ, "PYTHONPATH": str(target)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return Said(done.returncode, done.stdout)

    for arguments in (
        ["init", "mine", "--harm", "my/phishing.jsonl"],
        ["check", "mine"],
        ["plan", "mine", "--quick"],
        ["run", "mine", "--quick", "--", "-n"],
    ):
        said = lesion(*arguments)
        assert said.code == 0, said.text
    assert str(target / "lesion" / "bundle" / "Snakefile") in said.text
    assert str(ROOT) not in said.text
    assert "equal_cost" not in said.text
    assert "results/mine-quick/report/index.html" in said.text
    # Jobs run as well: those that need no network.
    prompts = "results/mine-quick/pairs/prompts/phishing.parquet"
    said = lesion("run", "mine", "--quick", "--", prompts)
    assert said.code == 0, said.text
    assert (place / prompts).is_file()


def test_the_files_that_come_with_lesion_are_those_of_the_checkout() -> None:
    assert bundle() == ROOT


class Typed(io.StringIO):
    """What a user types at a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_wrong_answer_is_asked_again(  # type: ignore[no-untyped-def]
    lesion, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "few.jsonl").write_text('{"prompt": "one"}\n', encoding="utf-8")
    answers = ["./own", "org/model@abc", "none.jsonl", "'open", "few.jsonl", "phishing.jsonl"]
    monkeypatch.setattr(sys, "stdin", Typed("\n".join(answers) + "\n"))
    said = lesion("init", "mine")
    assert said.code == 0, said.text
    for reason in ("no such file or folder", "none.jsonl", "No closing quotation", "at least 12"):
        assert reason in said.text
    study = load_study(read_configs([folder / "mine.yaml"]))
    assert [model.source for model in study.models.values()] == ["hf:org/model@abc"]
    assert study.of_role("harm") == ["phishing"]


def test_too_little_disk_for_whole_scores_names_the_key_that_cuts_them() -> None:
    study = load_study(read_config(ROOT / "config.yaml"))
    (problem,) = _too_large(study, 10**18, 0, 0)
    assert "`scores.tail`" in problem
    cut = study.model_copy(
        update={"scores": study.scores.model_copy(update={"tail": Tail(p=0.1, q=0.01)})}
    )
    (problem,) = _too_large(cut, 10**18, 0, 0)
    assert "`scores.tail`" not in problem
