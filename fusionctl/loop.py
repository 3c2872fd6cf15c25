"""The training loop: one generator for every model, one record an epoch.

All randomness is a function of (seed, epoch, step), so a checkpoint holds no random state: a run that was stopped at
any step and resumed ends, on a CPU, with the bits of one that was not.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fusionctl import checkpoint as files
from fusionctl import distributed, loop_batches, losses
from fusionctl.errors import InputError
from fusionctl.loop_batches import Rows
from fusionctl.loop_course import Course
from fusionctl.loop_results import chances, finite, gather, history_lines, predict, score, summary
from fusionctl.loop_state import Learner, Record, TrainingState
from fusionctl.stopping import StopFlag, stop_on_signal

__all__ = [
    "Course",
    "Rows",
    "chances",
    "finite",
    "fit",
    "gather",
    "history_lines",
    "mix",
    "predict",
    "score",
    "summary",
    "train",
]

log = logging.getLogger("fusionctl")


def mix(*numbers: int) -> int:
    """One well-mixed 63-bit seed from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def fit(folder: Path, model: nn.Module, course: Course, *, loss: nn.Module | None = None) -> list[Record]:
    """Train as `train` does, with the checkpoint in a folder, and write history.jsonl there.

    Args:
        folder: draft of the artifact. The checkpoint stays there until its weights are written and the caller removes
            it: a kill in between costs nothing.
        model: see `train`.
        course: see `train`.
        loss: see `train`.

    Returns:
        All records.
    """
    history = list(train(model, course, loss=loss, checkpoint=folder / files.CHECKPOINT))
    (folder / "history.jsonl").write_text(history_lines(history), encoding="utf-8")
    return history


def train(
    model: nn.Module, course: Course, *, loss: nn.Module | None = None, checkpoint: Path | None = None
) -> Iterator[Record]:
    """Train a model; when the generator is exhausted model and loss hold the weights of the best epoch.

    In a group of processes (see `distributed`) each takes its share of every step's rows, and all end with the same
    weights; batch normalisation sees the share alone. The first process validates and writes.

    Args:
        model: takes a batch, returns an `Output`. A method `begin_epoch(epoch, epochs)`, epoch from 1, is called before
            each epoch; `task_begins(epochs)` tells the first that learns the task: earlier ones are not judged.
        course: data and settings.
        loss: see `losses`; None is binary cross-entropy.
        checkpoint: file to save to after each epoch and when a signal comes, and to resume from if it is there.

    Yields:
        One record an epoch, those before a resume included: epoch (from 1), train_loss, val_loss, val_auroc,
        val_auprc (None where undefined), lr, best (it is better than all before).

    Raises:
        InputError: there is nothing to train on.
        Interrupted: SIGTERM or SIGUSR1 came; the checkpoint is saved.
        FusionctlError: the loss is no longer finite.
    """
    if not len(course.train_rows):
        raise InputError("there is no row to train on", hint="the data set is too small or has no such rows")
    if course.compile:
        for trunk in [module.trunk for module in model.modules() if hasattr(module, "trunk")]:
            trunk.compile(dynamic=True)  # type: ignore[union-attr,operator]
    learner = Learner(model, loss or losses.Bce(course.val_labels), device=course.device, bf16=course.bf16)
    run = TrainingState(learner, course, path=checkpoint)
    run.resume()
    yield from run.history
    with stop_on_signal() as stop:
        while run.epoch < course.epochs and run.epoch - run.best_epoch < course.patience:
            started = time.perf_counter()
            _learn(run, stop)
            record = run.close_epoch(_validate(run, stop))
            log.info("%s  %.1f s", _line(record, course.epochs), time.perf_counter() - started)
            yield record
    learner.load_state_dict(run.best)
    model.eval()


def _learn(run: TrainingState, stop: StopFlag) -> None:
    """The steps that are left of the epoch."""
    course, epoch, group = run.course, run.epoch + 1, run.group
    begin_epoch = getattr(run.learner.model, "begin_epoch", None)
    if begin_epoch is not None:
        begin_epoch(epoch, course.epochs)
    run.learner.train()
    batches = course.batches(epoch)
    read, steps = partial(course.read, epoch, batches), range(run.step, len(batches))
    # On a CPU reading takes about a hundredth of a step, and a thread would take from the step what it gives.
    in_turn = (read(step) for step in steps)
    with closing(in_turn if course.device == "cpu" else loop_batches.ahead(read, steps)) as source:
        for batch, n_rows in source:
            stopped, known = _agree(group, bool(stop), batch.labels)
            if stopped:
                run.leave()
            torch.manual_seed(mix(course.seed, epoch, run.step, *([group.rank] if group.rank else [])))
            run.learn(batch.to(course.device), n_rows=n_rows, known=known)
            course.progress(f"epoch {epoch}", run.step, len(batches))


def _agree(group: distributed.Group, stop: bool, labels: Tensor) -> tuple[bool, list[float]]:
    """Whether a signal has come to any process, and each one's share of the known labels (K,); alone: nothing."""
    if group.size == 1:
        return stop, []
    stops, *known = group.total([stop, *(~labels.isnan()).sum(dim=0).tolist()])
    return stops > 0, [n / group.size for n in known]


def _validate(run: TrainingState, stop: StopFlag) -> dict[str, float]:
    """Scores of the validation rows, by the loss as it is now; the first process predicts for all."""
    course, loss, device = run.course, run.learner.loss, run.course.device
    torch.manual_seed(mix(course.seed, run.epoch + 1))
    scores = dict.fromkeys(("loss", "auroc", "auprc"), math.nan)
    if run.group.leads:
        logits = predict(
            run.learner.model,
            course.collate,
            course.val_rows,
            batch_size=course.batch_size,
            device=device,
            between=partial(run.leave_if, stop) if run.group.size == 1 else lambda: None,
            lengths=course.lengths,
        )
        scores = score(logits, course.val_labels, loss=lambda x, y: loss(x.to(device), y.to(device)))
    return dict(zip(scores, run.group.from_leader(list(scores.values())), strict=True))


def _line(record: Record, epochs: int) -> str:
    loss, val_loss, auroc, auprc = (
        math.nan if record[name] is None else record[name]
        for name in ("train_loss", "val_loss", "val_auroc", "val_auprc")
    )
    return (
        f"epoch {record['epoch']}/{epochs}  loss {loss:.4f}  val loss {val_loss:.4f}  "
        f"val AUROC {auroc:.4f}  val AUPRC {auprc:.4f}  lr {record['lr']:.2g}"
    )
