"""Progress: whole lines where there is no terminal, a bar where there is one."""

import io
import sys

import pytest

from lesion import progress as module
from lesion.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_whole_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    times = iter([0.0, 0.0, 1.0, 20.0, 21.0, 40.0, 41.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(times))
    monkeypatch.setattr(sys, "__stderr__", io.StringIO())
    with progress("physical: responses", 80, "prompt") as advance:
        for _ in range(4):
            advance(20)
    assert capsys.readouterr().err.splitlines() == [
        "physical: responses: 40 of 80 prompts,  2.00prompt/s, 00:20 left",
        "physical: responses: 80 of 80 prompts,  2.00prompt/s, 00:00 left",
        "physical: responses: 80 prompts in 41.0 s",
    ]


def test_a_terminal_gets_a_bar_and_the_log_only_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "__stderr__", terminal)
    with progress("physical: responses", 80, "prompt") as advance:
        advance(80)
    assert "physical: responses" in terminal.getvalue()
    log = capsys.readouterr().err
    assert log.startswith("physical: responses: 80 prompts in ")
    assert "\r" not in log
