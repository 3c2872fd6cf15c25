"""What every fusion method returns."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Output:
    """Result of a fusion method on a batch.

    Attributes:
        logits: (B, K) raw logits; NaN where the method has no prediction for a row.
        aux_loss: scalar to add to the loss of the logits, or None.
    """

    logits: Tensor
    aux_loss: Tensor | None = None
