"""Every address that a study gives, with the job that reads it and how it is read."""

from collections.abc import Iterator
from typing import NamedTuple

from lesion.study.config import Study
from lesion.study.types import Reader


class Use(NamedTuple):
    """One use of one address by the jobs of a rule."""

    key: str
    """The config key that gives the address, for messages."""
    text: str
    """A name from `sources`, or an address."""
    rule: str | None
    """The rule whose jobs read it; None if no job does, as for a template that no attack uses."""
    owner: str | None
    """The wildcard value of the jobs that read it (a behaviour, model, experiment or judge); None
    if every job of the rule reads it."""
    part: str
    """The name of the source among the job's files."""
    reader: Reader


def uses(study: Study) -> list[Use]:
    """Every use of every address of a study.

    Fetching, checks, inputs of jobs and digests of local files are all derived from this list.
    """
    return list(_uses(study))


def _uses(study: Study) -> Iterator[Use]:
    for name, behaviour in study.behaviours.items():
        key = f"behaviours.{name}"
        reads = "prompts" if behaviour.of is None else "matched_prompts"
        yield Use(f"{key}.source", behaviour.source, reads, name, "source", "prompts")
        if (text := behaviour.responses) is not None:
            yield Use(f"{key}.responses", text, "prompts", name, "responses", "responses")
    for name, model in study.models.items():
        key = f"models.{name}"
        if model.source is not None:
            yield Use(f"{key}.source", model.source, "model", name, "source", "model")
        if model.train is None:
            continue
        for number, component in enumerate(model.train.mixture):
            if (text := component.source) is not None:
                part = f"mixture.{number}"
                yield Use(f"{key}.train.{part}.source", text, "train", name, part, "examples")
        if (text := model.train.refusals) is not None:
            yield Use(f"{key}.train.refusals", text, "train", name, "refusals", "responses")
    for name, experiment in study.retraining.items():
        if (text := experiment.questions) is not None:
            key = f"retraining.{name}.questions"
            yield Use(key, text, "retrain", name, "questions", "questions")
    for name, template in study.responses.templates.items():
        rule = "variant_responses" if name in study.responses.attacks else None
        key = f"responses.templates.{name}.source"
        yield Use(key, template.source, rule, None, name, "template")
    if (text := study.understanding.minimal_pairs) is not None:
        key, part = "understanding.minimal_pairs", "minimal_pairs"
        yield Use(key, text, "understanding", None, part, "minimal-pairs")
    embedder = ("judgements.embedder", study.judgements.embedder)
    scores = ("judgements.human_scores", study.judgements.human_scores)
    yield Use(*scores, "train_judge", None, "human_scores", "folder")
    yield Use(*embedder, "train_judge", None, "embedder", "weights")
    yield Use(*embedder, "judge_responses", None, "embedder", "weights")
    for name, judge in study.judgements.judges.items():
        for part, reader in judge.files.items():
            text = getattr(judge, part)
            if text is None:
                continue
            use = Use(
                f"judgements.judges.{name}.{part}",
                text,
                "judge_responses_extra",
                name,
                part,
                reader,
            )
            # The rule `train_judge` measures contrast judges too, and only it reads `elsewhere`.
            if judge.kind == "contrast":
                yield use._replace(rule="train_judge", owner=None, part=f"{name}.{part}")
            if part != "elsewhere":
                yield use
        if judge.embeds:
            yield Use(*embedder, "judge_responses_extra", name, "embedder", "weights")
