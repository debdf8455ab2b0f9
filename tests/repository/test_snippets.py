"""Every YAML, shell and Python block of README and docs, and every command in their text.

A block needs no entry here. YAML is checked as a study, or laid over the default one; commands are
parsed by what parses them; Python runs, unless its first line is a comment: then it is a fragment.
"""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from snakefmt.formatter import Formatter
from snakefmt.parser.parser import Snakefile as SnakefmtParser
from snakemake.cli import get_argument_parser
from typer.core import TyperGroup
from typer.exceptions import TyperException

from lesion import cli
from lesion.plan import checks
from lesion.study import load_study, read_configs
from lesion_testing import ROOT, make, tiny
from lesion_testing.plugin import install, on_path, write_example
from lesion_testing.snippets import PAGES, Snippet, all_snippets, commands, named, snippets, spans

LANGUAGES = {"", "console", "json", "python", "sh", "snakemake", "toml", "yaml"}
FOREIGN = {".", "case", "cd", "code=0", "echo", "esac", "exit", "git", "inspect", "lm_eval", "pip"}
"""Programs and words of the shell that are not this project's to check."""
OWN = ("lesion", "make", "python", "python3", "snakemake")

Command = tuple[str, list[str]]


GIVEN = """
models:
  smollm2: {source: smollm2}
  refusing: &trained
    base: smollm2
    train: {steps: 1, mixture: [{behaviours: [explain]}]}
  preferred: *trained
behaviours:
  fraud: {role: harm, source: "file:my/phishing.jsonl"}
  phishing: {role: harm, source: "file:my/phishing.jsonl"}
"""
"""What snippets take as given: the models and behaviours of other snippets of their page."""


def _files(value: Any) -> Iterator[str]:
    """The files that a study names."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from _files(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _files(inner)
    elif isinstance(value, str) and value.startswith("file:"):
        yield value.removeprefix("file:")


def _make(path: Path) -> None:
    """A file, or a folder, of the kind that its name says."""
    if path.exists():
        return
    if path.suffix == ".gguf":
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"GGUF")
    elif path.suffix in (".jsonl", ".csv"):
        rows = [
            {
                **dict.fromkeys(("prompt", "request", "harmful"), request),
                **dict.fromkeys(("harmless", "answer", "response"), f"{request} in a film"),
            }
            for request in make.requests()
        ]
        make.write_rows(path.with_suffix(".jsonl"), rows)
        if path.suffix == ".csv":
            lines = ["prompt", *(row["prompt"] for row in rows)]
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        make.llama(path, make.requests())


STUDIES = [snippet for snippet in all_snippets("yaml") if "jobs:\n" not in snippet.text]


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plug-in of the documentation, installed: a study of the documentation may use it."""
    folder = tmp_path_factory.mktemp("example")
    return install(write_example(folder / "project"), folder / "site")


