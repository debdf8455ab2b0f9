"""The variant that a job measures: a checkpoint with a mask's weights ablated in memory."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from lesion.io.formats import digest
from lesion.masks.store import Mask, read_mask
from lesion.models.layout import FlatIndices
from lesion.models.record import read_record
from lesion.study.job import Device
from lesion.study.types import Ablation

if TYPE_CHECKING:
    from lesion.models.chat import Chat
    from lesion.models.load import Loaded


def indices_digest(indices: Mapping[str, FlatIndices]) -> str:
    """Digest of the weights of a mask (flat indices by parameter)."""
    return digest({name: flat_indices.tolist() for name, flat_indices in indices.items()})


class EvaluatedVariant:
    """A variant of a model, loaded and ablated only when a row has to be computed."""

    def __init__(
        self, model: Path, mask: Path | None, device: Device, ablation: Ablation = "zero"
    ) -> None:
        """Read the mask's file; None for `unmodified`. The model is not read yet."""
        self.model, self.device, self.ablation = model, device, ablation
        self.mask = read_mask(mask) if mask else None
        self._loaded: Loaded | None = None
        self._lesion = ExitStack()

    @cached_property
    def identity(self) -> dict[str, str]:
        """The variant's part of a row's key, which also has the tokens of the prompt."""
        from lesion.models.load import precision

        checkpoint = read_record(self.model)["digest"]
        mask = indices_digest(self.mask.indices if self.mask else {})
        # Only where it decides something, so that rows made before there was a choice are reused.
        other = {} if self.ablation == "zero" or not self.mask else {"set": str(self.ablation)}
        return {"model": checkpoint, "mask": mask, **other, **precision(self.device.dtype)}

    @cached_property
    def chat(self) -> "Chat":
        """The tokenizer with its chat format; no weights are loaded."""
        from lesion.models.load import open_chat

        return open_chat(self.model)

    @cached_property
    def context(self) -> int:
        """The model's maximum context length in tokens."""
        from lesion.models.load import open_context

        return open_context(self.model)

    def load(self) -> "Loaded":
        """The model with the mask's weights ablated, and its tokenizer."""
        if self._loaded is None:
            # Importing torch takes seconds, and a job whose rows are all reused does not need it.
            from lesion.models.load import load

            self._loaded = load(self.model, self.device, self.chat)
            self._zero(self._loaded)
        return self._loaded

    @contextmanager
    def unmodified(self) -> "Iterator[Loaded]":
        """The same model with the mask's weights restored inside the block, without a copy."""
        loaded = self.load()
        self._lesion.close()
        try:
            yield loaded
        finally:
            self._zero(loaded)

    @contextmanager
    def without(self, mask: Mask) -> "Iterator[Loaded]":
        """The variant with the weights of a further mask zeroed inside the block."""
        from lesion.masks.lesion import lesioned

        loaded = self.load()
        with lesioned(loaded.model, mask.indices):
            yield loaded

    @contextmanager
    def stored(self, folder: Path) -> Iterator[Path]:
        """The variant as a checkpoint folder that exists inside the block, with its mask zeroed.

        For `unmodified` it is the model's own checkpoint.

        Args:
            folder: where to write it; a folder that a killed process left there is removed.
        """
        if self.mask is None:
            yield self.model
            return
        from lesion.checkpoints.write import copy_zeroed

        shutil.rmtree(folder, ignore_errors=True)
        try:
            copy_zeroed(self.model, self.mask, folder)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _zero(self, loaded: "Loaded") -> None:
        from lesion.masks.lesion import lesioned

        # The context is left open, because the process measures a single variant. The stack is
        # stored, because its deletion would restore the weights.
        indices = self.mask.indices if self.mask else {}
        self._lesion.enter_context(lesioned(loaded.model, indices, self.ablation))
