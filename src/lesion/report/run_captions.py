"""The numbers of a run for the captions of `snakemake --report`.

Every job reads the workflow's files, so this module imports nothing that takes time.
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from lesion.io.formats import BadFile

CAPTIONS = "captions"


class CaptionedConfig(dict[str, Any]):
    """A study's config, in which captions also look up `captions`, by the name of the caption.

    The captions are templates that Snakemake fills in when it writes its report. They get the
    numbers through the config and not through parameters of rules, so that they make no job stale:
    the tables are read when a caption asks for a sentence. `captions` is no key of the study, and
    jobs, which get a copy, do not have it.
    """

    def __init__(self, config: Mapping[str, Any], tables: Path | None) -> None:
        """Take a config, and the folder of its tables; None if they are not on this machine."""
        super().__init__(config)
        self._tables = tables

    def __missing__(self, key: str) -> Any:
        if key == CAPTIONS:
            return self._sentences
        raise KeyError(key)

    def __reduce__(self) -> tuple[Any, ...]:
        return (dict, (dict(self),))

    @cached_property
    def _sentences(self) -> "_Sentences":
        if self._tables is None:
            return _Sentences(otherwise="Its numbers are in the tables, which are in the storage.")
        from lesion.report.run_sentences import run_sentences

        try:
            return _Sentences(run_sentences(self._tables))
        except BadFile:
            # Of a study that has not been run to its end.
            return _Sentences()


class _Sentences(dict[str, str]):
    """Sentences by the names of captions, by default empty where nothing was measured."""

    def __init__(self, sentences: Mapping[str, str] = {}, otherwise: str = "") -> None:
        super().__init__(sentences)
        self._otherwise = otherwise

    def __missing__(self, key: str) -> str:
        return self._otherwise
