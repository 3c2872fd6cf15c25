"""Losses on raw logits; a label that is unknown (NaN) teaches nothing.

A loss is a module called with logits (B, K), labels (B, K) of 1, 0 or NaN, and optionally `known` (K,): the number of
known labels by which to divide, instead of those of this batch. Several processes that share a batch each pass the
whole batch's number, divided by how many they are: the mean of their losses then is the whole batch's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

# Lin et al., Focal Loss for Dense Object Detection (ICCV 2017): the exponent that served best there.
FOCUS = 2.0
# Cui et al., Class-Balanced Loss Based on Effective Number of Samples (CVPR 2019): the largest of the four values that
# they tried (0.9, 0.99, 0.999, 0.9999); with a smaller one thousands of stays count as little more than hundreds.
BALANCE = 0.9999


def bce(logits: Tensor, labels: Tensor, known: Tensor | None = None) -> Tensor:
    """Binary cross-entropy, averaged over the known labels.

    Args:
        logits: (B, K) raw logits.
        labels: (B, K) 0, 1 or NaN (unknown).
        known: (K,) numbers to divide by, see the top of this module.

    Returns:
        Scalar; 0, with zero gradients, where no label is known.
    """
    return _mean(_cross_entropy(logits, labels), labels, known)


class Bce(nn.Module):
    """Binary cross-entropy, averaged over the known labels."""

    def __init__(self, labels: npt.NDArray[np.float32]) -> None:
        super().__init__()

    def forward(self, logits: Tensor, labels: Tensor, known: Tensor | None = None) -> Tensor:
        """The loss, a scalar."""
        return bce(logits, labels, known)


class Uncertainty(nn.Module):
    """Each label's cross-entropy weighted by a learned variance: sum of BCE_i / sigma_i^2 + log sigma_i^2.

    Equation 3 of the paper, after Kendall, Gal and Cipolla (CVPR 2018). What is learned is s_i = log sigma_i^2. A label
    that is unknown in the whole batch has no part in the sum, so that its variance stays where it is.

    Args:
        labels: (N, K) of training; only K counts.
    """

    def __init__(self, labels: npt.NDArray[np.float32]) -> None:
        super().__init__()
        self.log_variance = nn.Parameter(torch.zeros(labels.shape[1]))

    def forward(self, logits: Tensor, labels: Tensor, known: Tensor | None = None) -> Tensor:
        """The loss, a scalar; it may be negative."""
        each, taught = _mean_by_label(_cross_entropy(logits, labels), labels, known)
        return torch.where(taught, (-self.log_variance).exp() * each + self.log_variance, 0.0).sum()

    def sigmas(self) -> list[float]:
        """The learned standard deviations, one a label."""
        return [float(sigma) for sigma in (self.log_variance.detach().double() / 2).exp().cpu()]


class UncertaintyReference(Uncertainty):
    """The same with the weights of the reference code: mean of exp(-s_i) BCE_i + s_i / 2, where s_i = log sigma_i^2."""

    def forward(self, logits: Tensor, labels: Tensor, known: Tensor | None = None) -> Tensor:
        """The loss, a scalar; it may be negative."""
        each, taught = _mean_by_label(_cross_entropy(logits, labels), labels, known)
        terms = torch.where(taught, (-self.log_variance).exp() * each + self.log_variance / 2, 0.0)
        return terms.sum() / taught.sum().clamp(min=1)


class Focal(nn.Module):
    """Cross-entropy times (1 - p)^2, where p is the chance given to the true class: what is easy counts little."""

    def __init__(self, labels: npt.NDArray[np.float32]) -> None:
        super().__init__()

    def forward(self, logits: Tensor, labels: Tensor, known: Tensor | None = None) -> Tensor:
        """The loss, a scalar."""
        each = _cross_entropy(logits, labels)
        return _mean((-torch.expm1(-each)) ** FOCUS * each, labels, known)  # p = exp(-cross-entropy)


class Balanced(nn.Module):
    """Cross-entropy in which a label's rare class counts more, by the effective number of its training stays.

    A class with n stays has the effective number (1 - b^n) / (1 - b); its weight is the inverse, and the two weights of
    a label are scaled to add up to 2.

    Args:
        labels: (N, K) of training, 1, 0 or NaN.
    """

    weight: Tensor

    def __init__(self, labels: npt.NDArray[np.float32]) -> None:
        super().__init__()
        n = np.stack([(labels == 0).sum(axis=0), (labels == 1).sum(axis=0)]).clip(min=1)
        inverse = (1 - BALANCE) / (1 - BALANCE**n)
        weight = torch.from_numpy(2 * inverse / inverse.sum(axis=0)).float()
        self.register_buffer("weight", weight, persistent=False)  # (2, K): of the negatives, of the positives

    def forward(self, logits: Tensor, labels: Tensor, known: Tensor | None = None) -> Tensor:
        """The loss, a scalar."""
        weight = torch.where(labels == 1, self.weight[1], self.weight[0])
        return _mean(weight * _cross_entropy(logits, labels), labels, known)


LOSSES: dict[str, Any] = {
    "bce": Bce,
    "uncertainty": Uncertainty,
    "uncertainty-reference": UncertaintyReference,
    "focal": Focal,
    "balanced": Balanced,
}


def build(name: str, labels: npt.NDArray[np.float32]) -> nn.Module:
    """A loss by its name in `LOSSES`, for training on these labels (N, K)."""
    loss: nn.Module = LOSSES[name](labels)
    return loss


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """(B, K); 0 where the label is unknown.

    Chosen before and after, not multiplied by 0: a logit that is NaN or infinite where the label is unknown stays out
    of the gradient. And nothing here waits for an accelerator, as choosing the known ones by index would.
    """
    known = ~labels.isnan()
    losses = functional.binary_cross_entropy_with_logits(
        torch.where(known, logits, 0.0), torch.where(known, labels, 0.0), reduction="none"
    )
    return torch.where(known, losses, 0.0)


def _mean(losses: Tensor, labels: Tensor, known: Tensor | None) -> Tensor:
    """Sum of (B, K) over the number of known labels."""
    n = (~labels.isnan()).sum() if known is None else known.sum()
    return losses.sum() / torch.where(n > 0, n, 1)


def _mean_by_label(losses: Tensor, labels: Tensor, known: Tensor | None) -> tuple[Tensor, Tensor]:
    """(K,) means of (B, K) over each label's known ones, and (K,) bool: it has any."""
    n = (~labels.isnan()).sum(dim=0) if known is None else known
    return losses.sum(dim=0) / torch.where(n > 0, n, 1), n > 0
