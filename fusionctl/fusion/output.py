"""What every fusion method returns."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Output:
    """Result of a fusion method on a batch.

    Attributes:
        logits: (B, K) raw logits; NaN where the method has no prediction for a row.
        aux_loss: scalar to add to the loss of the logits, or None. Of several processes each gives its part: the mean
            over them is the loss of all rows of the step (`distributed.Group.share_of`).
        task_weight: factor on the loss of the logits in training, the same for all rows of a batch; 0 in a phase that
            does not learn the task.
        spread: (B, K) standard deviation of the probabilities that were sampled for a row, or None where the method
            does not sample.
    """

    logits: Tensor
    aux_loss: Tensor | None = None
    task_weight: float = 1.0
    spread: Tensor | None = None
