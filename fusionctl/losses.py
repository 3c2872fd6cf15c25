"""Losses on raw logits; a label that is unknown (NaN) teaches nothing."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def bce(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy, averaged over the known labels.

    Args:
        logits: (B, K) raw logits.
        labels: (B, K) 0, 1 or NaN (unknown).

    Returns:
        Scalar; 0, with zero gradients, where no label is known.
    """
    known = ~labels.isnan()
    # Chosen, not multiplied by 0: a logit that is NaN or infinite where the label is unknown stays out of the gradient.
    losses = functional.binary_cross_entropy_with_logits(logits[known], labels[known], reduction="sum")
    return losses / known.sum().clamp(min=1)
