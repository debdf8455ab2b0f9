"""The study as a module of another workflow, which has a config and rules of its own."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from lesion_testing.warm import warm
from lesion_testing.workflow import BIN, STUDY, Done, Finished, Place, run

# A shell rule of several commands: what `preload` puts before commands would break it.
OUTER = """
configfile: "outer.yaml"


module lesion:
    snakefile:
        "tree/Snakefile"
    config:
        config["audit"]
{more}

use rule * from lesion as lesion_*


rule count:
    default_target: True
    input:
        "{scores}",
    output:
        "{{name}}.txt",
    shell:
        "(for path in {{input}}; do wc -c < $path; done) > {{output}}"


rule scores:
    input:
        "size.txt",
"""


@pytest.fixture
def outer(unrun: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A folder with another workflow, to which the tiny study is one section of its config."""
    place = unrun.copy(tmp_path_factory.mktemp("outer"))
    place.study.unlink()
    return place


SCORES = "results/tiny/scores/llama/beta/snip.safetensors.index.json"
"""Of a harm type whose responses the model writes, so that every stage up to here has a job. Jobs
of a module import all they need, which takes seconds each."""


def _snakemake(outer: Place, *arguments: str, more: str = "") -> Done:
    text = OUTER.format(more=more, scores=SCORES).replace("{name}.txt", "size.txt")
    (outer.folder / "Snakefile").write_text(text, encoding="utf-8")
    config = {"audit": STUDY, "study": "no key of lesion's", "unknown": {"to": "lesion"}}
    (outer.folder / "outer.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    # What a workflow of one's own has to say; see docs/how-to/module.md.
    triggers = ("--rerun-triggers", "mtime", "params", "input", "software-env")
    return _run(outer, *arguments, *triggers)


def _run(outer: Place, *arguments: str, **environment: str) -> Done:
    command = warm([str(BIN / "snakemake"), "--cores", "2", *arguments])
    return run(command, outer.folder, **environment)


def test_the_rules_of_a_module_are_planned(outer: Place) -> None:
    done = _snakemake(outer, "-n", "lesion_scores")
    assert done.code == 0, done.text
    assert "lesion_generate_pairs" in done.text
    assert "lesion_harmless_scores" in done.text
    assert "lesion_sweep" not in done.text
    assert "localrules" not in done.text, "a warning of names that the module changed"


def test_a_module_leaves_the_default_target_alone(outer: Place) -> None:
    _snakemake(outer, "-n", "lesion_scores")
    file = outer.folder / "Snakefile"
    text = file.read_text(encoding="utf-8")
    begin, rest = text.index("rule count:"), text.index("rule scores:")
    file.write_text(f"{text[begin:rest]}{text[:begin]}{text[rest:]}", encoding="utf-8")
    done = _run(outer, "-n")
    assert done.code == 0, done.text
    assert "lesion_signed_scores" in done.text
    assert "lesion_report" not in done.text


@pytest.mark.parametrize(
    "more", ["    prefix:\n        'here'", "    replace_prefix: {'res': 'x'}"]
)
def test_a_prefix_is_refused_with_the_key_to_use(outer: Place, more: str) -> None:
    done = _snakemake(outer, "-n", "lesion_scores", more=more)
    assert done.code != 0
    assert "Give the module's config `results: folder`" in done.text


def test_a_wrong_key_is_named_as_the_modules(outer: Place) -> None:
    done = _snakemake(outer, "-n", "--config", "audit={masks: {rule: budgets}}")
    assert done.code != 0
    assert "the module's `config`: the study can't run:\n  `masks.rule`" in done.text


@pytest.mark.slow
def test_a_module_may_be_fetched_from_github(outer: Place, tmp_path: Path) -> None:
    hub, prompts = tmp_path / "hub" / "lab" / "lesion.git", "pairs/prompts/beta.parquet"
    person = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    for command in (["init", "-q"], ["add", "-A"], [*person, "commit", "-qm", "a"], ["tag", "v1"]):
        subprocess.run(["git", *command], cwd=outer.tree, check=True)
    subprocess.run(["git", "clone", "-q", "--bare", outer.tree, hub], check=True)
    # git fetches from a folder what is asked of github.com; all else is as with the network.
    settings = f'[url "file://{hub.parents[1]}/"]\n  insteadOf = https://github.com/\n'
    (tmp_path / "gitconfig").write_text(settings, encoding="utf-8")
    shutil.rmtree(outer.tree)
    snakefile = (
        OUTER.format(more="", scores=SCORES)
        .replace("{name}.txt", "size.txt")
        .replace('"tree/Snakefile"', 'github("lab/lesion", path="workflow/Snakefile", tag="v1")')
    )
    (outer.folder / "Snakefile").write_text(snakefile, encoding="utf-8")
    (outer.folder / "outer.yaml").write_text(yaml.safe_dump({"audit": STUDY}), encoding="utf-8")
    done = _run(
        outer,
        f"results/tiny/{prompts}",
        GIT_CONFIG_GLOBAL=str(tmp_path / "gitconfig"),
        XDG_CACHE_HOME=str(tmp_path / "cache"),
    )
    assert done.code == 0, done.text
    assert (outer.made / prompts).is_file()


@pytest.mark.slow
def test_a_module_makes_what_the_study_makes(outer: Place, finished: Finished) -> None:
    done = _snakemake(outer)
    assert done.code == 0, done.text
    assert int((outer.folder / "size.txt").read_text("utf-8"))
    assert not (outer.made / "masks").exists(), "what the outer workflow did not ask for"
    paths = sorted(path.relative_to(outer.made) for path in outer.made.glob("scores/llama/beta/*"))
    assert len(paths) > 1
    for path in paths:
        assert (outer.made / path).read_bytes() == (finished.place.made / path).read_bytes(), path
    assert "Nothing to be done" in _snakemake(outer, "-n").text
    # The study alone goes on with what the module has made.
    shutil.copy(finished.place.study, outer.study)
    assert set(outer.plan()) == finished.jobs - set(outer.jobs("-n", "-F", SCORES))
