"""Every file of a checkpoint, damaged in every way that we know of: refused by name, or no change.

`prepare` and what opens its folder have to say which of the user's files is wrong, or the model in
memory is the clean one to the bit: weights, logits, tokens, rendered prompt, and where it stops.
A damage that nobody could tell from another legal checkpoint is listed with the reason.
"""

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import (
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from lesion.io.formats import LesionError
from lesion.models.generate import stop_tokens
from lesion.models.load import load
from lesion.models.prepare import prepare
from lesion.models.text import encode_prompt
from lesion.study.job import Device
from lesion_testing.damage import FILE_DAMAGES, JSON_DAMAGES, TEXT_DAMAGES, Damage
from lesion_testing.gguf_file import write_gguf
from lesion_testing.tokenizers import trained_byte_level

pytestmark = pytest.mark.slow

SPECIAL = ["<unk>", "<s>", "<|end|>", "<|user|>", "<|assistant|>"]
END = SPECIAL.index("<|end|>")
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}\n"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TEXT = "the quick brown fox jumps over the lazy dog and the duck hides the sofa "
PROMPT = "the duck hides <|user|> the sofa"
PROBE = [[5, 9, 3, 11, 7, 2, 8]]
HOLE = "model.layers.1.mlp.down_proj.weight"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

Change = Callable[[Path], object]


def _tokenizer() -> Tokenizer:
    return trained_byte_level([TEXT], SPECIAL, 320)


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _model(tokens: int) -> PreTrainedModel:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=tokens,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=64,
            initializer_range=0.3,
            bos_token_id=1,
            eos_token_id=END,
            pad_token_id=None,
            tie_word_embeddings=False,
        )
    )


def _llama(folder: Path, **how: Any) -> None:
    """As `save_pretrained` writes it, and with the files that older versions write."""
    backend = _tokenizer()
    PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="<|end|>",
        additional_special_tokens=SPECIAL[3:],
        chat_template=TEMPLATE,
    ).save_pretrained(folder)
    _model(backend.get_vocab_size()).save_pretrained(folder, **how)
    _edit(folder / "generation_config.json", eos_token_id=[END, 10])
    names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "<|end|>"}
    _write(folder / "special_tokens_map.json", {**names, "additional_special_tokens": SPECIAL[3:]})
    _write(folder / "added_tokens.json", {word: place for place, word in enumerate(SPECIAL)})
    _write(folder / "chat_template.json", {"chat_template": TEMPLATE})


def _sharded(folder: Path) -> None:
    _llama(folder, max_shard_size="20KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2


def _tied(folder: Path) -> None:
    _llama(folder)
    _edit(folder / "config.json", tie_word_embeddings=True)
    with _tensors(folder) as weights:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()


def _gpt2(folder: Path) -> None:
    """As GPT-2's own: a vocabulary and its merges; the template is among the settings."""
    backend = _tokenizer()
    folder.mkdir()
    backend.model.save(str(folder))
    tokens = backend.get_vocab_size()
    added = {
        str(place): {"content": word, "special": True, "normalized": False}
        | dict.fromkeys(("lstrip", "rstrip", "single_word"), False)
        for place, word in enumerate(SPECIAL)
    }
    _write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "GPT2Tokenizer",
            "added_tokens_decoder": added,
            "unk_token": "<unk>",
            "bos_token": "<s>",
            "eos_token": "<|end|>",
            "chat_template": TEMPLATE,
        },
    )
    torch.manual_seed(1)
    GPT2LMHeadModel(
        GPT2Config(
            vocab_size=tokens,
            n_embd=24,
            n_layer=2,
            n_head=2,
            n_positions=64,
            initializer_range=0.3,
            bos_token_id=1,
            eos_token_id=END,
        )
    ).save_pretrained(folder)


def _write_gguf(path: Path, **how: Any) -> None:
    backend = _tokenizer()
    words = sorted(backend.get_vocab(), key=backend.get_vocab().__getitem__)
    merges = [" ".join(pair) for pair in json.loads(backend.to_str())["model"]["merges"]]
    how |= {"special": SPECIAL, "merges": merges, "template": TEMPLATE}
    write_gguf(path, _model(len(words)), words, END, **how)


def _gguf(folder: Path) -> None:
    folder.mkdir()
    _write_gguf(folder / "tiny.gguf")


BASES: dict[str, Callable[[Path], None]] = {
    "whole": _llama,
    "shards": _sharded,
    "tied": _tied,
    "gpt2": _gpt2,
    "gguf": _gguf,
}


class Seen(NamedTuple):
    """All that a study takes from a prepared model."""

    weights: dict[str, torch.Tensor]
    logits: torch.Tensor
    tokens: list[int]
    prompt: str
    prompt_tokens: list[int]
    decoded: str
    stops: list[int]


