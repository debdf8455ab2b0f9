"""A judge for invented worlds where the right answer is known: it looks for the answer's words."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lesion.io.formats import BadFile, digest
from lesion.judgements.kinds import builds
from lesion.judgements.protocol import Judgement
from lesion.pairs.rows import read_rows, texts
from lesion.sources.fetch import locate
from lesion.sources.jobs import SourceLocation
from lesion.study.job import Device
from lesion.study.judges import ReferenceSection

Keys = Mapping[str, frozenset[str]]
"""Prompt → the lower-case words of a right answer to it."""


def read_keys(path: Path, prompt: str, key: str) -> Keys:
    """Read the words of the right answers; rows without any are left out.

    Args:
        path: any kind of file that prompts are read from.
        prompt: the column of the prompts.
        key: the column of the words, with spaces between them.

    Raises:
        BadFile: a column is missing or has something other than texts, no row has words, or a
            prompt has two keys.
    """
    rows = read_rows(path, (prompt, key))
    keys: dict[str, frozenset[str]] = {}
    for question, words in zip(texts(rows, prompt, path), texts(rows, key, path), strict=True):
        name, answer = (question or "").strip(), _words(words or "")
        if answer and keys.setdefault(name, answer) != answer:
            raise BadFile(
                f"{path}: the prompt `{name}` has two different values of `{key}`. Remove one of "
                "the rows."
            )
    if not keys:
        raise BadFile(f"{path}: no row has a `{key}`; give the words of the right answers")
    return keys


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.casefold()))


def keys_digest(keys: Keys) -> str:
    """Hex SHA-256 of the keys."""
    return digest(sorted((prompt, sorted(words)) for prompt, words in keys.items()))


class Reference:
    """Scores an answer by the share of its key's words in it; the label is true if it has all."""

    labels = True

    def __init__(self, name: str, keys: Keys) -> None:
        self.name, self.keys = name, keys
        self.revision = keys_digest(keys)[:12]

    def judge(self, prompts: Sequence[str], responses: Sequence[str]) -> Iterator[Judgement]:
        """Compare words (see `Judge.judge`); no score for a prompt that has no key."""
        for index, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
            key = self.keys.get(prompt.strip())
            if key is None:
                yield Judgement(index, None, None)
            else:
                matched = len(key & _words(response))
                yield Judgement(index, matched / len(key), matched == len(key))


@builds(ReferenceSection)
def reference_judge(
    name: str, judge: ReferenceSection, places: Mapping[str, SourceLocation], device: Device
) -> Reference:
    """A reference judge with the keys of a file."""
    return Reference(name, read_keys(locate(places["source"]), judge.prompt, judge.key))
