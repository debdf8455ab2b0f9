"""The numbers of a run for the captions of `snakemake --report`.

Every job reads the workflow's files, so this module imports nothing that takes time.
"""

from functools import cached_property
from pathlib import Path


class RunCaptions:
    """Sentences with a finished study's numbers (`lesion.report.run_sentences`), by their names.

    The captions are templates that Snakemake fills in when it writes its report. They get this
    object through the config and not through parameters of rules, so that it makes no job stale:
    the tables are read when a caption asks for a sentence.
    """

    def __init__(self, tables: Path) -> None:
        self._tables = tables

    def __getitem__(self, name: str) -> str:
        return self._sentences[name]

    def __reduce__(self) -> tuple[type[dict[str, str]], tuple[()]]:
        # Jobs get a copy of the config, and no job reads captions.
        return (dict, ())

    @cached_property
    def _sentences(self) -> dict[str, str]:
        from lesion.report.run_sentences import run_sentences

        return run_sentences(self._tables)
