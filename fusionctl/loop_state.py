"""One step of a training run, its state between two steps, and the way of that state to disk and back."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fusionctl import checkpoint as files
from fusionctl import distributed, loop_saved
from fusionctl.errors import FusionctlError, InputError, Interrupted
from fusionctl.loop_course import Course, Labelled
from fusionctl.stopping import StopFlag

log = logging.getLogger("fusionctl")

Record = dict[str, Any]
# The reference's schedule: half the rate after ten epochs without a lower validation loss.
PLATEAU_FACTOR = 0.5
PLATEAU_PATIENCE = 10
LAST_EPOCH = "last epoch"
MONITORS = {"val_auroc": 1.0, "val_auprc": 1.0, "val_loss": -1.0}


class Learner(nn.Module):
    """A model with the loss that teaches it: from a batch to the number that a step makes smaller.

    Args:
        model: takes a batch, returns an `Output`.
        loss: of (logits, labels, known), see `losses`; what it learns is trained too.
        device: where both are.
        bf16: compute the model in mixed precision, bfloat16; the loss is in float32 either way.
    """

    def __init__(self, model: nn.Module, loss: nn.Module, *, device: str, bf16: bool) -> None:
        super().__init__()
        self.model, self.loss, self.bf16 = model.to(device), loss.to(device), bf16
        self.kind = torch.device(device).type

    def forward(self, batch: Labelled, known: Tensor | None = None) -> Tensor:
        """The loss of a batch.

        Args:
            batch: the batch.
            known: (K,) numbers of known labels to divide by, where others share the batch; None: of this batch.
        """
        with torch.autocast(self.kind, dtype=torch.bfloat16, enabled=self.bf16):
            output = self.model(batch)
        value = output.logits.new_zeros((), dtype=torch.float32)
        if output.task_weight:
            value = value + output.task_weight * self.loss(output.logits.float(), batch.labels, known)
        if output.aux_loss is not None:
            value = value + output.aux_loss.float()
        return torch.as_tensor(value)


class TrainingState:
    """Model, optimiser, schedule, position, best epoch and history of one run."""

    def __init__(self, learner: Learner, course: Course, *, path: Path | None) -> None:
        self.learner, self.course, self.path = learner, course, path
        self.monitor = usable_monitor(course.monitor, course.val_labels)
        self.group = distributed.current()
        self.wrapped: nn.Module = learner
        self.parameters = [p for p in learner.model.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": self.parameters, "lr": course.lr, "weight_decay": course.weight_decay}
        ]
        if learned := list(learner.loss.parameters()):
            groups.append({"params": learned, "lr": course.loss_lr, "weight_decay": 0.0})
        self.optimiser = torch.optim.AdamW(groups, fused=True)
        self.schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimiser, factor=PLATEAU_FACTOR, patience=PLATEAU_PATIENCE
        )
        task_begins: Any = getattr(learner.model, "task_begins", None)
        self.task_begins = min(task_begins(course.epochs), course.epochs) if task_begins else 1
        self.epoch, self.step, self.best_epoch, self.best_score = 0, 0, 0, -math.inf
        self.history: list[Record] = []
        self.best: dict[str, Tensor] = {}
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=course.device)

    def learn(self, batch: Labelled, *, n_rows: int, known: Sequence[float] = ()) -> None:
        """One step.

        Args:
            batch: this process's share of the step's rows.
            n_rows: rows of the step in all processes.
            known: (K,), see `Learner.forward`; none where one process has all rows.
        """
        numbers = torch.tensor(known, device=self.course.device) if known else None
        value = self.wrapped(batch, numbers)
        self.optimiser.zero_grad()
        value.backward()
        if self.course.grad_clip:
            nn.utils.clip_grad_norm_(self.parameters, self.course.grad_clip)
        self.optimiser.step()
        self.loss_sum += value.detach().double() * (n_rows / self.group.size)
        self.step += 1

    def close_epoch(self, scores: Mapping[str, float]) -> Record:
        """Record the epoch, keep its weights if it is the best so far, set the learning rate, save."""
        train_loss = self.group.total([self.loss_sum.item()])[0] / len(self.course.train_rows)
        lr = self.optimiser.param_groups[0]["lr"]
        self.epoch += 1
        if not math.isfinite(train_loss):
            raise FusionctlError(
                f"the training loss is {train_loss} after epoch {self.epoch}",
                hint="lower --lr or bound the gradient: --grad-clip 1",
            )
        values = {"train_loss": train_loss, **{f"val_{name}": value for name, value in scores.items()}, "lr": lr}
        achieved = self.epoch if self.monitor == LAST_EPOCH else MONITORS[self.monitor] * values[self.monitor]
        on_task = self.epoch >= self.task_begins
        better = on_task and (
            achieved > self.best_score or not self.best or math.isnan(self.best_score) > math.isnan(achieved)
        )
        if not on_task:
            self.best_epoch = self.epoch  # nothing to judge yet: patience begins with the task
        if better:
            self.best_score, self.best_epoch = achieved, self.epoch
            self.best = {name: tensor.detach().clone() for name, tensor in self.learner.state_dict().items()}
        record: Record = {n: None if math.isnan(v) else v for n, v in values.items()}
        record = {"epoch": self.epoch, **record, "best": better}
        if on_task:
            self.schedule.step(train_loss if math.isnan(scores["loss"]) else scores["loss"])
        self.history.append(record)
        self.step = 0
        self.loss_sum.zero_()
        self.save()
        return record

    def leave_if(self, stop: StopFlag) -> None:
        """Save and stop the run if a signal has come."""
        if stop:
            self.leave()

    def leave(self) -> NoReturn:
        """Save and stop the run, in all processes at once."""
        self.save()
        where = f"epoch {self.epoch + 1}, step {self.step}"
        kept = "a checkpoint is saved" if self.path else "nothing is saved"
        raise Interrupted(f"stopped by a signal in {where}; {kept}", hint="the same command goes on from there")

    def save(self) -> None:
        """Write everything that the rest of the run depends on; all processes must call it, and the first writes."""
        (loss_sum,) = self.group.total([self.loss_sum.item()])
        if self.path is None or not self.group.leads:
            return
        loop_saved.Saved(
            learner=self.learner.state_dict(),
            best=self.best,
            adam=files.flatten_adam(self.optimiser),
            loss_sum=torch.tensor(loss_sum, dtype=torch.float64),
            lrs=[group["lr"] for group in self.optimiser.param_groups],
            schedule=self.schedule.state_dict(),
            position=loop_saved.Position(self.epoch, self.step, self.best_epoch, self.best_score, self.history),
        ).write(self.path)

    def resume(self) -> None:
        """Continue from the checkpoint, if there is one that fits, and make ready for the first step."""
        if self.path is not None:
            self.group.share_file(self.path)
            if self.path.exists():
                self._read(self.path)
        # A step without a film gives the film encoder no gradient.
        several = len(getattr(self.learner.model, "modalities", ())) > 1
        self.wrapped = self.group.wrap(self.learner, self.course.device, partly_used=several)

    def _read(self, path: Path) -> None:
        try:
            saved = loop_saved.read(
                path,
                learner=self.learner.state_dict(),
                parameters=[p for group in self.optimiser.param_groups for p in group["params"]],
                n_groups=len(self.optimiser.param_groups),
                schedule=self.schedule.state_dict(),
            )
        except InputError as error:
            log.warning("the checkpoint is not used, training starts again: %s", error.message)
            return
        files.load_into(self.learner, saved.learner, path)
        files.restore_adam(self.optimiser, saved.adam, saved.lrs)
        self.schedule.load_state_dict(saved.schedule)
        self.best = dict(saved.best)
        if self.group.leads:  # of all processes, so it counts once
            self.loss_sum = saved.loss_sum.to(self.course.device)
        for name, value in vars(saved.position).items():
            setattr(self, name, value)
        log.info("resumed from a checkpoint: epoch %d, step %d", self.epoch + 1, self.step)


def usable_monitor(monitor: str, labels: npt.NDArray[np.float32]) -> str:
    """The metric to choose the best epoch by: the loss where no validation label has both classes."""
    if monitor not in MONITORS:
        raise ValueError(f"monitor must be one of {', '.join(MONITORS)}; got {monitor!r}")
    if not len(labels):
        log.warning("no row for validation: the last epoch is kept, and nothing guards against overfitting")
        return LAST_EPOCH
    if any((column == 1).any() and (column == 0).any() for column in labels.T):
        return monitor
    log.warning("the validation rows hold one class only: the best epoch is the one of the lowest validation loss")
    return "val_loss"