@pytest.mark.parametrize("snippet", STUDIES, ids=lambda snippet: snippet.place)
def test_a_study_is_valid(
    snippet: Snippet, example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder with the files that it names, as `lesion check` sees it."""
    monkeypatch.chdir(tmp_path)
    Path("studies").symlink_to(ROOT / "studies")
    text = re.sub(r"/(path|scratch)/", rf"{tmp_path}/\1/", snippet.text)
    study = yaml.safe_load(text)
    for name in [*_files(study), "my/phishing.jsonl"]:
        _make(Path(name))
    configs = [Path("mine.yaml")]
    configs[0].write_text(text, encoding="utf-8")
    if not {"models", "behaviours", "preset"} <= study.keys():
        Path("given.yaml").write_text(GIVEN, encoding="utf-8")
        configs = [ROOT / "config.yaml", Path("given.yaml"), *configs]
    with on_path(example):
        loaded = load_study(read_configs(configs))
        checks.check_study(loaded)
        checks.check_splits(loaded)


def _of_scripts() -> Iterator[Command]:
    """The commands of shell blocks, of a console's prompts, and of workflows' steps."""
    for snippet in all_snippets("sh"):
        yield from ((snippet.place, words) for words in commands(snippet.text))
    for snippet in all_snippets("console"):
        # The usage of a command in the reference has placeholders, and is of the command itself.
        lines = re.findall(r"^\$ ((?!.*\[OPTIONS\]).*)", snippet.text, re.M)
        yield from ((snippet.place, words) for line in lines for words in commands(line))
    for snippet in all_snippets(""):
        # Without a language a block is a script, a formula or an output.
        if (snippet.text.split() or [""])[0] in (*OWN, "pip", "git"):
            yield from ((snippet.place, words) for words in commands(snippet.text))
    for snippet in all_snippets("yaml"):
        if "jobs:\n" in snippet.text:
            for job in yaml.safe_load(snippet.text)["jobs"].values():
                for script in (step["run"] for step in job["steps"] if "run" in step):
                    plain = re.sub(r"^.*\) |;;$|\bcase .* in$", "", script, flags=re.M)
                    yield from ((snippet.place, words) for words in commands(plain))


def _of_prose() -> Iterator[Command]:
    for page in PAGES:
        for span in spans(page.read_text(encoding="utf-8")):
            words = span.split()
            if words[0] in OWN and len(words) > 1 and "(" not in span:
                yield str(page.relative_to(ROOT)), next(commands(span.replace("'", "")))


SCRIPTS = [(place, words) for place, given in _of_scripts() if (words := named(given))]
PROSE = [(place, words) for place, given in _of_prose() if (words := named(given))]


def check_command(program: str, *given: str, prose: bool = False) -> None:
    """Check that a command is one, and that its options and files exist.

    Raises:
        AssertionError: it is not.
        TyperException: `lesion` does not take it.
        SystemExit: Snakemake does not take it.
    """
    words = list(given)
    if program == "lesion":
        _check_lesion(words, prose=prose)
    elif program == "snakemake":
        get_argument_parser().parse_args(words)
    elif program == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        for target in words:
            assert re.search(rf"^{re.escape(target)}:", makefile, re.M), f"make {target}"
    elif program in ("python", "python3") and words[0].endswith(".py"):
        _check_script(words[0], words[1:])
    else:
        assert program in FOREIGN or words[:1] == ["-m"], f"{program} is neither ours nor known"


def _check_lesion(words: list[str], *, prose: bool) -> None:
    if "--" in words:
        get_argument_parser().parse_args(words[words.index("--") + 1 :])
        words = words[: words.index("--")]
    group = typer.main.get_command(cli.app)
    assert isinstance(group, TyperGroup)
    if words[0] == "--help":
        return
    assert words[0] in group.commands, f"lesion {words[0]}"
    if len(words) > 1 or not prose:
        group.commands[words[0]].make_context(words[0], words[1:])


def _check_script(name: str, words: list[str]) -> None:
    calls = [
        node
        for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument"
    ]
    known = {word.value for call in calls for word in call.args if isinstance(word, ast.Constant)}
    options = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert options <= known, f"{name}: {options - known}"


@pytest.mark.parametrize(("place", "words"), SCRIPTS, ids=lambda value: str(value)[:90])
def test_a_command_of_a_script_exists(place: str, words: list[str]) -> None:
    check_command(*words)


@pytest.mark.parametrize(("place", "words"), PROSE, ids=lambda value: str(value)[:90])
def test_a_command_of_the_text_exists(place: str, words: list[str]) -> None:
    check_command(*words, prose=True)


def is_fragment(text: str) -> bool:
    """Whether a block says in its first line what it is a part of."""
    return text.startswith("# ")


@pytest.mark.parametrize("snippet", all_snippets("python"), ids=lambda snippet: snippet.place)
def test_python_runs(snippet: Snippet, tmp_path: Path) -> None:
    """In a folder with the model that it names; a fragment compiles, or does so in braces."""
    if is_fragment(snippet.text):
        try:
            ast.parse(snippet.text)
        except SyntaxError:
            ast.parse(f"{{\n{snippet.text}\n}}")
        return
    model = tmp_path / "path" / "to" / "model"
    model.parent.mkdir(parents=True)
    model.symlink_to(tiny.checkpoint(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", snippet.text],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("snippet", all_snippets("toml"), ids=lambda snippet: snippet.place)
def test_toml_is_read(snippet: Snippet) -> None:
    assert tomllib.loads(snippet.text)


@pytest.mark.parametrize("snippet", all_snippets("snakemake"), ids=lambda snippet: snippet.place)
def test_a_workflow_is_read(snippet: Snippet) -> None:
    assert Formatter(SnakefmtParser(StringIO(snippet.text))).get_formatted()


def test_every_block_says_its_language() -> None:
    known = {
        snippet.language
        for page in PAGES
        for snippet in snippets(page.read_text(encoding="utf-8"), "")
    }
    assert known <= LANGUAGES
    assert len(STUDIES) > 10
    assert len(SCRIPTS) > 20
    assert {words[0] for _, words in PROSE} >= {"lesion", "make", "python"}


@pytest.mark.parametrize(
    "command",
    [
        "lesion inspect",
        "lesion init",
        "lesion check --quik",
        "lesion run mine -- --processors 2",
        "snakemake --core-count 2",
        "make tests",
        "python benchmarks/audit.py --fast",
        "python none.py",
        "rm -rf results",
    ],
)
def test_what_does_not_exist_is_reported(command: str) -> None:
    with pytest.raises((AssertionError, OSError, TyperException, SystemExit)):
        check_command(*command.split())


def test_blocks_and_commands_are_read_as_they_are() -> None:
    text = (
        "- a\n\n  ```sh\n  A=1 .venv/bin/lesion check >out || code=$? # why\n  ```\n\n`make\nx`\n"
    )
    (snippet,) = snippets(text, "page.md")
    assert snippet.place == "page.md:3"
    assert next(named(words) for words in commands(snippet.text)) == ["lesion", "check"]
    assert list(spans(text)) == ["make x"]
