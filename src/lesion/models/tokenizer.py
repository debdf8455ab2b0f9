"""Checks of a checkpoint's tokenizer: it can be opened, and decodes what it encodes."""

import json
import logging
import re
from pathlib import Path

from jinja2 import TemplateSyntaxError
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from lesion.io.formats import BadFile
from lesion.models.files import UnsupportedModel, first_line, read_object, user_file

logger = logging.getLogger(__name__)

_FILE = "tokenizer.json"
_SETTINGS = "tokenizer_config.json"
PROBE = "The quick brown fox jumps over the lazy dog"
_SENTENCE = f"{PROBE}, 1234 times\nit's so"
_FIRST_WORD = 6
"""The most tokens of the first word."""
_OTHER_SENSES = re.compile("image|video|audio|vision|speech|sound", re.IGNORECASE)
_AGAIN = "Download the tokenizer's files again, or copy them from where the model is from."


def check_tokenizer(folder: Path, called: Path, rows: int, listed: int | None = None) -> None:
    """Open a folder's tokenizer, and check its round trip and the size of the embedding.

    Messages name the folder `called`. Ids must be below `rows`, the number of rows of the
    embedding; `listed` is the number of tokens in a GGUF file, without those that are added.

    Raises:
        UnsupportedModel: it needs code or a library that is missing.
        BadFile: it cannot be opened, does not decode what it encodes, or has ids without a row
            in the embedding; or a chat template is invalid.
    """
    backend = None
    if (folder / _FILE).is_file():
        try:
            backend = Tokenizer.from_file(str(folder / _FILE))
        except Exception as error:
            path, why = user_file(called, _FILE), first_line(error, folder, called)
            raise BadFile(f"{path}: is not a tokenizer ({why}). {_AGAIN}") from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        why = first_line(error, folder, called)
        raise UnsupportedModel(
            f"{called}: its tokenizer can't be opened ({why}). {_AGAIN}"
        ) from error
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    try:
        _check_round_trip(tokenizer, called)
        if backend is not None and not called.is_file():
            _check_file(tokenizer, backend, called)
    except (BadFile, MemoryError):
        raise
    except Exception as error:
        why = first_line(error, folder, called)
        raise BadFile(f"{called}: its tokenizer fails ({why}). {_AGAIN}") from error
    _check_special(tokenizer, folder, called)
    _check_ids(tokenizer, folder, called, rows, listed)
    _check_templates(tokenizer, folder, called)


def _check_file(tokenizer: PreTrainedTokenizerBase, backend: Tokenizer, called: Path) -> None:
    """Refuse a class whose tokens differ from those of its tokenizer.json, or one that lost merges.

    Some classes build their own tokenizer from its vocabulary. The first word may differ, since a
    class may add a space before it.
    """
    backend.no_padding()
    backend.no_truncation()
    wanted = backend.encode(_SENTENCE, add_special_tokens=False).ids
    ids = tokenizer(_SENTENCE, add_special_tokens=False)["input_ids"]
    if wanted[_FIRST_WORD:] != ids[len(ids) - len(wanted[_FIRST_WORD:]) :]:
        raise BadFile(
            f"{called}: {type(tokenizer).__name__}, which transformers opens as its tokenizer, "
            f"does not split text as {_FILE} does. Set `tokenizer_class` of {_SETTINGS} to the "
            "class that it was saved from, or to PreTrainedTokenizerFast."
        )
    model = json.loads(backend.to_str())["model"]
    if model.get("type") != "BPE" or model.get("ignore_merges"):
        return
    long = {word for word in model["vocab"] if len(word) > 1}
    merged = {"".join(pair) for pair in model["merges"]}
    # Tokens with their own spelling, such as `<0x0A>` and `<|end|>`, need no merge.
    marks = {word for word in long if word.startswith("<") and word.endswith(">")}
    if len(merged) < len(long) and 2 * len(long - merged - marks) > len(long):
        raise BadFile(
            f"{user_file(called, _FILE)}: has {len(merged)} merges for {len(long)} tokens, so "
            f"most of its tokens can't be made. {_AGAIN}"
        )