def _seen(source: Path, out: Path) -> Seen:
    prepare(source, out, dtype="float32", license_="mit")
    loaded = load(out, Device(dtype="float32"))
    model, tokenizer = loaded.model, loaded.tokenizer
    tokens = tokenizer(TEXT + PROMPT)["input_ids"]
    prompt = loaded.chat.render(PROMPT)
    return Seen(
        dict(model.state_dict()),
        model(torch.tensor(PROBE)).logits,
        tokens,
        prompt,
        encode_prompt(loaded.chat, PROMPT),
        tokenizer.decode(tokens, skip_special_tokens=True),
        stop_tokens(model.generation_config, loaded.chat),
    )


def _differing(one: Seen, other: Seen) -> list[str]:
    """What of the two differs."""
    found = [name for name in Seen._fields[2:] if getattr(one, name) != getattr(other, name)]
    if one.weights.keys() != other.weights.keys() or any(
        not torch.equal(weight, other.weights[name]) for name, weight in one.weights.items()
    ):
        found.append("weights")
    if not torch.equal(one.logits, other.logits):
        found.append("logits")
    return found


class Clean(NamedTuple):
    """An undamaged checkpoint, and what a study takes from it."""

    source: Path
    seen: Seen


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Clean]:
    made: dict[str, Clean] = {}

    def get(base: str) -> Clean:
        if base not in made:
            folder = tmp_path_factory.mktemp(base)
            BASES[base](folder / "source")
            made[base] = Clean(
                folder / "source", _seen(_source(base, folder / "source"), folder / "out")
            )
        return made[base]

    return get


def _source(base: str, folder: Path) -> Path:
    """What the user names: the folder, or the one GGUF file in it."""
    return next(folder.glob("*.gguf")) if base == "gguf" else folder


# What is done to a folder.


def _bytes(name: str, damage: Damage) -> Change:
    def change(folder: Path) -> None:
        path = folder / name
        path.write_bytes(damage(path.read_bytes()))

    return change


def _edit(path: Path, **values: Any) -> None:
    _write(path, {**_read(path), **values})


def _set(name: str, **values: Any) -> Change:
    return lambda folder: _edit(folder / name, **values)


def _without(name: str, key: str) -> Change:
    def change(folder: Path) -> None:
        value = _read(folder / name)
        del value[key]
        _write(folder / name, value)

    return change


def _delete(*names: str) -> Change:
    return lambda folder: [(folder / name).unlink() for name in names]


def _rename(old: str, new: str) -> Change:
    return lambda folder: (folder / old).rename(folder / new)


def _copy(old: str, new: str) -> Change:
    return lambda folder: shutil.copyfile(folder / old, folder / new)


class _tensors:  # noqa: N801 - reads as the verb that it is
    """The tensors of a file, to be changed in place and written back."""

    def __init__(self, folder: Path, name: str = WEIGHTS) -> None:
        self.path = folder / name
        self.weights = load_file(self.path) if self.path.exists() else {}

    def __enter__(self) -> dict[str, torch.Tensor]:
        return self.weights

    def __exit__(self, *error: object) -> None:
        save_file(self.weights, self.path, {"format": "pt"})


def _weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Change:
    def changed(folder: Path) -> None:
        with _tensors(folder) as weights:
            change(weights)

    return changed


def _prefixed(prefix: str) -> Change:
    def change(weights: dict[str, torch.Tensor]) -> None:
        for name in list(weights):
            weights[prefix + name] = weights.pop(name)

    return _weights(change)


def _stripped(prefix: str) -> Change:
    def change(weights: dict[str, torch.Tensor]) -> None:
        for name in list(weights):
            weights[name.removeprefix(prefix)] = weights.pop(name)

    return _weights(change)


def _put(name: str, value: Callable[[torch.Tensor], torch.Tensor]) -> Change:
    return _weights(lambda weights: weights.update({name: value(weights[name]).contiguous()}))


def _with(value: float) -> Change:
    def damage(weight: torch.Tensor) -> torch.Tensor:
        weight[3, 5] = value
        return weight

    return _put(HOLE, damage)


def _moved(old: str, new: str) -> Change:
    return _weights(lambda weights: weights.update({new: weights.pop(old)}))


def _add(name: str, key: str = "extra.weight") -> Change:
    """Another file with a tensor of its own."""

    def change(folder: Path) -> None:
        with _tensors(folder, name) as weights:
            weights[key] = torch.ones(2, 2)

    return change


def _text(name: str, text: str) -> Change:
    return lambda folder: (folder / name).write_text(text, encoding="utf-8")


def _chain(*changes: Change) -> Change:
    return lambda folder: [change(folder) for change in changes]


def _lora(weights: dict[str, torch.Tensor]) -> None:
    for name in list(weights):
        if "q_proj" in name:
            own = name.removesuffix(".weight")
            weights[f"{own}.base_layer.weight"] = weights.pop(name)
            weights[f"{own}.lora_A.default.weight"] = torch.ones(2, 16)
            weights[f"{own}.lora_B.default.weight"] = torch.ones(16, 2)


