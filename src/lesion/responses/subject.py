"""The variant that is asked: a checkpoint with a mask's weights zeroed in memory."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from lesion.io.formats import digest
from lesion.masks.store import Mask
from lesion.models.record import read_record
from lesion.study.job import Device

if TYPE_CHECKING:
    from lesion.models.chat import Chat
    from lesion.models.load import Loaded


class Subject:
    """The variant: loaded and lesioned only if some row is due."""

    def __init__(self, model: Path, mask: Mask | None, device: Device) -> None:
        """Read the record."""
        self.model, self.mask, self.device = model, mask, device
        self._loaded: Loaded | None = None
        self._lesion = ExitStack()

    @cached_property
    def identity(self) -> dict[str, str]:
        """What a row's key needs to know of the variant, beside the tokens that it is asked."""
        from lesion.models.load import precision

        places = (
            {name: one.tolist() for name, one in self.mask.indices.items()} if self.mask else {}
        )
        checkpoint = read_record(self.model)["digest"]
        return {"model": checkpoint, "mask": digest(places), **precision(self.device.dtype)}

    @cached_property
    def chat(self) -> "Chat":
        """The tokenizer with its chat format; no weight is read."""
        from lesion.models.load import open_chat

        return open_chat(self.model)

    @cached_property
    def context(self) -> int:
        """The most tokens that the model was made for."""
        from lesion.models.load import open_context

        return open_context(self.model)

    def load(self) -> "Loaded":
        """The model without the mask's weights, and its tokenizer."""
        if self._loaded is None:
            # torch takes seconds to import; a job with nothing due, or one that only wants the
            # tables' columns, does without.
            from lesion.models.load import load

            self._loaded = load(self.model, self.device, self.chat)
            self._zero(self._loaded)
        return self._loaded

    @contextmanager
    def intact(self) -> "Iterator[Loaded]":
        """The same model with the mask's weights back inside the block; no second copy is made."""
        loaded = self.load()
        self._lesion.close()
        try:
            yield loaded
        finally:
            self._zero(loaded)

    @contextmanager
    def stored(self, folder: Path) -> Iterator[Path]:
        """The variant as a checkpoint folder, there inside the block; of `intact`, the model's own.

        Args:
            folder: where to write it; removed before, should a killed process have left it.
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

        # Entered for good: the process serves one variant and ends. Held, because dropping it
        # would close it, and give the weights back.
        indices = self.mask.indices if self.mask else {}
        self._lesion.enter_context(lesioned(loaded.model, indices))
