"""Stage `checkpoints`: a pruned checkpoint on disk, the base's own files with zeros in place."""

from lesion.checkpoints.card import write_card
from lesion.checkpoints.write import write_checkpoint

__all__ = ["write_card", "write_checkpoint"]