def _pruned(weights: dict[str, torch.Tensor]) -> None:
    weights[f"{HOLE}_mask"] = torch.ones_like(weights[HOLE])
    weights[f"{HOLE}_orig"] = weights.pop(HOLE)


def _packed(weights: dict[str, torch.Tensor]) -> None:
    weights[HOLE.replace("weight", "qweight")] = weights.pop(HOLE).to(torch.int32)


def _remap(change: Callable[[dict[str, str]], object]) -> Change:
    def changed(folder: Path) -> None:
        value = _read(folder / INDEX)
        change(value["weight_map"])
        _write(folder / INDEX, value)

    return changed


def _shard(number: int) -> Callable[[Path], Path]:
    return lambda folder: sorted(folder.glob("model-*.safetensors"))[number]


def _of_shard(number: int, change: Callable[[Path], object]) -> Change:
    return lambda folder: change(_shard(number)(folder))


def _twice_in_shards(folder: Path) -> None:
    first, last = _shard(0)(folder), _shard(-1)(folder)
    name = next(iter(load_file(first)))
    with _tensors(folder, last.name) as weights:
        weights[name] = load_file(first)[name] + 1


def _joined(folder: Path) -> dict[str, torch.Tensor]:
    return {
        name: one
        for path in folder.glob("model-*.safetensors")
        for name, one in load_file(path).items()
    }


def _both(folder: Path) -> None:
    save_file(_joined(folder), folder / WEIGHTS, {"format": "pt"})


def _both_unlike(folder: Path) -> None:
    weights = _joined(folder)
    weights[HOLE] = weights[HOLE] + 1
    save_file(weights, folder / WEIGHTS, {"format": "pt"})


def _tokenizer_of(**values: Any) -> Change:
    def change(folder: Path) -> None:
        path = folder / "tokenizer.json"
        value = _read(path)
        for key, one in values.items():
            at = value
            *way, last = key.split("__")
            for step in way:
                at = at[step]
            at[last] = one
        _write(path, value)

    return change


