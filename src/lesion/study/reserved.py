"""Names that a study may not give, because files or values in tables have these names already."""

from collections.abc import Iterable, Iterator

from lesion.study.config import Study
from lesion.study.controls import TAKEN_MASKS
from lesion.study.judges import OFFLINE_JUDGES
from lesion.study.training import ARM_ENDINGS

_TAKEN: dict[str, dict[str, str]] = {
    "behaviours": TAKEN_MASKS,
    "models": {
        "prompts": "the folder of the prompts",
        **dict.fromkeys(("judge", "judges"), "files of the offline judges"),
    },
    "judgements.judges": {
        **dict.fromkeys((*OFFLINE_JUDGES, "lm-eval"), "a built-in judge"),
        "none": "the label of completions that are not judged",
        "retraining": "the folder of the judgements after training in memory",
        "control-answers": "the judgements of the judges' controls",
        "continuations": "the judgements of answers without their prefill",
    },
}
"""Reserved names and what uses them, by the section whose keys are names."""


def check_names(study: Study) -> None:
    """Check that no name of the study is reserved or ambiguous.

    Raises:
        ValueError: a name is taken, or two names give the same file; the message names the keys.
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
    masks = {
        **{name: f"`masks.controls`, `{name}`" for name in study.masks.controls},
        **{name: f"`behaviours.{name}`" for name in study.behaviours},
    }
    for name, key in masks.items():
        if name in study.behaviours and name in study.masks.controls:
            raise ValueError(f"{key}: this name is taken by one of `masks.controls`; rename it")
        for ending in filter(name.endswith, ARM_ENDINGS):
            raise ValueError(
                f"{key}: names that end with `{ending}` are reserved for arms of "
                "`retraining`; rename it"
            )
    for name in study.training_stages:
        if name in study.models:
            raise ValueError(
                f"`training_stages.{name}`: a model has this name too, so claims about the stages "
                "could not be distinguished from claims about the model; rename it"
            )
    seen: dict[str, str] = {}
    for file, what in _files(study):
        if file in seen:
            raise ValueError(
                f"{seen[file]} and {what} would be written to the same file, {file}; rename one of "
                "the two"
            )
        seen[file] = what


def _files(study: Study) -> Iterator[tuple[str, str]]:
    """Files of a model whose names combine several names of the config, with a description."""
    for family in study.curve.families:
        what = f"`curve.families`: `{family}`"
        yield f"responses/curve/{family}", what
        yield f"responses/curve/{family}-completions", f"completions of {what}"
    for name, experiment in study.retraining.items():
        for arm in experiment.trained:
            what, end = f"`retraining.{name}.arms`: `{arm}`", f"retraining/{name}/{arm}"
            yield f"responses/{end}", what
            yield f"responses/{end}-completions", f"completions of {what}"
            yield f"judgements/{end}", f"{what} judged by `learned`"
            for judge in study.judgements.judges:
                yield f"judgements/{end}/{judge}", f"{what} judged by `{judge}`"
