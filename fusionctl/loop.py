"""The training loop: one generator for every model, one record an epoch.

All randomness is a function of (seed, epoch, step), so a checkpoint holds no random state: a run that was stopped at
any step and resumed ends, on a CPU, with the bits of one that was not.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from fusionctl import checkpoint as files
from fusionctl import losses, metrics
from fusionctl.errors import InputError
from fusionctl.loop_state import Labelled, Loss, Record, TrainingState, usable_monitor

log = logging.getLogger("fusionctl")

Rows = npt.NDArray[np.int64]
Collate = Callable[[Rows], Labelled]


def mix(*numbers: int) -> int:
    """One well-mixed 63-bit seed from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def predict(
    model: nn.Module,
    collate: Collate,
    rows: Rows,
    *,
    batch_size: int,
    device: str = "cpu",
    between: Callable[[], None] = lambda: None,
) -> npt.NDArray[np.float32]:
    """Logits of rows, in their order; none is dropped.

    Args:
        model: returns an `Output` (or anything with `logits`) for a batch.
        collate: reads the batch of some rows.
        rows: (N,) rows.
        batch_size: rows per batch.
        device: where the model is.
        between: called after each batch.

    Returns:
        (N, K) raw logits; NaN where the model has no prediction.
    """
    model.eval()
    parts = []
    with torch.no_grad():
        for start in range(0, len(rows), batch_size):
            output = model(collate(rows[start : start + batch_size]).to(device))
            parts.append(output.logits.float().cpu().numpy())
            between()
    return np.concatenate(parts) if parts else np.zeros((0, 0), dtype=np.float32)


def score(
    logits: npt.NDArray[np.float32], labels: npt.NDArray[np.float32], *, loss: Loss = losses.bce
) -> dict[str, float]:
    """Loss, and AUROC and AUPRC averaged over the labels that have both classes; NaN if none has.

    Rows without a prediction (NaN) are left out; where no row is left, all is NaN.

    Args:
        logits: (N, K).
        labels: (N, K) 0, 1 or NaN (unknown).
        loss: of (logits, labels).
    """
    predicted = ~np.isnan(logits).any(axis=1)
    if not predicted.any():
        return dict.fromkeys(("loss", "auroc", "auprc"), math.nan)
    logits, labels = logits[predicted], labels[predicted]
    areas = [(metrics.auroc(y, s), metrics.auprc(y, s)) for y, s in zip(labels.T, logits.T, strict=True)]
    defined = np.array([pair for pair in areas if not math.isnan(pair[0])]).reshape(-1, 2)
    auroc, auprc = defined.mean(axis=0).tolist() if len(defined) else (math.nan, math.nan)
    value = float(loss(torch.from_numpy(logits).double(), torch.from_numpy(labels).double()))
    return {"loss": value, "auroc": auroc, "auprc": auprc}


def chances(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Probabilities of logits (any shape), without overflow; NaN stays NaN."""
    return torch.from_numpy(logits).double().sigmoid().float().numpy()


def history_lines(records: Iterable[Record]) -> str:
    """Records as JSON lines, the content of history.jsonl. They hold no times: same run, same bytes."""
    return "".join(json.dumps(record) + "\n" for record in records)


def finite(values: Mapping[str, float]) -> dict[str, float | None]:
    """Numbers for a JSON file, where what is undefined is null."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def summary(model: nn.Module, history: Sequence[Record], results: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Content of metrics.json: size of the model, length of the training, and the given scores by split."""
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "epochs": len(history),
        "best_epoch": max(record["epoch"] for record in history if record["best"]),
        **{split: finite(scores) for split, scores in results.items()},
    }


def fit(folder: Path, model: nn.Module, collate: Collate, **arguments: Any) -> list[Record]:
    """Train as `train` does, with the checkpoint in a folder, and write history.jsonl there.

    Args:
        folder: draft of the artifact. The checkpoint stays there until its weights are written and the caller removes
            it: a kill in between costs nothing.
        model: see `train`.
        collate: see `train`.
        arguments: the others of `train`.

    Returns:
        All records.
    """
    history = list(train(model, collate, checkpoint=folder / files.CHECKPOINT, **arguments))
    (folder / "history.jsonl").write_text(history_lines(history), encoding="utf-8")
    return history


