"""Jobs that share GPUs take one each; no GPU is needed to see it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lesion.models import devices, load

HOLDER = """
import sys
from pathlib import Path
from lesion.models.devices import take
print(take(sys.argv[2:], Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""


@contextmanager
def _process(folder: Path, *names: str) -> Iterator[SimpleNamespace]:
    """Another process that took a device and lives on."""
    call = [sys.executable, "-c", HOLDER, str(folder), *names]
    with subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as one:
        assert one.stdout is not None
        yield SimpleNamespace(place=int(one.stdout.readline()), process=one)
        one.kill()


@pytest.fixture(autouse=True)
def _released(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process gives back in the end what it took, which a job never does."""
    held: list[int] = []
    monkeypatch.setattr(devices, "_LOCKS", held)
    load.pick_device.cache_clear()
    yield
    load.pick_device.cache_clear()
    for handle in held:
        os.close(handle)


@pytest.mark.parametrize(
    ("environment", "names"),
    [
        ({}, ["0", "1", "2", "3"]),
        ({"CUDA_VISIBLE_DEVICES": "2,3"}, ["2", "3"]),
        ({"CUDA_VISIBLE_DEVICES": "GPU-8a, MIG-1/2/3"}, ["GPU-8a", "MIG-1/2/3"]),
    ],
)
def test_the_pool_is_what_is_visible(environment: dict[str, str], names: list[str]) -> None:
    assert devices.pool(environment, len(names)) == names


def test_a_device_that_is_not_there_is_not_in_the_pool() -> None:
    # CUDA sees what is named before it.
    assert devices.pool({"CUDA_VISIBLE_DEVICES": "0,7,1"}, 1) == ["0"]


def test_every_process_has_a_device_of_its_own(tmp_path: Path) -> None:
    with _process(tmp_path, "0", "1", "2") as a, _process(tmp_path, "0", "1", "2") as b:
        assert {a.place, b.place, devices.take(["0", "1", "2"], tmp_path)} == {0, 1, 2}


def test_where_all_are_taken_the_least_shared_is_taken(tmp_path: Path) -> None:
    assert [devices.take(["0", "1"], tmp_path) for _ in range(5)] == [0, 1, 0, 1, 0]


def test_names_tell_devices_apart_wherever_they_stand(tmp_path: Path) -> None:
    assert devices.take(["2", "3"], tmp_path) == 0
    assert devices.take(["3", "2"], tmp_path) == 0
    assert devices.take(["MIG-1/2"], tmp_path) == 0


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    with _process(tmp_path, "0", "1") as one:
        assert one.place == 0
        one.process.send_signal(signal.SIGKILL)
        one.process.wait()
        assert devices.take(["0", "1"], tmp_path) == 0


def _gpus(monkeypatch: pytest.MonkeyPatch, count: int, folder: Path) -> list[torch.device]:
    """Let torch believe in GPUs; what is chosen for the process is noted."""
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(devices, "lock_folder", lambda: folder)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    # All jobs of one allocation (`salloc`, then `snakemake`) have its devices in common.
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    return chosen


def test_a_model_goes_to_a_free_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    chosen = _gpus(monkeypatch, 2, tmp_path)
    with _process(tmp_path, "0", "1"):
        assert load.pick_device() == load.pick_device() == torch.device("cuda", 1)
    assert chosen == [torch.device("cuda", 1)]


def test_an_only_device_needs_no_lock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    chosen = _gpus(monkeypatch, 1, tmp_path / "locks")
    assert load.pick_device() == torch.device("cuda")
    assert not chosen
    assert not (tmp_path / "locks").exists()


def test_no_device_is_the_processor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _gpus(monkeypatch, 0, tmp_path)
    assert load.pick_device() == torch.device("cpu")
