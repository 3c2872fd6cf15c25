"""Weights and checkpoints: safetensors files with JSON in their header, no pickle.

A file is written beside its final name, forced to disk and renamed: a kill at any moment leaves the old file or the new
one, never half of one.
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from fusionctl.durable import replace
from fusionctl.errors import InputError

Tensors = dict[str, Tensor]
# Name of a training run's checkpoint in the draft of its artifact.
CHECKPOINT = "checkpoint.safetensors"


def write(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors and JSON-ready facts to one file, atomically.

    Args:
        path: the file; replaced if it exists.
        tensors: by name, on any device.
        facts: what json can write; floats keep every bit, infinities too.
    """
    # A folder, for safetensors writes to a hidden name of its own first: what a kill leaves, the next call clears.
    partial = path.with_name(f"{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # One entry only: safetensors writes several in no fixed order, and the same weights shall give the same bytes.
    save_file(plain, partial / path.name, metadata={"facts": json.dumps(facts)})
    replace(partial / path.name, path)
    partial.rmdir()


def read(path: Path) -> tuple[Tensors, dict[str, Any]]:
    """Tensors (on the CPU) and facts of a file from `write`.

    Raises:
        InputError: it is missing, cut short, or not such a file.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["facts"])
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118 (no mapping)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, safetensors.SafetensorError) as error:
        raise InputError(
            f"{path}: not a readable weights file: {error}", hint="rebuild its artifact with --force"
        ) from error


def checksum(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> int:
    """CRC-32 of names and contents: safetensors files carry none, and storage that flips a bit says nothing."""
    total = zlib.crc32(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(tensors):
        plain = tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        total = zlib.crc32(plain.numpy().data, zlib.crc32(name.encode(), total))
    return total


def write_weights(path: Path, model: nn.Module, *, config: Mapping[str, Any]) -> None:
    """Write a model's weights with the arguments that build it again."""
    write(path, model.state_dict(), config)


def load_into(model: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copy tensors into a model.

    Raises:
        InputError: names or shapes differ; `path` is named as their source.
    """
    try:
        model.load_state_dict(dict(tensors))
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise InputError(
            f"{path}: its weights do not fit the model: {reason}", hint="rebuild its artifact with --force"
        ) from error


def flatten_adam(optimiser: torch.optim.Optimizer) -> Tensors:
    """An optimiser's state as tensors named `<parameter number>.<name>`."""
    state = optimiser.state_dict()["state"]
    return {f"{number}.{name}": value for number, entry in state.items() for name, value in entry.items()}


def restore_adam(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor], lrs: list[float]) -> None:
    """Give a fresh optimiser the state that `flatten_adam` took, and its groups their learning rates."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    content = optimiser.state_dict()
    content["state"] = {}
    for key, tensor in tensors.items():
        number, name = key.split(".", 1)
        like = parameters[int(number)]
        # In the parameter's own memory order (channels last, say), which is how the optimiser reads it.
        restored = torch.empty_like(like).copy_(tensor) if tensor.shape == like.shape else tensor.clone()
        content["state"].setdefault(int(number), {})[name] = restored
    for group, lr in zip(content["param_groups"], lrs, strict=True):
        group["lr"] = lr
    optimiser.load_state_dict(content)
