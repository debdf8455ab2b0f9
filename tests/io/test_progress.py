"""Progress: whole lines of a job, a bar of a command."""

import io
import sys
import time

import pytest

from lesion.io import progress as module
from lesion.io.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the clock says, one number a look."""
    times: list[float] = []

    monkeypatch.setattr(module.time, "monotonic", lambda: times.pop(0))
    return times


def test_a_log_gets_whole_lines(
    clock: list[float], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock += [0.0, 1.0, 20.0, 21.0, 40.0, 41.0]
    monkeypatch.setattr(sys, "__stderr__", io.StringIO())
    with progress("physical: responses", 80, "prompt") as advance:
        for _ in range(4):
            advance(20)
    assert capsys.readouterr().err.splitlines() == [
        "physical: responses: 40 of 80 prompts, 2.00 prompts/s, 00:20 left",
        "physical: responses: 80 of 80 prompts, 2.00 prompts/s, 00:00 left",
        "physical: responses: 80 prompts in 41.0 s",
    ]


def test_a_job_writes_lines_on_the_terminal(
    clock: list[float], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock += [0.0, 1.0, 6.0, 7.0, 41.0]
    terminal = Terminal()
    monkeypatch.setattr(sys, "__stderr__", terminal)
    with progress("physical: responses", 80, "prompt") as advance:
        for _ in range(3):
            advance(1, 500)
    assert terminal.getvalue() == (
        "physical: responses: 2 of 80 prompts, 0.33 prompts/s, 167 tokens/s, 03:54 left\n"
    )
    assert capsys.readouterr().err == "physical: responses: 80 prompts in 41.0 s\n"


def test_a_command_draws_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "__stderr__", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress("physical: responses", 80, "prompt") as advance:
        advance(80, 4000)
    before, _, after = terminal.getvalue().rpartition("\r")
    assert "physical: responses" in before
    assert after.startswith("physical: responses: 80 prompts in ")


def test_a_bar_says_how_fast_tokens_come(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock += [0.0, 2.0, 2.0]
    terminal = Terminal()
    monkeypatch.setattr(sys, "__stderr__", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress("physical: responses", 80, "prompt") as advance:
        time.sleep(0.25)  # for the bar, which is drawn at most so often
        advance(80, 4000)
    assert "2,000 tokens/s" in terminal.getvalue()


def test_two_jobs_leave_each_other_s_lines_alone(
    clock: list[float], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock += [0.0] * 2 + [10.0] * 4
    terminal = Terminal()
    monkeypatch.setattr(sys, "__stderr__", terminal)
    with progress("a", 4, "pair") as one, progress("b", 4, "pair") as other:
        one(2)
        other(3)
    assert [line.split(":")[0] for line in terminal.getvalue().splitlines()] == ["a", "b"]
    assert "\r" not in terminal.getvalue() + capsys.readouterr().err
