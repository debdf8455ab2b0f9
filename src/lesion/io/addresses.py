"""Addresses of sources, `pypi:`, `hf:`, `file:` and `lesion:`, and the paths that people write in
them.
"""

import os
import re
import unicodedata
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from lesion.io.bundle import BUNDLED, bundle
from lesion.io.formats import LesionError, digest

_SHA = re.compile(r"[0-9a-f]{64}")
_PYPI = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9.!+_-]+)/(?P<member>.+)"
)
_HF = re.compile(
    r"(?P<name>(datasets/)?[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?)"
    r"@(?P<version>[A-Za-z0-9][\w.-]*)(/(?P<member>.+))?"
)
_DIGEST = re.compile(r"#(?=(sha|md)[0-9-]*=|[0-9a-f]{32,}$)", re.IGNORECASE)
"""The beginning of a digest; any other `#` belongs to the path of a local file."""
_VARIABLE = re.compile(r"\$(?:(?P<bare>[A-Za-z0-9_]+)|\{(?P<braced>[^{}]*)\})")
_SPECIAL = frozenset("{}<>")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
FORMS = "`pypi:NAME==VERSION/member#sha256=…`, `hf:[datasets/]repo@revision[/file]` or `file:path`"


class AddressError(LesionError, ValueError):
    """An address that cannot be parsed; the message has the expected form.

    It is a ValueError, so that pydantic reports it with the config key.
    """


class Address(NamedTuple):
    """A source's address. `member` is a file or folder inside; `sha256` is of the fetched file."""

    kind: Literal["pypi", "hf", "file"]
    name: str
    version: str
    member: str
    sha256: str | None
    text: str


def is_address(text: str) -> bool:
    """Whether a text is an address and not the name of a source."""
    return ":" in text


def parse(text: str) -> Address:
    """Read an address.

    Raises:
        AddressError: it has none of the three forms, lacks a digest, or would leave its folder.
    """
    kind, _, rest = text.partition(":")
    if kind == "file":
        body, fragment = _apart(rest)
    else:
        body, _, fragment = rest.partition("#")
    sha = fragment.removeprefix("sha256=") if fragment else None
    if sha is not None and (sha == fragment or not _SHA.fullmatch(sha)):
        raise AddressError(f"`{text}`: `#` must be followed by `sha256=` and 64 hexadecimal digits")
    if kind == "file" and body:
        if body.startswith("//") and not body.startswith("///"):
            raise AddressError(
                f"`{text}`: write `file:/path` for a path from the root, or `file:path` for one "
                "that begins at the working directory"
            )
        # Browsers write `file:///path` for `file:/path`.
        path = f"/{body.lstrip('/')}" if body.startswith("///") else body
        return Address("file", path, "", "", sha, text)
    form = {"pypi": _PYPI, "hf": _HF}.get(kind)
    match = form.fullmatch(body) if form else None
    if match is None and kind == "hf" and _HF.fullmatch(f"{body}@main"):
        raise AddressError(f"`{text}`: add the revision, a commit or a branch: `{text}@main`")
    if match is None:
        raise AddressError(f"`{text}` is not an address of the form {FORMS}")
    member = match["member"] or ""
    if member and (PurePosixPath(member).is_absolute() or ".." in PurePosixPath(member).parts):
        raise AddressError(f"`{text}`: `{member}` must lie inside the source")
    if sha is not None and not member:
        raise AddressError(f"`{text}`: a sha256 pins a single file, and this is a repository")
    if kind == "pypi" and sha is None:
        raise AddressError(
            f"`{text}`: give the wheel's digest, as `#sha256=…`, so that it is pinned"
        )
    return Address(
        "pypi" if kind == "pypi" else "hf", match["name"], match["version"], member, sha, text
    )


def seen_from(folder: Path, address: Address) -> Address:
    """The address with its local path, if it has one, beginning at a folder."""
    return address._replace(name=str(folder / address.name)) if address.kind == "file" else address


