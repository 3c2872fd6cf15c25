"""What a training run learns from, how, and by what it is judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fusionctl import distributed, loop_batches
from fusionctl.errors import UsageError
from fusionctl.loop_batches import Rows


class Labelled(Protocol):
    """A batch, as far as the loop knows it."""

    @property
    def labels(self) -> Tensor:
        """(B, K), NaN where unknown."""

    def to(self, device: str | torch.device) -> Labelled:
        """The same batch on a device."""


Collate = Callable[[Rows], Labelled]


@dataclass(frozen=True, kw_only=True)
class Course:
    """Data and settings of a run.

    Attributes:
        collate: reads the batch of some rows; may run in another thread.
        train_rows: rows to learn from, each once an epoch, in an order drawn anew.
        val_rows: (N,) rows to choose the epoch by; without any (a tiny data set) the last epoch is the one.
        val_labels: (N, K) their labels.
        epochs: most epochs.
        batch_size: rows per step, of all processes together; one step of an epoch may have fewer.
        lr: learning rate of Adam.
        patience: stop after this many epochs without a better `monitor`.
        weight_decay: decoupled from the gradient (AdamW); 0 is plain Adam.
        grad_clip: largest norm of the gradient; 0 = not clipped.
        monitor: one of `MONITORS`; of equal epochs the earlier is the best.
        precision: of the steps: float32, bf16 (mixed), or auto: bf16 on a GPU. Predictions are in float32.
        compile: let torch.compile make kernels for the encoders' networks, their `trunk`.
        loss_lr: learning rate of what the loss learns.
        lengths: length of row r at r: where they differ, rows of similar length make a batch.
        film_dropout: chance of a stay's films to be hidden in a step.
        seed: of order, dropout and augmentation.
        device: where to train.
        progress: called with a label, steps done and steps in all.

    Raises:
        UsageError: mixed precision is asked for on a CPU.
    """

    collate: Collate
    train_rows: Rows
    val_rows: Rows
    val_labels: npt.NDArray[np.float32]
    epochs: int
    batch_size: int
    lr: float
    patience: int
    weight_decay: float = 0.0
    grad_clip: float = 0.0
    monitor: str = "val_auroc"
    precision: str = "float32"
    compile: bool = False
    loss_lr: float = 0.0
    lengths: npt.NDArray[Any] | None = None
    film_dropout: float = 0.0
    seed: int = 0
    device: str = "cpu"
    progress: Callable[[str, int, int | None], None] = lambda label, done, total: None

    def __post_init__(self) -> None:
        """Check what depends on the machine."""
        if self.precision == "bf16" and self.device == "cpu":
            raise UsageError("--precision bf16 needs a GPU", hint="use --precision auto, which is float32 on a CPU")

    @property
    def bf16(self) -> bool:
        """Whether steps are in mixed precision."""
        return self.precision != "float32" and self.device != "cpu"

    def batches(self, epoch: int) -> list[Rows]:
        """Rows of each step of an epoch (from 1), of all processes."""
        order = (self.seed, epoch)
        return loop_batches.batches(self.train_rows, self.batch_size, lengths=self.lengths, seed=order)

    def read(self, epoch: int, batches: list[Rows], step: int) -> tuple[Any, int]:
        """This process's batch of a step, on the CPU, and how many rows the step has in all processes."""
        group, rows = distributed.current(), batches[step]
        own = loop_batches.share(rows, group.rank, group.size)
        batch: Any = self.collate(own if len(own) else rows[:1])
        if not len(own):
            batch = loop_batches.mute(batch)
        elif self.film_dropout:
            hidden = np.random.default_rng([self.seed, epoch, step]).random(len(rows)) < self.film_dropout
            mine = torch.from_numpy(loop_batches.share(hidden, group.rank, group.size))
            batch = loop_batches.hide_films(batch, mine)
        return (loop_batches.pinned(batch) if self.device != "cpu" else batch), len(rows)
