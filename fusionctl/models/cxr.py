"""The film encoder: a residual network without its classifier, and a linear head."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fusionctl.models.augment import prepare

ARCHS = ("resnet34", "resnet18")


class CxrEncoder(nn.Module):
    """A torchvision residual network, randomly initialised, and a linear head on its features.

    ResNet-34 has 21,284,672 parameters without its fc, plus 513 an output.

    Args:
        arch: name of the network, one of `ARCHS`.
        n_outputs: outputs of the head (14 radiology labels in pretraining).
        input_size: side of the network's input in pixels.
        magnitude: strength of the augmentation in training, see `augment.prepare`.

    Attributes:
        dim: width of the features.
        config: the arguments, from which the same encoder can be built again.
    """

    def __init__(
        self, arch: str = "resnet34", n_outputs: int = 14, *, input_size: int = 224, magnitude: float = 1.0
    ) -> None:
        super().__init__()
        from torchvision import models

        if arch not in ARCHS:
            raise ValueError(f"arch must be one of {', '.join(ARCHS)}; got {arch!r}")
        self.config: dict[str, Any] = {
            "arch": arch,
            "n_outputs": n_outputs,
            "input_size": input_size,
            "magnitude": magnitude,
        }
        self.input_size = input_size
        self.magnitude = magnitude
        self.trunk = getattr(models, arch)(weights=None)
        self.dim: int = self.trunk.fc.in_features
        self.trunk.fc = nn.Identity()
        self.head = nn.Linear(self.dim, n_outputs)
        self.to(memory_format=torch.channels_last)

    def features(self, x: Tensor) -> Tensor:
        """Encode prepared films.

        Args:
            x: (P, 3, H, W) normalised; P may be 0.

        Returns:
            (P, dim).
        """
        if not len(x):
            return x.new_zeros(0, self.dim)
        with _running_statistics(self.trunk, when=self.training and len(x) == 1):
            return torch.as_tensor(self.trunk(x))

    def embed(self, films: Tensor) -> Tensor:
        """Prepare cached films (augmented in training mode) and encode them.

        Args:
            films: (P, 1, S, S) uint8; P may be 0.

        Returns:
            (P, dim).
        """
        train = self.training
        return self.features(prepare(films, input_size=self.input_size, train=train, magnitude=self.magnitude))

    def forward(self, films: Tensor) -> Tensor:
        """Logits (P, n_outputs) of cached films (P, 1, S, S)."""
        return torch.as_tensor(self.head(self.embed(films)))


@contextmanager
def _running_statistics(trunk: nn.Module, *, when: bool) -> Iterator[None]:
    """Let batch normalisation use its running statistics: one film has none of its own (and none at all at 1 x 1)."""
    if when:
        trunk.eval()
    try:
        yield
    finally:
        if when:
            trunk.train()