def _apart(rest: str) -> tuple[str, str]:
    """A local file's path, and what follows the `#` that begins a digest."""
    mark = _DIGEST.search(rest)
    return (rest[: mark.start()], rest[mark.end() :]) if mark else (rest, "")


def expanded(text: str) -> str:
    """A path with `$NAME`, `${NAME}` and a leading `~` expanded, as by a shell.

    The result contains none of them, so expanding it again changes nothing.

    Raises:
        AddressError: a variable is not set or is empty, a `$` begins no variable's name, there is
            no such home folder, or the path holds a control character such as a line break.
    """
    if any(unicodedata.category(char) == "Cc" for char in text):
        raise AddressError(f"{text!r}: holds a line break or another control character")
    filled = _VARIABLE.sub(lambda match: _variable(text, match), text)
    if "$" in filled:
        raise AddressError(
            f"`{text}`: holds a `$` that does not begin a variable such as `$SCRATCH`. Rename "
            "the file or folder, or reach it by a link without a `$`"
        )
    if not filled.startswith("~"):
        return filled
    # A variable's value may begin with `~` too, and no shell has filled that in.
    home = os.path.expanduser(filled)  # noqa: PTH111 (a Path would lose a trailing slash)
    if home == filled:
        raise AddressError(
            f"`{text}`: there is no home folder `{filled.partition('/')[0]}`. Write the path out, "
            "or `./~…` for a name that begins with `~`"
        )
    return home


def _variable(text: str, match: re.Match[str]) -> str:
    name = match["bare"] or match["braced"] or ""
    if not _VARIABLE_NAME.fullmatch(name):
        raise AddressError(
            f"`{text}`: `{match[0]}` is not expanded; only variables written as `$NAME` or "
            "`${NAME}` are"
        )
    value = os.environ.get(name)
    if not value:
        what = "is not set" if value is None else "is empty"
        raise AddressError(
            f"`{text}`: the environment variable `{name}` {what}. Set it, or write the path out"
        )
    return value


def checked_path(text: str) -> str:
    """A path of a config, expanded, that has no special meaning for Snakemake.

    Raises:
        AddressError: see `expanded`; or it has characters with a meaning for Snakemake; or no such
            file comes with lesion.
    """
    path = _bundled(text) if text.startswith(BUNDLED) else expanded(text)
    if special(path):
        shown = "" if path == text else f" ({path})"
        raise AddressError(
            f"`{text}`{shown}: holds {{, }}, < or >, with which Snakemake marks what it fills in. "
            "Rename the file or folder, or reach it by a link"
        )
    return path


def _bundled(text: str) -> str:
    path = PurePosixPath(text.removeprefix(BUNDLED))
    if path.is_absolute() or ".." in path.parts or not (bundle() / path).exists():
        raise AddressError(
            f"`{text}`: no such file comes with lesion; a file of your own is written `file:path`"
        )
    return str(bundle() / path)


def special(path: str) -> bool:
    """Whether Snakemake would read a part of a path as a wildcard or a variable."""
    return not _SPECIAL.isdisjoint(path)


def expanded_address(text: str) -> str:
    """An address with its local path expanded; other addresses have no local path.

    `lesion:path`, a file that comes with lesion, becomes the `file:` that it is here.

    Raises:
        AddressError: see `parse` and `checked_path`.
    """
    if text.startswith(BUNDLED):
        return f"file:{checked_path(text)}"
    if parse(text).kind != "file":
        return text
    path, fragment = _apart(text.removeprefix("file:"))
    address = f"file:{checked_path(path)}" + (f"#{fragment}" if fragment else "")
    # A variable's value must not be taken for a digest, nor for another kind of path.
    parse(address)
    return address


def slug(text: str) -> str:
    """A path-safe name for an address without a name in the config."""
    words = re.sub(r"[^a-z0-9]+", "-", _DIGEST.split(text)[0].lower()).strip("-")[-40:].strip("-")
    return f"{words}-{digest(text)[:8]}"


def local_files(path: Path) -> list[Path]:
    """The file itself, or the files below a folder, sorted."""
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
