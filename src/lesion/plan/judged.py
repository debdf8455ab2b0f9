"""What jobs that judge get of a study's own judges; plain dicts with sorted keys."""

from pathlib import Path
from typing import Any

from lesion.judgements.contrast import columns_of, read_contrast, rows_digest
from lesion.judgements.reference import keys_digest, read_keys
from lesion.plan.places import is_local, local_path
from lesion.study import Study

OF_FILES = ("contrast", "reference")
"""Kinds of judges that are made of a file of answers or keys."""


def contrasts(study: Study) -> list[str]:
    """Judges that learn from a file of the study, and so are measured with the offline ones."""
    return [name for name, one in study.judgements.judges.items() if one.kind == "contrast"]


def judge_parts(study: Study, judge: str) -> dict[str, tuple[str, str]]:
    """The files of a judge: their sources and keys, by the key's last word."""
    start = f"judgements.judges.{judge}."
    return {
        key.removeprefix(start): (text, key)
        for key, text in study.judgements.judge_sources.items()
        if key.startswith(start)
    }


def judge_contents(study: Study, judge: str) -> dict[str, str]:
    """Digests of what the local files of a judge say that is made of them, by the key's last word.

    So editing them is noticed, and touching them makes nothing stale.

    Raises:
        LesionError: one is missing or unfit.
    """
    settings = study.judgements.judges[judge].settings
    if settings["kind"] not in OF_FILES:
        return {}
    return {
        part: _content(settings, local_path(study, text, key))
        for part, (text, key) in judge_parts(study, judge).items()
        if is_local(study, text)
    }


def _content(settings: dict[str, Any], path: Path) -> str:
    if settings["kind"] == "reference":
        return keys_digest(read_keys(path, settings["prompt"], settings["key"]))
    return rows_digest(read_contrast(path, columns_of(settings)))
