"""Commands of Snakemake that are named anywhere, and the judge that the docs show, are valid."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from snakemake.cli import get_argument_parser

from lesion_testing import ROOT

PLACES = ("README.md", "docs/**/*.md", "studies/**/*.yaml", "workflow/**/*.yaml", "src/**/*.py")
_COMMAND = re.compile(r"\bsnakemake( -[^`#()\";]*)")
"""Up to what ends one in prose, in a comment and in a string."""


def documented() -> list[str]:
    """The arguments of each command, lines of prose joined."""
    found: set[str] = set()
    for place in PLACES:
        for path in ROOT.glob(place):
            text = path.read_text(encoding="utf-8").replace("```", "")
            # A command in backticks may go on in the next line; elsewhere its line is all of it.
            spans = [" ".join(one.split()) for one in re.findall(r"`([^`]+)`", text)]
            for line in (*spans, *re.sub(r"`[^`]+`", " ", text).splitlines()):
                found |= {one.strip() for one in _COMMAND.findall(line)}
    return sorted(found)


@pytest.mark.parametrize("arguments", documented())
def test_snakemake_takes_it(arguments: str) -> None:
    words = arguments.removesuffix("\\n").split()
    get_argument_parser().parse_args(words)


def test_the_commands_are_found() -> None:
    found = documented()
    assert "--cores all" in found
    assert "--cores all --configfile studies/mine.yaml" in found
    assert any("studies/recovery.yaml" in one for one in found)


def test_the_judge_of_the_docs_is_one_module(tmp_path: Path) -> None:
    """A process that has not imported the kinds of judges finds it, and it judges."""
    text = (ROOT / "docs" / "how-to" / "adding.md").read_text(encoding="utf-8")
    folder = tmp_path / "kinds"
    folder.mkdir()
    (folder / "length.py").write_text(
        text.split("```python\n")[1].split("```")[0], encoding="utf-8"
    )
    (tmp_path / "mine.yaml").write_text("judgements: {judges: {words: {kind: length, longest: 4}}}")
    code = f"""
import pkgutil
from pathlib import Path
from lesion.study import load_study, read_configs

# As if the module were in the folder of kinds.
real = pkgutil.iter_modules
def iter_modules(path):
    path.append({str(folder)!r})
    return real(path)
pkgutil.iter_modules = iter_modules

study = load_study(read_configs([Path("config.yaml"), Path({str(tmp_path / "mine.yaml")!r})]))
from lesion.judgements.kinds import build_judge
judge = build_judge("words", study.judgements.judges["words"], {{}}, None)
print([one.score for one in judge.judge(["a"], ["two words"])])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout == "[0.5]\n", done.stderr
