"""Weights to start a film encoder from: a local file, in torchvision's names or from `pretrain-cxr`."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Collection, Mapping
from pathlib import Path

import safetensors
import torch
from torch import Tensor
from torch.nn import functional

from fusionctl.errors import InputError
from fusionctl.models.cxr import ARCHS, CxrEncoder, build_trunk

log = logging.getLogger("fusionctl")

Tensors = dict[str, Tensor]
_TRUNK = "trunk."  # prefix of the network's tensors in the weights of pretrain-cxr
_CLASSIFIERS = ("fc.", "classifier.", "heads.")  # resnet, densenet, vit: learnt for other labels
_POSITIONS = "encoder.pos_embedding"  # vit: (1, 1 + patches, width)
_COUNTER = "num_batches_tracked"  # of batch normalisation; files of before 2018 lack it, and nothing here reads it
# The released DenseNet files still have the names of before 2018, e.g. denselayer1.norm.1.weight for norm1.weight.
_OLD_DENSENET = re.compile(r"(\.denselayer\d+\.(?:norm|conv))\.(\d\.)")
_SHOWN = 3  # tensors named in an error
_CONVERT = "a torchvision file (.pth) becomes one with: python examples/convert_torchvision.py IN.pth OUT.safetensors"


def initialise(encoder: CxrEncoder, path: Path) -> None:
    """Give an encoder's network the weights of a file; its head stays as it is, a classifier in the file is ignored.

    Position embeddings of a ViT for another input size are interpolated.

    Args:
        encoder: the encoder to change.
        path: safetensors file with torchvision's names, or weights.safetensors of `pretrain-cxr`.

    Raises:
        InputError: the file is unreadable, or it is not one of this network.
    """
    own = encoder.trunk.state_dict()
    given = _trunk_tensors(_read(path))
    if _POSITIONS in own and _POSITIONS in given:
        given[_POSITIONS] = _positions(given[_POSITIONS], like=own[_POSITIONS])
    wrong = _misfits(given, own)
    if wrong:
        arch, more = encoder.config["arch"], len(wrong) - _SHOWN
        others = f" and {more} more" if more > 0 else ""
        raise InputError(
            f"--init {path}: not weights of {arch}: {'; '.join(wrong[:_SHOWN])}{others}", hint=_fitting(given)
        )
    encoder.trunk.load_state_dict(own | given)
    log.info("film encoder starts from %s (%d tensors)", path, len(given))


def _read(path: Path) -> Tensors:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise InputError(f"--init {path}: not a readable safetensors file: {error}", hint=_CONVERT) from error


def _trunk_tensors(tensors: Tensors) -> Tensors:
    """Tensors of the network, in the names of today's torchvision."""
    if any(name.startswith(_TRUNK) for name in tensors):
        tensors = {name.removeprefix(_TRUNK): t for name, t in tensors.items() if name.startswith(_TRUNK)}
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(_CLASSIFIERS)}
    return {_OLD_DENSENET.sub(r"\1\2", name): tensor for name, tensor in kept.items()}


def _positions(given: Tensor, *, like: Tensor) -> Tensor:
    """Position embeddings for another number of patches: the grid interpolated (bicubic), the class token's kept.

    Args:
        given: (1, 1 + n * n, D).
        like: (1, 1 + m * m, D).

    Returns:
        (1, 1 + m * m, D); `given` itself if it has that shape already or is no square grid.
    """
    if given.shape == like.shape or given.ndim != 3 or given.shape[0] != 1 or given.shape[1] < 2:
        return given
    before, after = math.isqrt(given.shape[1] - 1), math.isqrt(like.shape[1] - 1)
    if before * before != given.shape[1] - 1:
        return given
    grid = given[:, 1:].float().transpose(1, 2).reshape(1, -1, before, before)
    # Corner to corner, as torchvision's own function for this does.
    scaled = functional.interpolate(grid, size=(after, after), mode="bicubic", align_corners=True)
    return torch.cat([given[:, :1].float(), scaled.flatten(2).transpose(1, 2)], dim=1)


def _misfits(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """What keeps tensors from being a network's: lacking, of another shape, or unknown to it; empty if they fit."""
    lacking = [f"{name} is missing" for name in own if name not in given and not name.endswith(_COUNTER)]
    shapes = [
        f"{name} is {_shape(given[name])}, expected {_shape(tensor)}"
        for name, tensor in own.items()
        if name in given and given[name].shape != tensor.shape
    ]
    return shapes + lacking + [f"{name} is not part of it" for name in given if name not in own]


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a single number"


def _fitting(given: Tensors, archs: Collection[str] = ARCHS) -> str:
    """What to do with tensors that do not fit: name the network that they are of, if it is one of ours."""
    for arch in archs:
        with torch.device("meta"):  # shapes without memory
            own = build_trunk(arch, input_size=224)[0].state_dict()
        if _POSITIONS in own and _POSITIONS in given:
            own[_POSITIONS] = given[_POSITIONS]
        if not _misfits(given, own):
            return f"the file fits --arch {arch}"
    return f"give weights of that network, with torchvision's names or from pretrain-cxr; {_CONVERT}"
