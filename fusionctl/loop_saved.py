"""A checkpoint's content: how it is packed, and what it must be before any of it is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fusionctl import checkpoint as files
from fusionctl.errors import InputError

_GROUPS = ("learner", "best", "adam")
_LOSS_SUM = "loss_sum"
_CHECKSUM = "crc32"
_KINDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("epoch", "step", "best_epoch"), int),
    **{"best_score": (int, float), "history": list, "lrs": list, "schedule": dict},
}


@dataclass(frozen=True)
class Position:
    """Where a run stands: what the loop counts, and the records so far."""

    epoch: int
    step: int
    best_epoch: int
    best_score: float
    history: list[dict[str, Any]]


@dataclass(frozen=True)
class Saved:
    """Everything that the rest of a training run depends on.

    Attributes:
        learner: weights of the model and of what the loss learns.
        best: those of the best epoch so far; none before the first.
        adam: the optimiser's state, see `checkpoint.flatten_adam`.
        loss_sum: () loss of the epoch so far, summed over rows and processes.
        lrs: learning rate of each group of parameters.
        schedule: state of the schedule.
        position: where the run stands.
    """

    learner: Mapping[str, Tensor]
    best: Mapping[str, Tensor]
    adam: Mapping[str, Tensor]
    loss_sum: Tensor
    lrs: list[float]
    schedule: dict[str, Any]
    position: Position

    def write(self, path: Path) -> None:
        """Write one file, atomically."""
        tensors = {f"{group}/{n}": tensor for group in _GROUPS for n, tensor in getattr(self, group).items()}
        tensors[_LOSS_SUM] = self.loss_sum
        facts = {**vars(self.position), "lrs": self.lrs, "schedule": self.schedule}
        files.write(path, tensors, {**facts, _CHECKSUM: files.checksum(tensors, facts)})


def read(
    path: Path,
    *,
    learner: Mapping[str, Tensor],
    parameters: Sequence[Tensor],
    n_groups: int,
    schedule: Mapping[str, Any],
) -> Saved:
    """Read a file of `Saved.write`.

    Args:
        path: the file.
        learner: weights of the model that is to go on from it.
        parameters: what its optimiser changes, in its order.
        n_groups: in how many groups.
        schedule: state of its fresh schedule.

    Raises:
        InputError: the file is damaged, no checkpoint, or one of another model.
    """
    tensors, facts = files.read(path)
    expected = facts.pop(_CHECKSUM, None) if isinstance(facts, dict) else None
    _require(expected == files.checksum(tensors, facts), path, "its content is not what was written")
    groups: dict[str, dict[str, Tensor]] = {group: {} for group in _GROUPS}
    loss_sum = tensors.pop(_LOSS_SUM, torch.empty(0))
    for key, tensor in tensors.items():
        group, _, name = key.partition("/")
        groups.setdefault(group, {})[name] = tensor
    _require(len(groups) == len(_GROUPS) and loss_sum.shape == (), path, "its tensors are not those of a checkpoint")
    _require(_are_facts(facts, n_groups, schedule), path, "its facts are not those of a checkpoint")
    for group in ("learner", "best"):
        fits = _shapes(groups[group]) == _shapes(learner) or (group == "best" and not groups[group])
        _require(fits, path, "its weights do not fit the model")
    fits = all(_is_moment(key, tensor, parameters) for key, tensor in groups["adam"].items())
    _require(fits, path, "its optimiser does not fit the model")
    lrs, state = facts.pop("lrs"), facts.pop("schedule")
    return Saved(**groups, loss_sum=loss_sum, lrs=lrs, schedule=state, position=Position(**facts))


def _require(holds: bool, path: Path, otherwise: str) -> None:
    if not holds:
        raise InputError(f"{path}: {otherwise}", hint="run the stage with --force: it starts anew")


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[Any, ...]]:
    return {name: (tensor.dtype, *tensor.shape) for name, tensor in tensors.items()}


def _are_facts(facts: Mapping[str, Any], n_groups: int, schedule: Mapping[str, Any]) -> bool:
    return (
        facts.keys() == _KINDS.keys()
        and all(isinstance(facts[name], kind) for name, kind in _KINDS.items())
        and facts["schedule"].keys() == schedule.keys()
        and len(facts["lrs"]) == n_groups
    )


def _is_moment(key: str, tensor: Tensor, parameters: Sequence[Tensor]) -> bool:
    """Whether it belongs to a parameter: of its shape, or a number such as the count of steps."""
    number = key.partition(".")[0]
    known = number.isdecimal() and int(number) < len(parameters)
    return known and (not tensor.dim() or tensor.shape == parameters[int(number)].shape)
