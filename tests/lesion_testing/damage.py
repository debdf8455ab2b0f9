"""Damage as files suffer it in practice, for tests of what reads them.

A damage is a function from a file's bytes to other bytes. What it does to the file's meaning is for
the test to say: a reader must refuse the damaged file by its name, or read what the clean one says.
"""

import json
from collections.abc import Callable, Mapping

Damage = Callable[[bytes], bytes]

LFS_POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:0000000000000000000000000000000000000000000000000000000000000005\n"
    b"size 1234\n"
)
"""What git leaves in a file's place where git-lfs did not run."""


def _recode(encoding: str) -> Damage:
    return lambda data: data.decode("utf-8").encode(encoding, "replace")


FILE_DAMAGES: Mapping[str, Damage] = {
    "empty": lambda _: b"",
    "one byte": lambda data: data[:1],
    "half": lambda data: data[: len(data) // 2],
    "last byte gone": lambda data: data[:-1],
    "zeros": lambda data: bytes(len(data)),
    "git-lfs pointer": lambda _: LFS_POINTER,
    "web page": lambda _: b"<!DOCTYPE html><html><body>404 Not Found</body></html>\n",
    "twice": lambda data: data + data,
}
"""Of any file, text or not."""

TEXT_DAMAGES: Mapping[str, Damage] = {
    "byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "UTF-16": _recode("utf-16"),
    "UTF-32": _recode("utf-32"),
    "Windows line ends": lambda data: data.replace(b"\n", b"\r\n"),
    "byte that is no UTF-8": lambda data: data[: len(data) // 2] + b"\xff" + data[len(data) // 2 :],
    "NUL byte": lambda data: data[: len(data) // 2] + b"\0" + data[len(data) // 2 :],
    "blank lines at the end": lambda data: data + b"\n\n",
}
"""Of a text in UTF-8, beside those of any file."""

JSON_DAMAGES: Mapping[str, Damage] = {
    "null": lambda _: b"null",
    "list": lambda data: b"[" + data + b"]",
    "text": lambda data: json.dumps(data.decode("utf-8")).encode(),
    "number": lambda _: b"7",
    "no keys": lambda _: b"{}",
    "nested": lambda data: b'{"nested": ' + data + b"}",
}
"""Of a JSON file that holds one object, beside those of a text."""
