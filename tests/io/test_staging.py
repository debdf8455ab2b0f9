"""Jobs whose files Snakemake copies to and from a storage provider."""

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from snakemake.iocontainers import InputFiles, OutputFiles

from lesion.io.formats import BadFile
from lesion.io.staging import STAGED, pack, staged, unpack


class Job:
    """The inputs and outputs of a script's `snakemake`."""

    def __init__(self, given: list[str], made: list[str]) -> None:
        self.input, self.output = InputFiles(toclone=given), OutputFiles(toclone=made)


def _folder(path: Path) -> Path:
    (path / "deep").mkdir(parents=True)
    (path / "config.json").write_text("{}")
    (path / "deep" / "weights.safetensors").write_bytes(b"\0" * 3000)
    return path


def _files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_an_archive_has_every_file_of_its_folder(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "model")
    pack(folder, tmp_path / "model.tar")
    unpack(tmp_path / "model.tar", tmp_path / "copy")
    assert _files(tmp_path / "copy") == _files(folder) != {}


def test_equal_folders_have_equal_archives(tmp_path: Path) -> None:
    for name in ("one", "two"):
        pack(_folder(tmp_path / name), tmp_path / f"{name}.tar")
        os.utime(tmp_path / name / "config.json", (1, 1))
        (tmp_path / name / "config.json").chmod(0o600)
        pack(tmp_path / name, tmp_path / f"{name}-later.tar")
    assert len({path.read_bytes() for path in tmp_path.glob("*.tar")}) == 1


@pytest.mark.parametrize("size", [0, 700, 1024, 1500, 3000])
def test_an_archive_that_is_cut_short_is_refused(tmp_path: Path, size: int) -> None:
    pack(_folder(tmp_path / "model"), tmp_path / "model.tar")
    os.truncate(tmp_path / "model.tar", size)
    with pytest.raises(BadFile, match="is damaged"):
        unpack(tmp_path / "model.tar", tmp_path / "copy")


@pytest.mark.parametrize("name", ["../outside", "/outside", "a/../../outside"])
def test_an_archive_writes_nothing_outside_of_its_folder(tmp_path: Path, name: str) -> None:
    with tarfile.open(tmp_path / "model.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(BadFile, match="no file inside"):
        unpack(tmp_path / "model.tar", tmp_path / "copy")
    assert not list(tmp_path.rglob("outside"))


def test_a_link_in_an_archive_is_refused(tmp_path: Path) -> None:
    link = tarfile.TarInfo("weights")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(tmp_path / "model.tar", "w") as archive:
        archive.addfile(link)
    with pytest.raises(BadFile, match="no file inside"):
        unpack(tmp_path / "model.tar", tmp_path / "copy")


def test_without_a_storage_provider_nothing_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(STAGED, raising=False)
    monkeypatch.chdir(tmp_path)
    job = Job(["results/tiny/a.json"], ["results/tiny/b.json"])
    given = job.input
    with staged(job):
        assert job.input is given
        assert Path.cwd() == tmp_path


COPY = ".snakemake/storage/s3/lab/audit/results/tiny"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which Snakemake has put the local copies of a job's inputs."""
    monkeypatch.setenv(STAGED, "results/tiny")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results" / "tiny" / "models").mkdir(parents=True)
    (tmp_path / "results" / "tiny" / "models" / "undeclared").touch()
    models = tmp_path / COPY / "models"
    (models / "small").mkdir(parents=True)
    (models / "small" / "lesion.json").write_text("{}")
    pack(_folder(tmp_path / "model"), models / "small.tar")
    return tmp_path


def test_a_job_sees_what_its_rule_declares_under_the_usual_paths(machine: Path) -> None:
    job = Job([f"{COPY}/models/small/lesion.json", f"{COPY}/models/small.tar"], [])
    with staged(job):
        assert job.input[0] == "results/tiny/models/small/lesion.json"
        assert _files(Path("results/tiny")).keys() == {
            "models/small/lesion.json",
            "models/small/config.json",
            "models/small/deep/weights.safetensors",
        }
    assert Path.cwd() == machine
    assert not list((machine / ".snakemake").glob("job-*"))


@pytest.mark.parametrize("folder", ["inputs", "../inputs", "results/inputs"])
def test_the_study_s_own_files_stay_where_they_are(machine: Path, folder: str) -> None:
    own = machine / "place" / "study" / folder / "extra.tar"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"no archive of ours")
    os.chdir(machine / "place" / "study")
    Path(".snakemake").mkdir()
    before = {path for path in machine.rglob("*") if ".snakemake" not in path.parts}
    job = Job([f"{folder}/extra.tar"], [])
    with staged(job) as here:
        assert (here / job.input[0]).read_bytes() == b"no archive of ours"
        assert {path for path in machine.rglob("*") if ".snakemake" not in path.parts} == before


def test_what_a_killed_job_left_is_removed(machine: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    with staged(Job([], [])):
        stage = Path.cwd()
    left = stage.with_name(stage.name.replace(str(os.getpid()), str(ended.pid)))
    left.mkdir()
    (left / "weights").touch()
    with staged(Job([], [])):
        assert not left.exists()
    assert not list((machine / ".snakemake").glob("job-*"))


def test_outputs_go_to_the_storage_when_the_job_succeeds(machine: Path) -> None:
    job = Job([], [f"{COPY}/models/new/lesion.json", f"{COPY}/models/new.tar"])
    with staged(job):
        folder = Path(job.output[0]).parent
        (folder / "lesion.json").write_text("[]")
        (folder / "weights").write_bytes(b"1")
        assert not (machine / COPY / "models" / "new.tar").exists()
    assert (machine / COPY / "models" / "new" / "lesion.json").read_text() == "[]"
    unpack(machine / COPY / "models" / "new.tar", machine / "copy")
    assert _files(machine / "copy") == {"lesion.json": b"[]", "weights": b"1"}


def test_a_job_that_fails_stores_nothing(machine: Path) -> None:
    job = Job([], [f"{COPY}/masks/shared.safetensors"])

    def fail() -> None:
        with staged(job):
            Path(job.output[0]).write_bytes(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not list(machine.rglob("shared.safetensors"))
    assert Path.cwd() == machine
