"""Checks of a checkpoint's config.json and generation_config.json."""

import logging
import re
from pathlib import Path
from typing import Any

import transformers
from transformers import AutoConfig, GenerationConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
)

from lesion.io.formats import BadFile
from lesion.models.files import (
    CONFIG,
    GENERATION,
    UnsupportedModel,
    first_line,
    read_object,
    user_file,
)

logger = logging.getLogger(__name__)

_MAPPINGS = (MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING)
_HEADS = "num_attention_heads"


def check_config(folder: Path, called: Path) -> None:
    """Check the config of a checkpoint folder, which messages name `called`.

    Raises:
        UnsupportedModel: transformers has no text-generating class for its architecture, or the
            weights are of another class.
        BadFile: it is not a valid config.
    """
    settings = read_object(folder / CONFIG)
    kind = settings.get("model_type")
    if not isinstance(kind, str):
        # transformers would guess the type from the folder's name.
        raise bad_config(called, "it has no `model_type`")
    if kind not in CONFIG_MAPPING:
        raise _unknown(called, f"`model_type` {kind}")
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        raise bad_config(called, first_line(error, folder, called)) from error
    entries: list[Any] = [mapping[type(config)] for mapping in _MAPPINGS if type(config) in mapping]
    classes = {(entry[0] if isinstance(entry, tuple) else entry).__name__ for entry in entries}
    if not classes:
        raise _unknown(called, f"`model_type` {kind}")
    _check_class(settings, classes, called)
    text = config.get_text_config(decoder=True)
    names = {_HEADS, type(text).attribute_map.get(_HEADS, _HEADS)}
    if text is config and hasattr(config, _HEADS) and not names & settings.keys():
        # Every number of heads fits the shapes of the weights.
        raise bad_config(called, f"it has no `{_HEADS}`")


def _unknown(called: Path, what: str) -> UnsupportedModel:
    return UnsupportedModel(
        f"{called}: transformers does not know this architecture as a causal language model "
        f"({what}). Models that need their own code are not run."
    )


def bad_config(called: Path, why: str) -> BadFile:
    """The error for a config from which no model can be made."""
    remedy = "Copy the file again from where the weights are from."
    if re.search("flash|attn_implementation", why, re.IGNORECASE):
        remedy = "Remove `attn_implementation` and `_attn_implementation` from the file."
    path, reason = user_file(called, CONFIG), why.rstrip(".")
    return BadFile(f"{path}: no model can be built from it: {reason}. {remedy}")


def _check_class(settings: dict[str, Any], classes: set[str], called: Path) -> None:
    """Refuse weights of another class: a classifier, an embedder, a class with its own code."""
    written = settings.get("architectures") or []
    if not isinstance(written, list):
        raise bad_config(called, "its `architectures` are no list")
    if not written or classes & set(map(str, written)):
        return
    name = str(written[0])
    wanted = " or ".join(sorted(classes))
    if hasattr(transformers, name):
        raise UnsupportedModel(
            f"{called}: by `architectures` of its {CONFIG} the weights are of {name}, and a "
            f"{settings['model_type']} that writes text is {wanted}. Give a causal language model."
        )
    if "auto_map" in settings:
        raise UnsupportedModel(
            f"{called}: its model is {name}, which comes with its own code (`auto_map` of its "
            f"{CONFIG}). Models that need their own code are not run; is there a version for "
            f"transformers' {wanted}?"
        )
    logger.warning(f"{called}: {CONFIG} names {name}, and {wanted} is opened")


def check_stops(folder: Path, model: PreTrainedModel, called: Path, rows: int) -> None:
    """Refuse settings of generation that cannot be read, or that end answers at no known token.

    `rows` is the number of rows of the embedding of `model`, which was opened from `folder`.

    Raises:
        BadFile: there are such settings.
    """
    name, ends = CONFIG, getattr(model.config, "eos_token_id", None)
    if (folder / GENERATION).is_file():
        # transformers ignores a file that it cannot read.
        name = GENERATION
        try:
            ends = GenerationConfig.from_pretrained(folder).eos_token_id
        except Exception as error:
            raise _bad_stops(called, name, first_line(error, folder, called)) from error
    for end in ends if isinstance(ends, list) else [ends]:
        if end is not None and not (type(end) is int and 0 <= end < rows):
            raise _bad_stops(called, name, f"`eos_token_id` {end!r} is none of its {rows} tokens")


def _bad_stops(called: Path, name: str, why: str) -> BadFile:
    return BadFile(
        f"{user_file(called, name)}: does not say where an answer ends: {why}. Copy the file again "
        "from where the weights are from."
    )
