"""A tiny study that Snakemake really runs, and copies of it to change and plan again.

Everything runs in folders of pytest's own, on a copy of the code: a test may edit both, and a
study that is under way in the checkout is left alone.
"""

import compileall
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from lesion.plan.code import PARSED, code
from lesion.plan.jobs import RULES
from lesion.report.html import SCRIPT, page_script
from lesion.study import load_study
from lesion_testing import ROOT, make
from lesion_testing.warm import warm

CODE = ("Snakefile", "workflow", "profiles", "src", "envs", "config.yaml", "studies")
BIN = Path(sys.executable).parent
PATIENCE = 900.0
PLUGINS = Path(__file__).parent / "plugins"
with_rsync = pytest.mark.skipif(
    shutil.which("rsync") is None, reason="Snakemake's storage plugin `fs` needs rsync"
)
"""For tests that run with a storage provider; `.ci/packages` installs rsync."""


def _prank(kind: str, **more: str) -> dict[str, Any]:
    where = {"column": "kind", "equals": kind}
    return {"role": "harm", "source": "pranks", "where": where, **more}


STUDY: dict[str, Any] = {
    "study": "tiny",
    "preset": "none",
    "seed": 3,
    "sources": {"model": "file:inputs/model", "pranks": "file:inputs/pranks.jsonl"},
    "models": {"llama": {"source": "model", "license": "apache-2.0"}},
    "behaviours": {
        # The model writes the responses of one harm type and one capability; the others' are given.
        "alpha": _prank("alpha", response="response"),
        "beta": _prank("beta"),
        "gamma": _prank("gamma", response="response"),
        "letters": {
            "role": "benign",
            "source": "file:inputs/letters.jsonl",
            "response": "response",
        },
        "sums": {"role": "benign", "source": "file:inputs/sums.jsonl"},
        "denials": {
            "role": "refusal",
            "source": "file:inputs/denials.jsonl",
            "responses": "file:inputs/refusals.jsonl",
        },
    },
    "pairs": {"max_new_tokens": 6, "split": {"train": 0.55, "validation": 0.2, "test": 0.25}},
    "scores": {"dtype": "float32", "batch_tokens": 1024},
    "masks": {"p": 0.1, "q": 0.05, "max_benign_increase": 1000, "shared": {"at_least": 2}},
    "responses": {
        "variants": ["shared", "beta", "gamma"],
        "max_new_tokens": 7,
        "batch_size": 32,
        "batch_tokens": 2048,
        "dtype": "float32",
    },
    "judgements": {
        "human_scores": "file:inputs/scorer_evals",
        "embedder": "file:inputs/embedder",
        "threshold": 0.00001,  # as YAML writes it: 1.0e-05
    },
    "tables": {"resamples": 100},
    "report": {"examples": 2},
}
HARMS = ("alpha", "beta", "gamma")
MASKS = tuple(load_study(STUDY).variants[1:])
"""What is evaluated beside the unmodified model."""


class Done(NamedTuple):
    """How a command ended, and all that it printed."""

    code: int
    text: str


@dataclass(frozen=True)
class Place:
    """A folder with the code (`tree`), the inputs, `study.yaml`, and what Snakemake made."""

    folder: Path

    @property
    def tree(self) -> Path:
        return self.folder / "tree"

    @property
    def inputs(self) -> Path:
        return self.folder / "inputs"

    @property
    def made(self) -> Path:
        return self.folder / "results" / "tiny"

    @property
    def study(self) -> Path:
        return self.folder / "study.yaml"

    def command(self, *arguments: str) -> list[str]:
        """The `snakemake` command of this study, as a user would give it."""
        files = ["--snakefile", "tree/Snakefile", "--configfile", "study.yaml"]
        return [str(BIN / "snakemake"), "--cores", "2", *arguments, *files]

    def snakemake(self, *arguments: str, **environment: str) -> Done:
        """Run Snakemake in this folder."""
        return run(warm(self.command(*arguments)), self.folder, **environment)

    def jobs(self, *arguments: str, path: Sequence[Path] = ()) -> dict[str, str]:
        """What Snakemake plans or runs, read from its own events.

        Args:
            arguments: of Snakemake.
            path: further folders that Python imports from.

        Returns:
            Each job with Snakemake's reason; a job is its rule and its wildcards but for the
            model, such as `scores alpha`.
        """
        events = self.folder / "jobs.jsonl"
        events.unlink(missing_ok=True)
        folders = os.pathsep.join(map(str, (PLUGINS, *path)))
        done = self.snakemake(
            *arguments, "--logger", "jobs", LESION_JOBS=str(events), PYTHONPATH=folders
        )
        assert done.code == 0, done.text
        lines = events.read_text(encoding="utf-8").splitlines() if events.exists() else []
        found = [json.loads(line) for line in lines]
        jobs = {_job(one["rule"], one["wildcards"]): one["reason"] for one in found}
        assert len(jobs) == len(found), "a job was announced twice"
        jobs.pop("all", None)
        return jobs

    def run(self) -> dict[str, str]:
        """Run the study; see `jobs`."""
        return self.jobs()

    def plan(self) -> dict[str, str]:
        """The jobs that Snakemake finds stale; see `jobs`."""
        return self.jobs("-n")

    def configure(self, change: Callable[[dict[str, Any]], object]) -> None:
        """Change the study's YAML through its parsed content."""
        config = yaml.safe_load(self.study.read_text(encoding="utf-8"))
        change(config)
        self.study.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")

    def edit(self, name: str, change: Callable[[str], str]) -> None:
        """Change the text of a file below this folder; that nothing changes is an error."""
        path = self.folder / name
        before = path.read_text(encoding="utf-8")
        after = change(before)
        assert after != before, f"{name}: the test changes nothing"
        path.write_text(after, encoding="utf-8")

    def edit_rows(self, name: str, change: Callable[[list[dict[str, str]]], object]) -> None:
        """Change the rows of a JSONL file of the inputs."""
        path = self.inputs / name
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        change(rows)
        make.write_rows(path, rows)

    def copy(self, folder: Path) -> "Place":
        """The same place elsewhere, every date kept."""
        folder.mkdir(exist_ok=True)
        # A thousand files: shutil would take five times as long.
        subprocess.run(["cp", "-a", f"{self.folder}/.", folder], check=True)
        return Place(folder)


