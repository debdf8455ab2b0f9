"""What a killed process left beside an output goes with the next write of it."""

import subprocess
import sys
from pathlib import Path

from lesion.io.formats import atomic, write_json

KILLED = """
import os, signal, sys
from pathlib import Path
from lesion.io.formats import atomic
with atomic(Path(sys.argv[1])) as part:
    part.mkdir() if sys.argv[2] == "folder" else part.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def _left(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def _killed(path: Path, kind: str) -> str:
    subprocess.run([sys.executable, "-c", KILLED, str(path), kind], check=False)
    return _left(path.parent)[-1]


def test_the_next_write_clears_what_a_killed_one_left(tmp_path: Path) -> None:
    for kind in ("file", "folder"):
        path = tmp_path / kind / "made[1].json"
        path.parent.mkdir()
        assert _killed(path, kind).startswith(".made[1].json.part-")
        write_json([1], path)
        assert _left(path.parent) == ["made[1].json"]


def test_what_another_still_writes_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "made.json"
    with atomic(path) as part:
        part.write_text("[1]")
        own = part.name
        # Of a process that lives: the test's own parent's number would do as well.
        alive = path.with_name(own.rpartition("-")[0] + "-1")
        elsewhere = path.with_name(".made.json.part-another_host-999999999")
        alive.touch()
        elsewhere.touch()
    write_json([2], path)
    assert sorted(_left(tmp_path)) == sorted([alive.name, elsewhere.name, path.name])
