"""What a job took is counted by the operating system, and written if the job succeeded."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from lesion.io.logs import USAGE, USAGE_COLUMNS, logged

MIB = 400
SPENDS = f"""
import subprocess, sys, time
import numpy
from lesion.io.logs import logged
with logged(sys.argv[1]):
    numpy.ones({MIB} * 2**17)
    while time.process_time() < 1.0:
        pass
    subprocess.run([sys.executable, "-c", "import time\\nwhile time.process_time() < 0.5: pass"])
    time.sleep(0.5)
"""


def test_time_and_memory_are_those_of_the_process_and_its_children(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "a" / "job.log"
    subprocess.run([sys.executable, "-c", SPENDS, str(log)], check=True)
    with log.with_suffix(USAGE).open() as file:
        (row,) = csv.DictReader(file, delimiter="\t")
    assert tuple(row) == USAGE_COLUMNS
    seconds, processor, memory = map(float, row.values())
    assert processor >= 1.5
    # Of these, half a second was slept.
    assert seconds >= processor + 0.4
    assert MIB < memory < 10 * MIB


def test_a_job_that_fails_says_nothing_of_its_time(tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    with pytest.raises(SystemExit), logged(str(log)):
        raise ValueError
    assert log.exists()
    assert not log.with_suffix(USAGE).exists()