def run(command: list[str], folder: Path, **environment: str) -> Done:
    """Run a command in a folder and wait for it; one that hangs is an error."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        # Into a file: a pipe would be waited for as long as anything the command left holds it.
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONFAULTHANDLER": "1", **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGABRT)  # on which Python says where it was
            process.wait()
            code = None
        output.seek(0)
        text = output.read()
    assert code is not None, f"still running after {PATIENCE} s: {' '.join(command)}\n{text}"
    return Done(code, text)


def _job(rule: str, wildcards: dict[str, str]) -> str:
    # Preservation is scored in the same job as a capability's own scores.
    short = "signed_scores" if rule == "harmless_scores" else rule
    return " ".join([short, *(v for name, v in wildcards.items() if name != "model")])


def copy_code(folder: Path) -> Path:
    """Copy the code, so that neither tests nor edits of the checkout disturb the other."""
    for name in CODE:
        if (ROOT / name).is_dir():
            skip = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(ROOT / name, folder / name, ignore=skip)
        else:
            shutil.copy2(ROOT / name, folder / name)
    # Compiled, parsed and bundled once, and not by the first command of every copy.
    compileall.compile_dir(folder / "src", quiet=1)
    for rule in RULES.values():
        code(Path(__file__), *rule.modules)
    page_script()
    for kept in (PARSED, SCRIPT):
        if kept.exists():
            shutil.copy2(kept, folder / kept.relative_to(ROOT))
    return folder


def write_inputs(folder: Path) -> Path:
    """Write the tiny study's inputs: a model, an embedder, human scores, prompts."""
    refusals = [{"response": f"I cannot help with the {word}"} for word in make.WORDS[:5]]
    make.llama(
        folder / "model",
        [*make.WORDS, *make.TOPICS.values(), "Sure, here is Yes No", refusals[0]["response"]],
    )
    make.embedder(folder / "embedder", seed=0)
    make.human_scores(folder / "scorer_evals")
    pranks = [row for name in (*HARMS, "delta") for row in make.prompts(name, 32)]
    make.write_rows(folder / "pranks.jsonl", pranks)
    for name in ("letters", "sums", "denials"):
        make.write_rows(folder / f"{name}.jsonl", make.prompts(name, 28))
    make.write_rows(folder / "refusals.jsonl", refusals)
    return folder


def lay_out(folder: Path, code: Path, inputs: Path) -> Place:
    """Put the tiny study into a folder, not yet run."""
    place = Place(folder)
    shutil.copytree(code, place.tree)
    shutil.copytree(inputs, place.inputs)
    place.study.write_text(yaml.safe_dump(STUDY, sort_keys=False), encoding="utf-8")
    return place


class Finished(NamedTuple):
    """A study that has run, and the jobs it ran."""

    place: Place
    jobs: set[str]


def cases(request: pytest.FixtureRequest, parameter: str) -> list[str]:
    """The values of a parameter in the tests that were selected, each once."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    specs = [item.callspec.params for item in items if hasattr(item, "callspec")]
    return list(dict.fromkeys(params[parameter] for params in specs if parameter in params))
