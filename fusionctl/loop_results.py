"""Predictions and their scores, and what a training run leaves in its artifact about itself."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fusionctl import losses, metrics
from fusionctl.loop_batches import Rows, by_length
from fusionctl.loop_course import Collate
from fusionctl.loop_state import Record


def gather(
    of: Callable[[Any], Mapping[str, Tensor]],
    collate: Collate,
    rows: Rows,
    *,
    batch_size: int,
    device: str = "cpu",
    between: Callable[[], None] = lambda: None,
    lengths: npt.NDArray[Any] | None = None,
) -> dict[str, npt.NDArray[np.float32]]:
    """What a function of a batch gives for rows, in their order; none is dropped.

    Args:
        of: from a batch of B stays to tensors (B, ...) by name.
        collate: reads the batch of some rows.
        rows: (N,) rows.
        batch_size: rows per batch.
        device: where the model is.
        between: called after each batch.
        lengths: length of row r at r, to read rows of similar length together.

    Returns:
        (N, ...) arrays by name; none where there are no rows.
    """
    order = by_length(rows, lengths)
    parts: dict[str, list[npt.NDArray[np.float32]]] = {}
    with torch.no_grad():
        for start in range(0, len(rows), batch_size):
            batch = collate(rows[order[start : start + batch_size]]).to(device)
            for name, tensor in of(batch).items():
                parts.setdefault(name, []).append(tensor.float().cpu().numpy())
            between()
    back = np.argsort(order)
    return {name: np.concatenate(arrays)[back] for name, arrays in parts.items()}


def predict(model: nn.Module, collate: Collate, rows: Rows, **arguments: Any) -> npt.NDArray[np.float32]:
    """Logits of rows, in their order and in full precision; none is dropped.

    Args:
        model: returns an `Output` (or anything with `logits`) for a batch.
        collate: reads the batch of some rows.
        rows: (N,) rows.
        arguments: the others of `gather`.

    Returns:
        (N, K) raw logits; NaN where the model has no prediction.
    """
    model.eval()
    found = gather(lambda batch: {"logits": model(batch).logits}, collate, rows, **arguments)
    return found.get("logits", np.zeros((0, 0), dtype=np.float32))


def score(
    logits: npt.NDArray[np.float32],
    labels: npt.NDArray[np.float32],
    *,
    loss: Callable[[Tensor, Tensor], Tensor] = losses.bce,
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
    with torch.no_grad():
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


def summary(
    model: nn.Module,
    history: Sequence[Record],
    results: Mapping[str, Mapping[str, float]],
    *,
    loss: nn.Module | None = None,
) -> dict[str, Any]:
    """Content of metrics.json: size of model and loss, length of the training, and the given scores by split."""
    parameters = [*model.parameters(), *(loss.parameters() if loss else ())]
    return {
        "parameters": sum(parameter.numel() for parameter in parameters),
        "epochs": len(history),
        "best_epoch": max(record["epoch"] for record in history if record["best"]),
        **{split: finite(scores) for split, scores in results.items()},
    }
