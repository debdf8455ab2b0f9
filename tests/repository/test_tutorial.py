"""What the tutorial shows of init, check and plan is what they print."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from lesion_testing import ROOT
from lesion_testing.snippets import snippets

PAGE = ROOT / "docs" / "tutorial" / "first-study.md"
REQUESTS = PAGE.with_name("phishing.jsonl")


def test_the_commands_print_and_write_what_is_shown(tmp_path: Path) -> None:
    (tmp_path / "my").mkdir()
    shutil.copy(REQUESTS, tmp_path / "my")
    blocks = list(snippets(PAGE.read_text(encoding="utf-8"), PAGE.name))
    (lines,) = [block.text for block in blocks if block.language == "json"]
    assert REQUESTS.read_text(encoding="utf-8").startswith(lines), "the file's first requests"
    commands = []
    for block in blocks:
        if block.language == "console":
            command, _, output = block.text.removeprefix("$ ").partition("\n")
            commands.append(shlex.split(command))
            printed = _printed(tmp_path, commands[-1][1:])
            # Warnings go to another stream, so their place among the lines is not certain.
            assert sorted(printed.splitlines()) == sorted(output.splitlines()), block.place
    assert [words[:2] for words in commands] == [
        ["lesion", name] for name in ("init", "check", "plan")
    ]
    (study,) = [block.text for block in blocks if block.language == "yaml"]
    assert (tmp_path / "phish.yaml").read_text(encoding="utf-8") == study


def _printed(folder: Path, arguments: list[str]) -> str:
    return subprocess.run(
        [sys.executable, "-c", "from lesion import cli; cli.main()", *arguments],
        cwd=folder,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    ).stdout
