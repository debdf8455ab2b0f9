"""The files of a job for which Snakemake copies what its rule declares, to and from a storage
provider (`--default-storage-provider`), as on Kubernetes.

Rules declare a fixed list of files, but which files a model's folder has is known only once it is
made. Where files are copied, such a folder is therefore also stored as one archive beside it. A job
runs in a folder of its own, in which all results have the paths that they have without a storage
provider, and which has none that the rule does not declare.
"""

import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from lesion.io.addresses import local_files
from lesion.io.formats import BadFile, atomic, temporary_folder

STAGED = "LESION_STAGED"
"""The environment variable with the folder of the study's results, where files are copied."""
ARCHIVE = ".tar"
_OWN = ".snakemake"


@contextmanager
def staged(job: Any) -> Iterator[Path]:
    """Run a script's block on the files that Snakemake has copied for its job.

    Gives the folder in which the relative paths of the study's own files begin; they are no copies.
    Without a storage provider that is the current one, and nothing changes.

    Args:
        job: the object `snakemake` of a script. Inside the block, the inputs and outputs that were
            copied are paths below the current folder, and archives are folders.

    Raises:
        BadFile: an archive is damaged.
    """
    results = os.environ.get(STAGED)
    if results is None:
        yield Path()
        return
    folder = Path.cwd()
    given, made = job.input, job.output
    with temporary_folder(Path(_OWN), "job") as stage:
        copies = {Path(path): stage / _name(path, results) for path in map(str, given)}
        copies = {path: name for path, name in copies.items() if name != stage / path}
        for path, name in copies.items():
            if path.suffix == ARCHIVE:
                unpack(path, name.with_suffix(""))
        for path, name in copies.items():
            # The record of a model is in its archive as well.
            if path.suffix != ARCHIVE and not name.exists():
                name.parent.mkdir(parents=True, exist_ok=True)
                name.symlink_to(path.absolute())
        for path in made:
            (stage / _name(path, results)).parent.mkdir(parents=True, exist_ok=True)
        job.input, job.output = (
            type(files)(toclone=files, custom_map=lambda path: _name(path, results))
            for files in (given, made)
        )
        os.chdir(stage)
        try:
            yield folder
        finally:
            os.chdir(folder)
            job.input, job.output = given, made
        # Archives first, of folders that still have their record.
        for path in sorted(map(Path, made), key=lambda path: path.suffix != ARCHIVE):
            name = stage / _name(path, results)
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ARCHIVE:
                pack(name.with_suffix(""), path)
            else:
                shutil.move(name, path)


def _name(path: str | Path, results: str) -> str:
    """The path that a file has without a storage provider, from the path of its local copy.

    The study's own files, which are not copied, have the path that they are given by.
    """
    _, marker, rest = f"/{path}".partition(f"/{results}/")
    return f"{results}/{rest}" if marker else str(path)


def pack(folder: Path, out: Path) -> None:
    """Write the files of a folder to an archive; equal files give equal bytes."""
    with atomic(out) as part, tarfile.open(part, "w") as archive:
        for path in local_files(folder):
            entry = tarfile.TarInfo(path.relative_to(folder).as_posix())
            entry.size = path.stat().st_size
            with path.open("rb") as file:
                archive.addfile(entry, file)


def unpack(path: Path, folder: Path) -> None:
    """Write the files of an archive to a folder.

    Raises:
        BadFile: it is no whole archive of files, or a file would lie outside of the folder.
    """
    try:
        with tarfile.open(path, "r:") as archive:
            for entry in archive:
                name = PurePosixPath(entry.name)
                if not entry.isfile() or name.is_absolute() or ".." in name.parts:
                    raise BadFile(f"{path}: `{name}` is no file inside of its folder")
                target, file = folder / name, archive.extractfile(entry)
                assert file is not None
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as copy:
                    shutil.copyfileobj(file, copy, 1 << 20)
            # What is cut between two files looks like the end, but for the empty blocks there.
            if path.stat().st_size < archive.offset + 2 * tarfile.BLOCKSIZE:
                raise tarfile.ReadError("unexpected end")
    except tarfile.TarError as error:
        raise BadFile(
            f"{path}: is damaged ({error}). Remove it from the storage and run `snakemake` again"
        ) from error
