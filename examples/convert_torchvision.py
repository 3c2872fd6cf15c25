#!/usr/bin/env python
"""Turn a torchvision weights file into one that `fusionctl pretrain-cxr --init` reads.

    python examples/convert_torchvision.py resnet34-b627a593.pth resnet34.safetensors

The input is a state dictionary as torchvision releases it, or a training checkpoint with one under "state_dict" or
"model"; the prefix "module." of parallel training is removed. Nothing in the file is executed (weights_only=True).
"""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor


def state_of(content: Any) -> dict[str, Tensor]:
    """The state dictionary in what a file holds: tensors by name, without the prefix of parallel training.

    Raises:
        ValueError: there is none, or an entry is no tensor.
    """
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise ValueError("it holds no state dictionary")
    other = [name for name, value in content.items() if not isinstance(value, Tensor)]
    if other:
        raise ValueError(f"its entry {other[0]!r} is no tensor")
    # Copies: tensors that share memory cannot be written as they are.
    return {name.removeprefix("module."): tensor.detach().clone().contiguous() for name, tensor in content.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Read the arguments, convert, and say what was written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="file of torchvision, .pth")
    parser.add_argument("target", type=Path, help="file to write, .safetensors")
    arguments = parser.parse_args(argv)
    try:
        tensors = state_of(torch.load(arguments.source, map_location="cpu", weights_only=True))
    except (OSError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        parser.error(f"{arguments.source}: not a weights file: {str(error).partition(chr(10))[0]}")
    save_file(tensors, arguments.target)
    print(f"{arguments.target}: {len(tensors)} tensors, {sum(t.numel() for t in tensors.values()):,} numbers")


if __name__ == "__main__":
    main()
