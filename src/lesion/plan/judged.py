"""What jobs that judge get of a study's own judges."""

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
        use.key.removeprefix(start): (use.text, use.key)
        for use in study.uses()
        if use.key.startswith(start)
    }
