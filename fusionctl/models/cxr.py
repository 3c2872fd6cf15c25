"""The film encoder: one of torchvision's networks without its classifier, and a linear head."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fusionctl.errors import UsageError
from fusionctl.models.augment import prepare

ARCHS = ("resnet34", "resnet18", "resnet50", "densenet121", "vit_b_16")
VIT_PATCH = 16  # pixels on a side of a patch of vit_b_16
# Channels of the feature maps after each of the four stages, as in torchvision. ViT has tokens, not maps.
STAGE_WIDTHS = {
    "resnet18": (64, 128, 256, 512),
    "resnet34": (64, 128, 256, 512),
    "resnet50": (256, 512, 1024, 2048),
    "densenet121": (256, 512, 1024, 1024),
}

# What changes the maps between two stages: (number of the stage, from 1; its maps (P, C, h, w)) -> maps of that shape.
Change = Callable[[int, Tensor], Tensor]


class CxrEncoder(nn.Module):
    """A torchvision network, randomly initialised, and a linear head on its features.

    ResNet-34 has 21,284,672 parameters without its fc, plus 513 an output. Every network gets films in three equal
    channels, so that weights learnt on colour images fit (`models/init.py`).

    Args:
        arch: name of the network, one of `ARCHS`.
        n_outputs: outputs of the head (14 radiology labels in pretraining).
        input_size: side of the network's input in pixels.
        magnitude: strength of the augmentation in training, see `augment.prepare`.

    Attributes:
        dim: width of the features.
        trunk: the network without its classifier; its tensors have torchvision's names.
        config: the arguments, from which the same encoder can be built again.
    """

    def __init__(
        self, arch: str = "resnet34", n_outputs: int = 14, *, input_size: int = 224, magnitude: float = 1.0
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "arch": arch,
            "n_outputs": n_outputs,
            "input_size": input_size,
            "magnitude": magnitude,
        }
        self.input_size = input_size
        self.magnitude = magnitude
        self.trunk, self.dim = build_trunk(arch, input_size=input_size)
        self.head = nn.Linear(self.dim, n_outputs)
        self.to(memory_format=torch.channels_last)

    def stages(self) -> list[nn.Module]:
        """The four stages of the network: applied one after the other to prepared films they give the last maps.

        They are the network's own modules, not copies; a ResNet's first stage includes its stem, a DenseNet's stages
        begin with the transition from the one before.

        Raises:
            UsageError: the network has no feature maps.
        """
        self._require_maps()
        parts = dict(self.trunk.named_children())
        if self.config["arch"] != "densenet121":
            stem = [parts[name] for name in ("conv1", "bn1", "relu", "maxpool")]
            return [nn.Sequential(*stem, parts["layer1"]), parts["layer2"], parts["layer3"], parts["layer4"]]
        parts = dict(parts["features"].named_children())
        stem = [parts[name] for name in ("conv0", "norm0", "relu0", "pool0")]
        middle = [nn.Sequential(parts[f"transition{i - 1}"], parts[f"denseblock{i}"]) for i in (2, 3)]
        last = nn.Sequential(parts["transition3"], parts["denseblock4"], parts["norm5"], nn.ReLU())
        return [nn.Sequential(*stem, parts["denseblock1"]), *middle, last]

    @property
    def stage_widths(self) -> tuple[int, ...]:
        """Channels of the maps after each stage.

        Raises:
            UsageError: the network has no feature maps.
        """
        self._require_maps()
        return STAGE_WIDTHS[self.config["arch"]]

    def pool(self, maps: Tensor) -> Tensor:
        """Features (P, dim) of the last stage's maps (P, dim, h, w): their mean over the picture."""
        return nn.functional.adaptive_avg_pool2d(maps, 1).flatten(start_dim=1)

    def _require_maps(self) -> None:
        arch = self.config["arch"]
        if arch not in STAGE_WIDTHS:
            raise UsageError(
                f"this fusion works on the feature maps of the film encoder, and --arch {arch} has none",
                hint=f"run first: fusionctl pretrain-cxr --arch resnet34 (or {', '.join(sorted(STAGE_WIDTHS))})",
            )

    def prepared(self, films: Tensor) -> Tensor:
        """Cached films (P, 1, S, S) as the network's input (P, 3, H, W), augmented in training mode; P may be 0."""
        return prepare(films, input_size=self.input_size, train=self.training, magnitude=self.magnitude)

    def features(self, x: Tensor, *, change: Change | None = None) -> Tensor:
        """Encode prepared films.

        Args:
            x: (P, 3, H, W) normalised; P may be 0. H = W = input_size with vit_b_16, any size with the others.
            change: gets the maps after each stage; what it returns goes on. Not called if P is 0.

        Returns:
            (P, dim).

        Raises:
            UsageError: there is something to change and the network has no feature maps.
        """
        if not len(x):
            return x.new_zeros(0, self.dim)
        with _running_statistics(self.trunk, when=self.training and len(x) == 1):
            if change is None:
                return torch.as_tensor(self.trunk(x))
            for number, stage in enumerate(self.stages(), start=1):
                x = change(number, stage(x))
            return self.pool(x)

    def embed(self, films: Tensor, *, change: Change | None = None) -> Tensor:
        """Prepare cached films (augmented in training mode) and encode them.

        Args:
            films: (P, 1, S, S) uint8; P may be 0.
            change: as for `features`.

        Returns:
            (P, dim).
        """
        return self.features(self.prepared(films), change=change)

    def forward(self, films: Tensor) -> Tensor:
        """Logits (P, n_outputs) of cached films (P, 1, S, S)."""
        return torch.as_tensor(self.head(self.embed(films)))


def build_trunk(arch: str, *, input_size: int) -> tuple[nn.Module, int]:
    """A network without its classifier, and the width of its features.

    Args:
        arch: one of `ARCHS`.
        input_size: side of the input in pixels; only vit_b_16 depends on it.

    Raises:
        UsageError: the network does not take this input size.
        ValueError: `arch` is not one of them.
    """
    from torchvision import models

    if arch not in ARCHS:
        raise ValueError(f"arch must be one of {', '.join(ARCHS)}; got {arch!r}")
    if arch == "vit_b_16":
        if input_size % VIT_PATCH:
            fitting = max(2, round(input_size / VIT_PATCH)) * VIT_PATCH
            raise UsageError(
                f"--input-size must be a multiple of {VIT_PATCH} with --arch vit_b_16; got {input_size}",
                hint=f"the nearest is --input-size {fitting}",
            )
        trunk = models.vit_b_16(weights=None, image_size=input_size)
        trunk.heads = nn.Identity()
        return trunk, int(trunk.hidden_dim)
    trunk = getattr(models, arch)(weights=None)
    classifier = "classifier" if arch == "densenet121" else "fc"
    dim = int(getattr(trunk, classifier).in_features)
    setattr(trunk, classifier, nn.Identity())
    return trunk, dim


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