def _more_tokens(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|extra|>"]})
    tokenizer.save_pretrained(folder)


def _gguf_again(name: str = "tiny.gguf", **how: Any) -> Change:
    def change(folder: Path) -> None:
        (folder / "tiny.gguf").unlink()
        _write_gguf(folder / name, **how)

    return change


def _head(by: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    return lambda name, weight: by(weight) if name == "lm_head.weight" else weight


# The table: base, damage, what it does.

Row = tuple[str, str, Change]
OBJECTS = {
    "whole": (
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "chat_template.json",
    ),
    "shards": (INDEX,),
    "gpt2": ("vocab.json", "tokenizer_config.json"),
}
TEXTS = {"whole": ("chat_template.jinja",), "gpt2": ("merges.txt",)}
BINARIES = {"whole": (WEIGHTS,), "gguf": ("tiny.gguf",)}


def _of_bytes() -> Iterator[Row]:
    for base, names in OBJECTS.items():
        for name in names:
            for damages in (FILE_DAMAGES, TEXT_DAMAGES, JSON_DAMAGES):
                for how, damage in damages.items():
                    yield base, f"{name}: {how}", _bytes(name, damage)
    for base, names in TEXTS.items():
        for name in names:
            for damages in (FILE_DAMAGES, TEXT_DAMAGES):
                for how, damage in damages.items():
                    yield base, f"{name}: {how}", _bytes(name, damage)
    for base, names in BINARIES.items():
        for name in names:
            for how, damage in FILE_DAMAGES.items():
                yield base, f"{name}: {how}", _bytes(name, damage)
    for how, damage in FILE_DAMAGES.items():
        yield (
            "shards",
            f"a shard: {how}",
            _of_shard(1, lambda path, damage=damage: path.write_bytes(damage(path.read_bytes()))),
        )


def _of_presence() -> Iterator[Row]:
    for base, names in (OBJECTS | {"whole": (*OBJECTS["whole"], WEIGHTS)}).items():
        for name in names:
            yield base, f"{name}: deleted", _delete(name)
            yield base, f"{name}: renamed", _rename(name, f"{name}.bak")
            yield base, f"{name}: kept twice", _copy(name, f"copy of {name}")
    yield "whole", "chat_template.jinja: deleted", _delete("chat_template.jinja")
    yield "gpt2", "merges.txt: deleted", _delete("merges.txt")
    yield "shards", "a shard: deleted", _of_shard(1, Path.unlink)
    yield (
        "shards",
        "a shard: renamed",
        _of_shard(1, lambda path: path.rename(path.with_name("other.safetensors"))),
    )
    yield (
        "shards",
        "a shard: kept twice",
        _of_shard(1, lambda path: shutil.copyfile(path, path.with_name("model-9.safetensors"))),
    )
    yield (
        "whole",
        "a dangling link",
        _chain(_delete(WEIGHTS), lambda folder: (folder / WEIGHTS).symlink_to("../blobs/gone")),
    )
    yield (
        "whole",
        "no tokenizer at all",
        lambda folder: [
            path.unlink()
            for path in folder.iterdir()
            if "token" in path.name or "chat" in path.name
        ],
    )


CONFIG_VALUES: dict[str, tuple[Any, ...]] = {
    "hidden_size": ("16", 17, 32, None, 0),
    "intermediate_size": (25, None, "24"),
    "num_hidden_layers": (1, 3, "2", 0),
    "num_attention_heads": ("2", 0, 3),
    "num_key_value_heads": (1, 5),
    "vocab_size": (-1, 1, "300"),
    "rms_norm_eps": ("1e-06",),
    "model_type": ("gpt2", "mistrall", None, 7, "t5", "bert"),
    "architectures": (
        ["LlamaForSequenceClassification"],
        ["LlamaModel"],
        ["T5ForConditionalGeneration"],
        ["MistralForCausalLM"],
        "LlamaForCausalLM",
        None,
    ),
    "quantization_config": (
        {"quant_method": "gptq", "bits": 4},
        {"quant_method": "bitsandbytes", "load_in_4bit": True},
        {"quant_method": "fp8"},
        {"quant_method": "awq", "bits": 4},
    ),
    "dtype": ("float16", "bfloat16", "float64", "banana"),
    "torch_dtype": ("float16",),
    "tie_word_embeddings": (True, "false"),
    "transformers_weights": ("other.safetensors",),
    "is_encoder_decoder": (True,),
    "eos_token_id": ("2",),
    "rope_parameters": ("linear", {"rope_type": "nonesuch", "rope_theta": 1e4}),
    "max_position_embeddings": ("64",),
    "hidden_act": ("nonesuch", None),
    "pad_token_id": (99999,),
    "attention_bias": ("no", True),
    "tokenizer_class": ("NonesuchTokenizer",),
    "name_or_path": ("somewhere/else",),
}


def _of_values() -> Iterator[Row]:
    for key, values in CONFIG_VALUES.items():
        for value in values:
            yield (
                "whole",
                f"config.json: {key} {json.dumps(value)}",
                _set("config.json", **{key: value}),
            )
    for key in ("model_type", "hidden_size", "num_attention_heads", "vocab_size", "architectures"):
        yield "whole", f"config.json: without {key}", _without("config.json", key)
    yield "gpt2", "config.json: without n_head", _without("config.json", "n_head")
    for name, value in (("off by one", 1), ("off by minus one", -1)):
        yield (
            "whole",
            f"config.json: vocab_size {name}",
            lambda folder, value=value: _edit(
                folder / "config.json",
                vocab_size=_read(folder / "config.json")["vocab_size"] + value,
            ),
        )
    yield (
        "whole",
        "config.json: its own code",
        _set(
            "config.json",
            architectures=["OwnForCausalLM"],
            auto_map={"AutoModelForCausalLM": "own.OwnForCausalLM"},
        ),
    )
    for value in ("2", [2, "3"], 99999, -1, [2, 99999], 2.5, [[2]], {"id": 2}, True, None):
        yield (
            "whole",
            f"generation_config.json: eos_token_id {json.dumps(value)}",
            _set("generation_config.json", eos_token_id=value),
        )
    for key, value in (
        ("max_new_tokens", "many"),
        ("temperature", "warm"),
        ("do_sample", True),
        ("nonesuch", 1),
    ):
        yield (
            "whole",
            f"generation_config.json: {key} {json.dumps(value)}",
            _set("generation_config.json", **{key: value}),
        )
    for key, value in (
        ("tokenizer_class", "NonesuchTokenizer"),
        ("tokenizer_class", 7),
        ("tokenizer_class", None),
        ("tokenizer_class", "LlamaTokenizer"),
        ("tokenizer_class", "BertTokenizer"),
        ("auto_map", {"AutoTokenizer": ["own.Own", None]}),
        ("eos_token", 7),
        ("eos_token", "<|nonesuch|>"),
        ("unk_token", ["<unk>"]),
        ("added_tokens_decoder", None),
        ("added_tokens_decoder", {"two": "<|end|>"}),
        ("added_tokens_decoder", {"99999": {"content": "<|far|>", "special": True}}),
        ("chat_template", 7),
        ("chat_template", "{% if %}"),
        ("model_max_length", "many"),
        ("extra_special_tokens", 7),
    ):
        yield (
            "whole",
            f"tokenizer_config.json: {key} {json.dumps(value)}",
            _set("tokenizer_config.json", **{key: value}),
        )
    for value in (7, "", "{% if %}", "{{ messages | nonesuch }}", "no variables", [7], {"a": "b"}):
        yield (
            "gpt2",
            f"tokenizer_config.json: chat_template {json.dumps(value)}",
            _set("tokenizer_config.json", chat_template=value),
        )
    for how, change in {
        "no merges": _tokenizer_of(model__merges=[]),
        "no vocabulary": _tokenizer_of(model__vocab={}),
        "no model": _tokenizer_of(model=None),
        "another model": _tokenizer_of(model__type="Nonesuch"),
        "no decoder": _tokenizer_of(decoder=None),
        "no pre-tokenizer": _tokenizer_of(pre_tokenizer=None),
        "no added tokens": _tokenizer_of(added_tokens=[]),
        "an id beyond": _more_tokens,
    }.items():
        yield "whole", f"tokenizer.json: {how}", change
    for name in ("special_tokens_map.json", "added_tokens.json"):
        for value in ({"<|end|>": "two"}, {"eos_token": 7}, {"<|new|>": 99999}):
            yield (
                "whole",
                f"{name}: {json.dumps(value)}",
                lambda folder, name=name, value=value: _write(folder / name, value),
            )


def _of_tensors() -> Iterator[Row]:
    for prefix in (
        "_orig_mod.",
        "module.",
        "base_model.model.",
        "model.",
        "any.",
        "_fsdp_wrapped_module.",
    ):
        yield "whole", f"names: {prefix} before", _prefixed(prefix)
        yield "gpt2", f"names: {prefix} before", _prefixed(prefix)
    yield "whole", "names: without model.", _stripped("model.")
    yield "gpt2", "names: without transformer.", _stripped("transformer.")
    for name in (
        HOLE,
        "lm_head.weight",
        "model.embed_tokens.weight",
        "model.norm.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.0.input_layernorm.weight",
    ):
        yield "whole", f"lost: {name}", _weights(lambda weights, name=name: weights.pop(name))
        yield "whole", f"renamed: {name}", _moved(name, name.replace("weight", "wight"))
    yield (
        "whole",
        "lost: a layer",
        _weights(
            lambda weights: [weights.pop(name) for name in list(weights) if ".layers.1." in name]
        ),
    )
    yield "whole", "lost: all", _weights(lambda weights: weights.clear())
    yield "tied", "lost: lm_head.weight", _weights(lambda weights: weights.pop("lm_head.weight"))
    yield (
        "tied",
        "lost: model.embed_tokens.weight",
        _weights(lambda weights: weights.pop("model.embed_tokens.weight")),
    )
    yield (
        "tied",
        "lost: both",
        _weights(
            lambda weights: [
                weights.pop("lm_head.weight"),
                weights.pop("model.embed_tokens.weight"),
            ]
        ),
    )
    yield "tied", "a head of its own", _put("lm_head.weight", lambda weight: weight + 1)
    yield (
        "tied",
        "config.json: without tie_word_embeddings",
        _without("config.json", "tie_word_embeddings"),
    )
    for name, key in (
        ("another layer", "model.layers.2.mlp.down_proj.weight"),
        ("a classifier", "score.weight"),
        ("a bias", "model.layers.0.self_attn.q_proj.bias"),
        ("a tower", "vision_tower.patch.weight"),
        ("further tokens", "mtp.layers.0.weight"),
    ):
        yield (
            "whole",
            f"more: {name}",
            _weights(lambda weights, key=key: weights.update({key: torch.ones(4, 4)})),
        )
    for key in ("model.layers.0.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq"):
        yield (
            "whole",
            f"more: the buffer {key}",
            _weights(lambda weights, key=key: weights.update({key: torch.ones(4)})),
        )
    for key in ("transformer.h.0.attn.bias", "h.1.attn.masked_bias"):
        yield (
            "gpt2",
            f"more: the buffer {key}",
            _weights(lambda weights, key=key: weights.update({key: torch.ones(4)})),
        )
    yield (
        "gpt2",
        "more: a weight without its prefix",
        _weights(lambda weights: weights.update({"h.0.ln_1.weight": torch.ones(24) * 3})),
    )
    yield "whole", "reshaped: transposed", _put(HOLE, lambda weight: weight.T)
    yield "whole", "reshaped: flat", _put(HOLE, lambda weight: weight.flatten())
    yield "whole", "reshaped: a row less", _put(HOLE, lambda weight: weight[1:].clone())
    yield "whole", "reshaped: a dimension more", _put(HOLE, lambda weight: weight[None])
    yield (
        "whole",
        "reshaped: rows more in the embedding",
        _put("model.embed_tokens.weight", lambda weight: torch.cat([weight, weight])),
    )
    for dtype in (torch.float8_e4m3fn, torch.int8, torch.uint8, torch.int32):
        yield "whole", f"retyped: {dtype}", _put(HOLE, lambda weight, dtype=dtype: weight.to(dtype))
    yield "whole", "retyped: torch.float64", _put(HOLE, lambda weight: weight.double())
    for value in (float("nan"), float("inf"), float("-inf")):
        yield "whole", f"a value: {value}", _with(value)
    yield (
        "whole",
        "a value: nan in a norm",
        _put("model.norm.weight", lambda weight: weight * float("nan")),
    )
    yield "whole", "a matrix of zeros", _put(HOLE, torch.zeros_like)
    yield "whole", "an adapter not merged", _weights(_lora)
    yield "whole", "pruned and not made plain", _weights(_pruned)
    yield "whole", "packed", _weights(_packed)


def _of_neighbours() -> Iterator[Row]:
    adapter = {"peft_type": "LORA", "base_model_name_or_path": "nowhere/nothing", "r": 2}
    put_adapter = _chain(
        _add("adapter_model.safetensors", "base_model.model.x.lora_A.weight"),
        lambda folder: _write(folder / "adapter_config.json", adapter),
    )
    yield "whole", "beside: an adapter", put_adapter
    yield "whole", "beside: an adapter's weights", _add("adapter_model.safetensors")
    yield "whole", "an adapter alone", _chain(_delete(WEIGHTS), put_adapter)
    yield (
        "whole",
        "an adapter's weights alone",
        _chain(_delete(WEIGHTS), _add("adapter_model.safetensors")),
    )
    for base in ("whole", "shards"):
        for name in ("optimizer.safetensors", "consolidated.safetensors", "vae.safetensors"):
            yield base, f"beside: {name}", _add(name)
        yield base, "beside: training_args.bin", _text("training_args.bin", "\x80")
        yield base, "beside: code", _text("modeling_llama.py", "raise SystemExit\n")
        yield base, "beside: another tool's JSON", _text("trainer_state.json", "[1, 2")
        yield (
            base,
            "beside: an original/ folder",
            lambda folder: shutil.copytree(folder, folder / "original"),
        )
    yield (
        "whole",
        "beside: shards of another save",
        _chain(
            _add("model-00001-of-00002.safetensors", HOLE), _add("model-00002-of-00002.safetensors")
        ),
    )
    yield "whole", "beside: a broken leftover", _text("old.safetensors", "no")
    yield "whole", "beside: a GGUF file", _text("model.gguf", "GGUF")
    yield (
        "whole",
        "an index of files that are gone",
        lambda folder: _write(
            folder / INDEX,
            {"metadata": {}, "weight_map": {HOLE: "model-00001-of-00002.safetensors"}},
        ),
    )
    yield "shards", "the whole file too", _both
    yield "shards", "the whole file too, and unlike", _both_unlike
    yield "shards", "a tensor in two shards", _twice_in_shards
    yield (
        "shards",
        "the index: a file elsewhere",
        _remap(lambda names: names.update({HOLE: "../model.safetensors"})),
    )
    yield "shards", "the index: no names", _remap(lambda names: names.clear())
    yield "shards", "the index: a name lost", _remap(lambda names: names.pop(HOLE))
    yield (
        "shards",
        "the index: a name of no tensor",
        _remap(lambda names: names.update({"none.weight": next(iter(names.values()))})),
    )
    yield (
        "shards",
        "the index: a file lost",
        _remap(
            lambda names: [
                names.pop(name) for name, file in list(names.items()) if "00002-of" in file
            ]
        ),
    )
    yield (
        "shards",
        "a shard: of another model",
        _of_shard(
            1, lambda path: save_file({"other.weight": torch.ones(2)}, path, {"format": "pt"})
        ),
    )
    yield "whole", "weights: of another name", _rename(WEIGHTS, "pytorch_model.safetensors")
    yield "whole", "weights: of another variant", _rename(WEIGHTS, "model.fp16.safetensors")
    yield "whole", "weights: Mistral's own", _rename(WEIGHTS, "consolidated.safetensors")
    yield "whole", "weights: pickles", _chain(_delete(WEIGHTS), _text("pytorch_model.bin", "\x80"))
    yield (
        "whole",
        "weights: GGUF files",
        _chain(_delete(WEIGHTS), _text("a.gguf", "GGUF"), _text("b.gguf", "GGUF")),
    )
    for name, data in (
        ("sentencepiece", b"\x0a\x0e\x0a\x05<unk>\x15\0\0\0\0\x18\x02"),
        ("tiktoken", b"IQ== 0\n"),
    ):
        yield (
            "whole",
            f"tokenizer.model alone: {name}",
            _chain(
                _delete("tokenizer.json"),
                lambda folder, data=data: (folder / "tokenizer.model").write_bytes(data),
            ),
        )


def _of_gguf() -> Iterator[Row]:
    yield "gguf", "of two parts, by its name", _gguf_again("tiny-00001-of-00002.gguf")
    yield (
        "gguf",
        "of two parts, by its header",
        _gguf_again(more=lambda writer: writer.add_uint16("split.count", 2)),
    )
    yield "gguf", "of one part", _gguf_again("tiny-00001-of-00001.gguf")
    for name in (HOLE, "model.embed_tokens.weight", "model.norm.weight"):
        yield "gguf", f"lost: {name}", _gguf_again(keep=lambda own, name=name: own != name)
    yield "gguf", "lost: a layer", _gguf_again(keep=lambda own: ".layers.1." not in own)
    yield (
        "gguf",
        "more: a tensor",
        _gguf_again(
            more=lambda writer: writer.add_tensor(
                "rope_freqs.weight", torch.full((4,), 2.0).numpy()
            )
        ),
    )
    yield "gguf", "a value: nan", _gguf_again(change=_head(lambda weight: weight * float("nan")))
    yield "gguf", "reshaped", _gguf_again(change=_head(lambda weight: weight[:, :8].clone()))
    yield (
        "gguf",
        "an adapter",
        _gguf_again(more=lambda writer: writer.add_string("general.type", "adapter")),
    )
    yield "gguf", "beside: a config", _text("config.json", '{"model_type": "gpt2"}')
    yield "gguf", "beside: a template", _text("chat_template.jinja", "other {{ messages }}")
    yield (
        "gguf",
        "beside: settings of a tokenizer",
        _text("tokenizer_config.json", '{"eos_token": "<s>", "tokenizer_class": "BertTokenizer"}'),
    )
    yield (
        "gguf",
        "beside: settings of generation",
        _text("generation_config.json", '{"eos_token_id": 3}'),
    )
    yield (
        "gguf",
        "beside: an adapter",
        _text("adapter_config.json", '{"peft_type": "LORA", "base_model_name_or_path": "nowhere"}'),
    )


ROWS: dict[str, tuple[str, Change]] = {
    f"{base}: {what}": (base, change)
    for rows in (
        _of_bytes(),
        _of_presence(),
        _of_values(),
        _of_tensors(),
        _of_neighbours(),
        _of_gguf(),
    )
    for base, what, change in rows
}


LEGAL = {
    "whole: generation_config.json: deleted": "many have none, and stop as config.json says",
    "whole: generation_config.json: renamed": "the same",
    "whole: generation_config.json: eos_token_id null": "the same, of one key",
    "whole: chat_template.jinja: deleted": "a base model has none",
    "whole: chat_template.jinja: twice": "a template may write its messages twice",
    "gpt2: tokenizer_config.json: deleted": "GPT-2's own first checkpoints have none",
    "gpt2: tokenizer_config.json: renamed": "the same",
    "whole: tokenizer.json: no pre-tokenizer": "there are tokenizers without one",
}
"""Damages that make another checkpoint, which nobody can tell from a legal one: they open."""

HARMLESS = (
    # What is left is the same JSON: transformers ends it with a newline.
    r"(_config|special_tokens_map|added_tokens|chat_template|index|: config)\.json: last byte",
    r"merges\.txt: last byte gone",
    r"(json|jinja|txt): Windows line ends",
    r"(json|jinja): blank lines at the end",
    r"kept twice",
    r"beside: (?!an adapter$)",
    r"gguf: beside: an adapter",
    # Old files that say again what newer ones say.
    r"(special_tokens_map|added_tokens|chat_template)\.json: (deleted|renamed|no keys)",
    r"(special_tokens_map|chat_template)\.json: nested",
    r"special_tokens_map\.json: \{.*(two|99999)",
    r"whole: tokenizer_config\.json: (deleted|renamed)",
    r"tokenizer_config\.json: (eos_token .*nonesuch|unk_token|auto_map)",
    r"whole: tokenizer_config\.json: chat_template",
    r"tokenizer\.json: no added tokens",
    # What another key, file or class decides.
    r"tokenizer_class (\"Nonesuch|null|\"Llama)",
    r": config\.json: (architectures null|without arch|dtype \"(bf|fl)|torch_dtype|name_or_path)",
    r"generation_config\.json: (temperature|do_sample|nonesuch)",
    r"whole: names: (model\. before|without model\.)|gpt2: names: without transformer\.",
    r"tied: (lost: (lm_head|model)|config)",
    r"more: the buffer",
    r"retyped: torch\.float64",
    r"an index of files that are gone|shards: the whole file too$|the index: a name",
    r"gguf: of one part|gguf: tiny\.gguf: twice|merges\.txt: twice",
)
"""Damages that change nothing that is read: the prepared model is the clean one."""

SAID = {
    r"git-lfs pointer": r"pointer .* git-lfs .*`git lfs pull`",
    r"names: _orig_mod\. before": r"begin with `_orig_mod\.` \(saved from torch\.compile\): strip",
    r"names: module\. before": r"begin with `module\.` .*strip the prefix",
    r"names: base_model\.model\. before": r"begin with `base_model\.model\.` \(saved from peft\)",
    r"whole: lost: model\.layers\.1": r"the files lack `model\.layers\.1\.mlp\.down_proj\.weight`",
    r"whole: lost: lm_head": r"the files lack `lm_head\.weight`, which would be random",
    r"lost: a layer": r"lack `model\.layers\.1\.self_attn\.q_proj\.weight` \(and 8 more\)",
    r"more: a classifier": r"hold `score\.weight`, which LlamaForCausalLM does not have",
    r"reshaped: transposed": r"down_proj\.weight` is \[24, 16\] in the files",
    r"retyped: torch\.float8": r"is stored as F8_E4M3: quantised weights",
    r"a value: ": r"holds values that are not finite",
    r"a matrix of zeros": r"is zero throughout",
    r"an adapter not merged": r"an adapter of peft that was not merged",
    r"pruned and not made plain": r"prune\.remove",
    r"whole: packed|quantization_config": r"quantised",
    r"beside: an adapter$": r"adapter_config\.json: an adapter lies beside the weights",
    r"an adapter( alone|'s weights alone)": r"holds an adapter .* and no model\. Merge",
    r"the whole file too, and unlike": r"holds two checkpoints",
    r"a tensor in two shards": r"is stored both in model-00001.* and in model-00003",
    r"a shard: (deleted|renamed)": r"names files of weights that are not there: model-00002",
    r"weights: Mistral": r"Mistral's own format",
    r"weights: of another": r"neither model\.safetensors nor model\.safetensors\.index\.json",
    r"weights: pickles": r"only pytorch_model\.bin, which may run code",
    r"weights: GGUF": r"holds GGUF files \(a\.gguf, b\.gguf\)\. Name one",
    r"model alone: sentencepiece": r"Run `pip install sentencepiece protobuf`",
    r"model alone: tiktoken": r"Run `pip install tiktoken`",
    r"no tokenizer at all|whole: tokenizer\.json: (deleted|renamed)": r"holds no tokenizer",
    r"merges\.txt: deleted": r"holds vocab\.json without merges\.txt",
    r"an id beyond": r"token `<\|extra\|>` is number 307, .* 307 rows",
    r"architectures .*(Sequence|LlamaModel|T5|Mistral)": r"the weights are of \w+, and a llama",
    r"its own code": r"OwnForCausalLM, which comes with its own code",
    r"without model_type": r"config\.json: .*no `model_type`",
    r"gpt2: config\.json: without n_head": r"config\.json: .*no `num_attention_heads`",
    r"a dangling link": r"model\.safetensors: is a link to \.\./blobs/gone",
    r"gguf: of two parts": r"is one of 2 parts of a model\. .*llama-gguf-split --merge",
    r"gguf: lost: model\.norm": r"tiny\.gguf: the files lack `model\.norm\.weight`",
    r"gguf: more: a tensor": r"holds `rope_freqs\.weight`",
    r"gguf: an adapter": r"holds a GGUF adapter",
    r"tied: a head of its own": r"`lm_head\.weight` is `model\.embed_tokens\.weight`.*differ",
    r"without its prefix": r"twice, as `h\.0\.ln_1\.weight` and as `transformer\.h\.0",
}
"""What the message says where it is known what has to be done."""


def test_the_table_is_long_and_its_lists_are_of_it() -> None:
    assert len(ROWS) > 500
    assert LEGAL.keys() <= ROWS.keys()
    for pattern in (*HARMLESS, *SAID):
        assert any(re.search(pattern, key) for key in ROWS), pattern


@pytest.mark.parametrize("key", ROWS)
def test_a_damaged_checkpoint_is_refused_by_name_or_is_the_clean_one(
    key: str, clean: Callable[[str], Clean], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    base, change = ROWS[key]
    whole = clean(base)
    shutil.copytree(whole.source, tmp_path / "source")
    change(tmp_path / "source")
    harmless = any(re.search(pattern, key) for pattern in HARMLESS)
    try:
        found = _seen(_source(base, tmp_path / "source"), tmp_path / "out")
    except LesionError as error:
        said = str(error)
        assert not harmless, said
        assert key not in LEGAL, said
        assert str(tmp_path / "source") in said, "the user's folder is not named"
        named = {name.split("/")[1] for name in said.split(str(tmp_path))[1:]}
        assert {re.match(r"\w*", name)[0] for name in named} == {"source"}, said  # type: ignore[index]
        for pattern, words in SAID.items():
            assert not re.search(pattern, key) or re.search(words, said), said
        assert not (tmp_path / "out").exists()
    else:
        assert harmless or key in LEGAL, f"not refused; differs: {_differing(whole.seen, found)}"
        assert key in LEGAL or not _differing(whole.seen, found)
    assert not list(scratch.iterdir())
