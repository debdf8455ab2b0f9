"""Names that a study may not give: files, or values in tables, of these names exist already."""

from collections.abc import Iterable, Iterator

from lesion.study.config import StudyConfig
from lesion.study.judges import OFFLINE_JUDGES
from lesion.study.training import ARM_ENDINGS
from lesion.study.types import BUILT_MASKS

_TAKEN: dict[str, dict[str, str]] = {
    "behaviours": {
        **dict.fromkeys(BUILT_MASKS, "a built-in mask"),
        **dict.fromkeys(("intact", "unmodified"), "the model without a mask"),
        **dict.fromkeys(("curve", "retraining"), "a folder beside those of the variants"),
        "lookalikes": "the harmless halves of the minimal pairs",
    },
    "models": {
        "prompts": "the folder of the prompts, beside those of the models' pairs",
        **dict.fromkeys(("judge", "judges"), "files of the offline judges"),
    },
    "judgements.judges": {
        **dict.fromkeys((*OFFLINE_JUDGES, "lm-eval"), "a built-in judge"),
        "none": "what is not judged",
        "retraining": "the folder of the judgements after training in memory",
    },
}
"""By the section whose keys are names: names that are taken, and by what."""


def check_names(study: StudyConfig) -> None:
    """Look whether every name that the study gives is free.

    Raises:
        ValueError: one is taken, or two of them name one file; the message names the keys.
    """
    sections: dict[str, Iterable[str]] = {
        "behaviours": study.behaviours,
        "models": study.models,
        "judgements.judges": study.judgements.judges,
    }
    for section, names in sections.items():
        for name in names:
            if (by := _TAKEN[section].get(name)) is not None:
                raise ValueError(f"`{section}.{name}`: this name is taken by {by}; rename it")
    for name in study.behaviours:
        for ending in filter(name.endswith, ARM_ENDINGS):
            raise ValueError(
                f"`behaviours.{name}`: names that end with `{ending}` are those of arms of "
                "`retraining`; rename it"
            )
    for name in study.training_stages:
        if name in study.models:
            raise ValueError(
                f"`training_stages.{name}`: a model has this name too, and claims about the stages "
                "would be taken for claims about it; rename it"
            )
    _check_files(study)


def _check_files(study: StudyConfig) -> None:
    seen: dict[str, str] = {}
    for file, what in _files(study):
        if file in seen:
            raise ValueError(f"{seen[file]} and {what} would be one file, {file}; rename one")
        seen[file] = what


def _files(study: StudyConfig) -> Iterator[tuple[str, str]]:
    """Files of one model whose names are put together of several, with what they are of."""
    for family in study.curve.families:
        what = f"`curve.families`: `{family}`"
        yield f"responses/curve/{family}", what
        yield f"responses/curve/{family}-completions", f"completions of {what}"
    for name, one in study.retraining.items():
        for arm in one.trained:
            what, end = f"`retraining.{name}.arms`: `{arm}`", f"retraining/{name}/{arm}"
            yield f"responses/{end}", what
            yield f"responses/{end}-completions", f"completions of {what}"
            yield f"judgements/{end}", f"{what} judged by `learned`"
            for judge in study.judgements.judges:
                yield f"judgements/{end}/{judge}", f"{what} judged by `{judge}`"
