"""Every `snakemake` command in the docs is one that Snakemake takes."""

import re

import pytest
from snakemake.cli import get_argument_parser

from lesion_testing import ROOT

PLACES = ("README.md", "docs/*.md", "studies/**/*.yaml", "workflow/**/*.yaml", "src/**/*.py")
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
