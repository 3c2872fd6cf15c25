"""State of a training run between two steps, and its way to disk and back."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fusionctl import checkpoint as files
from fusionctl.errors import FusionctlError, InputError, Interrupted

log = logging.getLogger("fusionctl")

Record = dict[str, Any]
Loss = Callable[[Tensor, Tensor], Tensor]
# The reference's schedule: half the rate after ten epochs without a lower validation loss.
PLATEAU_FACTOR = 0.5
PLATEAU_PATIENCE = 10
LAST_EPOCH = "last epoch"
MONITORS = {"val_auroc": 1.0, "val_auprc": 1.0, "val_loss": -1.0}


class Labelled(Protocol):
    """A batch, as far as the loop knows it."""

    @property
    def labels(self) -> Tensor:
        """(B, K), NaN where unknown."""

    def to(self, device: str | torch.device) -> Labelled:
        """The same batch on a device."""


class TrainingState:
    """Model, optimiser, schedule, position, best epoch and history of one run."""

    def __init__(self, model: nn.Module, *, lr: float, weight_decay: float, monitor: str, path: Path | None) -> None:
        self.model, self.monitor, self.path = model, monitor, path
        trainable = [p for p in model.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(trainable, lr=lr, weight_decay=weight_decay, fused=True)
        self.schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimiser, factor=PLATEAU_FACTOR, patience=PLATEAU_PATIENCE
        )
        self.epoch, self.step, self.best_epoch, self.best_score = 0, 0, 0, -math.inf
        self.history: list[Record] = []
        self.best: dict[str, Tensor] = {}
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=next(model.parameters()).device)

    def learn(self, batch: Labelled, loss: Loss, grad_clip: float) -> None:
        """One step."""
        output = self.model(batch)
        value = loss(output.logits, batch.labels)
        if output.aux_loss is not None:
            value = value + output.aux_loss
        self.optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        if grad_clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), grad_clip)
        self.optimiser.step()
        self.loss_sum += value.detach().double() * len(batch.labels)
        self.step += 1

    def close_epoch(self, scores: Mapping[str, float], *, n_rows: int) -> Record:
        """Record the epoch, keep its weights if it is the best so far, set the learning rate, save."""
        train_loss, lr = self.loss_sum.item() / n_rows, self.optimiser.param_groups[0]["lr"]
        self.epoch += 1
        if not math.isfinite(train_loss):
            raise FusionctlError(
                f"the training loss is {train_loss} after epoch {self.epoch}",
                hint="lower --lr or bound the gradient: --grad-clip 1",
            )
        values = {"train_loss": train_loss, **{f"val_{name}": value for name, value in scores.items()}, "lr": lr}
        achieved = self.epoch if self.monitor == LAST_EPOCH else MONITORS[self.monitor] * values[self.monitor]
        better = achieved > self.best_score or not self.best
        if better:
            self.best_score, self.best_epoch = achieved, self.epoch
            self.best = {name: tensor.detach().cpu().clone() for name, tensor in self.model.state_dict().items()}
        record: Record = {n: None if math.isnan(v) else v for n, v in values.items()}
        record = {"epoch": self.epoch, **record, "best": better}
        self.schedule.step(train_loss if math.isnan(scores["loss"]) else scores["loss"])
        self.history.append(record)
        self.step = 0
        self.loss_sum.zero_()
        self.save()
        return record

    def leave_if(self, stop: files.StopFlag) -> None:
        """Save and stop the run if a signal has come."""
        if stop:
            self.save()
            where = f"epoch {self.epoch + 1}, step {self.step}"
            kept = "a checkpoint is saved" if self.path else "nothing is saved"
            raise Interrupted(f"stopped by a signal in {where}; {kept}", hint="the same command goes on from there")

    def save(self) -> None:
        """Write everything that the rest of the run depends on."""
        if self.path is None:
            return
        groups = {"model": self.model.state_dict(), "best": self.best, "adam": files.flatten_adam(self.optimiser)}
        tensors = {f"{group}/{name}": t for group, entries in groups.items() for name, t in entries.items()}
        facts = {name: getattr(self, name) for name in ("epoch", "step", "best_epoch", "best_score", "history")}
        facts["lrs"] = [group["lr"] for group in self.optimiser.param_groups]
        facts["schedule"] = self.schedule.state_dict()
        files.write(self.path, {**tensors, "loss_sum": self.loss_sum}, facts)

    def resume(self, device: str) -> None:
        """Continue from the checkpoint, if there is one that fits."""
        if self.path is None or not self.path.exists():
            return
        try:
            tensors, facts = files.read(self.path)
            groups: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "adam": {}}
            self.loss_sum = tensors.pop("loss_sum").to(device)
            for key, tensor in tensors.items():
                group, name = key.split("/", 1)
                groups[group][name] = tensor
            files.load_into(self.model, groups["model"], self.path)
        except InputError as error:
            log.warning("the checkpoint is not used, training starts again: %s", error.message)
            return
        files.restore_adam(self.optimiser, groups["adam"], facts.pop("lrs"))
        self.schedule.load_state_dict(facts.pop("schedule"))
        self.best = groups["best"]
        for name, value in facts.items():
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