def _check_special(tokenizer: PreTrainedTokenizerBase, folder: Path, called: Path) -> None:
    """Refuse a token for begin or end of text that is not in the vocabulary."""
    vocabulary, path = tokenizer.get_vocab(), user_file(called, _SETTINGS)
    settings = read_object(folder / _SETTINGS) if (folder / _SETTINGS).is_file() else {}
    for name in ("bos_token", "eos_token"):
        token, written = getattr(tokenizer, name), settings.get(name)
        if token is not None and token not in vocabulary:
            raise BadFile(
                f"{path}: `{name}` is {token!r}, which the tokenizer does not have. {_AGAIN}"
            )
        if written is not None and not isinstance(written, str | dict):
            raise BadFile(f"{path}: `{name}` is {written!r}, and no text. {_AGAIN}")


def _check_round_trip(tokenizer: PreTrainedTokenizerBase, called: Path) -> None:
    """Refuse a tokenizer that changes text. A small vocabulary may lose words not in it."""
    back = _again(tokenizer, PROBE)
    if back == _letters(PROBE):
        return
    letters = iter(_letters(PROBE))
    lost = all(letter in letters for letter in back)
    own = (word for word in tokenizer.get_vocab() if word.isascii() and word.isalpha())
    if not lost or not any(_again(tokenizer, word) == _letters(word) for word in own):
        ids = tokenizer(PROBE, add_special_tokens=False)["input_ids"]
        raise BadFile(
            f"{called}: its tokenizer does not give back what it reads: {PROBE!r} becomes "
            f"{len(ids)} tokens, which say {str(tokenizer.decode(ids))[:80]!r}. {_AGAIN}"
        )


def _again(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """The letters of a text after encoding and decoding."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    back = str(tokenizer.decode(ids, skip_special_tokens=True))
    unknown = tokenizer.unk_token
    return _letters(back.replace(unknown, "") if unknown else back)


def _letters(text: str) -> str:
    """A text without spaces, which tokenizers move, and in lower case, since some drop case."""
    return "".join(text.split()).casefold()


def _check_ids(
    tokenizer: PreTrainedTokenizerBase, folder: Path, called: Path, rows: int, listed: int | None
) -> None:
    """Refuse tokens beyond the embedding, except those that no text of a study contains.

    These represent a picture or a sound (Gemma 3's smallest model has one without a row), or are
    added by a class without being in the files. They are logged.
    """
    beyond = sorted(
        (token_id, word) for word, token_id in tokenizer.get_vocab().items() if token_id >= rows
    )
    own = {word for token_id, word in beyond if listed is not None and token_id >= listed}
    if beyond:
        # Special tokens that transformers adds, such as `<|endoftext|>` for GPT-2.
        paths = (*folder.glob("*token*.json"), *folder.glob("vocab.json"))
        texts = [path.read_text("utf-8") for path in paths]
        own |= {
            word
            for word in tokenizer.all_special_tokens
            if not any(form in text for text in texts for form in {json.dumps(word), f'"{word}"'})
        }
    refused = [
        token for token in beyond if token[1] not in own and not _OTHER_SENSES.search(token[1])
    ]
    if refused:
        token_id, word = refused[0]
        more = f" (and {len(refused) - 1} more tokens)" if len(refused) > 1 else ""
        raise BadFile(
            f"{called}: the tokenizer's token `{word}` is number {token_id}{more}, and the model's "
            f"embedding has {rows} rows, 0 to {rows - 1}. Resize the embedding "
            "(`resize_token_embeddings`) and save the model again, or give it the tokenizer that "
            "it was trained with."
        )
    for token_id, word in beyond:
        logger.warning(f"{called}: token {token_id}, `{word}`, has no row in the embedding")


def _check_templates(tokenizer: PreTrainedTokenizerBase, folder: Path, called: Path) -> None:
    template = tokenizer.chat_template
    if template is None:
        return
    own = "chat_template.jinja" if (folder / "chat_template.jinja").is_file() else _SETTINGS
    path = user_file(called, own)
    for text in template.values() if isinstance(template, dict) else [template]:
        if not isinstance(text, str) or "messages" not in text:
            raise BadFile(f"{path}: its chat template does not write the `messages`. {_AGAIN}")
        try:
            tokenizer.apply_chat_template(
                [{"role": "user", "content": PROBE}],
                chat_template=text,
                tokenize=False,
                add_generation_prompt=True,
            )
        except TemplateSyntaxError as error:
            raise BadFile(
                f"{path}: its chat template is not valid Jinja ({error.message}, "
                f"line {error.lineno}). {_AGAIN}"
            ) from error
        except Exception:  # noqa: S112 - of what it is given; how it is used is checked elsewhere
            continue