def train(
    model: nn.Module,
    collate: Collate,
    *,
    train_rows: Rows,
    val_rows: Rows,
    val_labels: npt.NDArray[np.float32],
    epochs: int,
    batch_size: int,
    lr: float,
    patience: int,
    weight_decay: float = 0.0,
    grad_clip: float = 0.0,
    monitor: str = "val_auroc",
    loss: Loss = losses.bce,
    seed: int = 0,
    device: str = "cpu",
    checkpoint: Path | None = None,
    progress: Callable[[str, int, int | None], None] = lambda label, done, total: None,
) -> Iterator[Record]:
    """Train a model; when the generator is exhausted the model holds the weights of its best epoch.

    Args:
        model: takes a batch, returns an `Output`.
        collate: reads the batch of some rows.
        train_rows: rows to learn from, each once an epoch, in an order drawn anew.
        val_rows: (N,) rows to choose the epoch by; without any (a tiny data set) the last epoch is the one.
        val_labels: (N, K) their labels.
        epochs: most epochs.
        batch_size: rows per step; the last step of an epoch may have fewer.
        lr: learning rate of Adam.
        patience: stop after this many epochs without a better `monitor`.
        weight_decay: decoupled from the gradient (AdamW); 0 is plain Adam.
        grad_clip: largest norm of the gradient; 0 = not clipped.
        monitor: one of `MONITORS`; of equal epochs the earlier is the best.
        loss: of (logits, labels).
        seed: of order, dropout and augmentation.
        device: where to train.
        checkpoint: file to save to after each epoch and when a signal comes, and to resume from if it is there.
        progress: called with a label, steps done and steps in all.

    Yields:
        One record an epoch, those before a resume included: epoch (from 1), train_loss, val_loss, val_auroc,
        val_auprc (None where undefined), lr, best (it is better than all before).

    Raises:
        InputError: there is nothing to train on.
        Interrupted: SIGTERM or SIGUSR1 came; the checkpoint is saved.
        FusionctlError: the loss is no longer finite.
    """
    if not len(train_rows):
        raise InputError("there is no row to train on", hint="the data set is too small or has no such rows")
    model.to(device)
    run = TrainingState(
        model, lr=lr, weight_decay=weight_decay, monitor=usable_monitor(monitor, val_labels), path=checkpoint
    )
    run.resume(device)
    yield from run.history
    n_steps = math.ceil(len(train_rows) / batch_size)
    with files.stop_on_signal() as stop:
        while run.epoch < epochs and run.epoch - run.best_epoch < patience:
            started, epoch = time.perf_counter(), run.epoch + 1
            order = np.random.default_rng([seed, epoch]).permutation(train_rows)
            model.train()
            for step in range(run.step, n_steps):
                torch.manual_seed(mix(seed, epoch, step))
                run.learn(collate(order[step * batch_size : (step + 1) * batch_size]).to(device), loss, grad_clip)
                progress(f"epoch {epoch}", step + 1, n_steps)
                run.leave_if(stop)
            logits = predict(
                model, collate, val_rows, batch_size=batch_size, device=device, between=lambda: run.leave_if(stop)
            )
            record = run.close_epoch(score(logits, val_labels, loss=loss), n_rows=len(train_rows))
            log.info("%s  %.1f s", _line(record, epochs), time.perf_counter() - started)
            yield record
    model.load_state_dict(run.best)
    model.eval()


def _line(record: Record, epochs: int) -> str:
    loss, val_loss, auroc, auprc = (
        math.nan if record[name] is None else record[name]
        for name in ("train_loss", "val_loss", "val_auroc", "val_auprc")
    )
    return (
        f"epoch {record['epoch']}/{epochs}  loss {loss:.4f}  val loss {val_loss:.4f}  "
        f"val AUROC {auroc:.4f}  val AUPRC {auprc:.4f}  lr {record['lr']:.2g}"
    )
