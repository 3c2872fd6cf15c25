"""Rows sorted once by score, and metrics of many weightings of them: the inner loop of every interval.

A weighting says how often each patient counts. With the rows in order it costs one pass over them: in C (`_boot.c`),
64 weightings at a time, where that could be compiled, else with numpy, about ten times slower.
Letters: N rows (stays), n of them with a known label, Q patients, R weightings, C cuts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    from fusionctl import _boot
except ImportError:  # not compiled on this machine
    _boot = None  # type: ignore[assignment]

Floats = NDArray[np.float64]
Blocks = NDArray[np.uint8]  # (blocks, Q, LANES): how often each weighting counts each patient
LANES = 64
# Cells of one gathered (weightings, rows) block of the numpy path: it stays inside the processor's cache.
BLOCK_CELLS = 1 << 17
# Sums of the compiled path are 32-bit numbers of at most 255 a row.
MOST_ROWS = (2**31 - 1) // 255


@dataclass(frozen=True)
class Ranked:
    """One label of one model, sorted once: what weightings need. A run: equal scores with a positive among them."""

    columns: NDArray[np.intp]  # (n,) patient of each row with a known label, highest score first
    positive: NDArray[np.bool_]  # (n,) in that order
    start: NDArray[np.intp]  # (g,) first position of each run
    end: NDArray[np.intp]  # (g,) one past its last position
    thresholds: Floats  # (C - 1,) a score at or above is a positive call; NaN where there is none
    cuts: NDArray[np.intp]  # (C,) number of rows called by each threshold, and of all rows
    complete: bool  # no score is missing


def rank(labels: Floats, scores: Floats, patients: NDArray[np.intp], *, thresholds: Sequence[float]) -> Ranked:
    """Sort the rows of one label by falling score.

    Args:
        labels: (N,) 0, 1 or NaN (left out).
        scores: (N,) probabilities.
        patients: (N,) 0..Q-1: the patient whose weight the row takes.
        thresholds: for each a macro and a binary F1 follow the areas; NaN gives NaN.
    """
    known = np.flatnonzero(~np.isnan(labels))
    order = known[np.argsort(-scores[known], kind="stable")]
    falling, positive = scores[order], labels[order] > 0
    changes = np.flatnonzero(falling[1:] != falling[:-1]) + 1
    bounds = np.concatenate([[0], changes, [len(order)]]).astype(np.intp)
    run = np.unique(np.searchsorted(changes, np.flatnonzero(positive), side="right"))
    limits = np.asarray(thresholds, dtype=np.float64)
    cuts = [*(falling[:, None] >= limits).sum(axis=0), len(order)]
    complete = not bool(np.isnan(falling).any())
    return Ranked(patients[order], positive, bounds[run], bounds[run + 1], limits, np.asarray(cuts, np.intp), complete)


def weighted(ranked: Ranked, weights: NDArray[Any]) -> Floats:
    """AUROC, average precision, then macro and binary F1 of each threshold, under R weightings, with numpy.

    Args:
        ranked: one sorted label.
        weights: (R, Q), integers or floats, not negative.

    Returns:
        (R, 2 * C); NaN where only one class has weight, or a score is missing.
    """
    sums = np.zeros((len(weights), 2 + 2 * len(ranked.cuts)))
    step = max(1, BLOCK_CELLS // max(1, len(ranked.columns)))
    for first in range(0, len(weights) if ranked.complete else 0, step):
        sums[first : first + step] = _sums(ranked, weights[first : first + step])
    return _metrics(ranked, sums)


def weighted_blocks(ranked: Ranked, blocks: Blocks) -> Floats:
    """As `weighted`, under the blocks * LANES weightings of `blocks`, compiled where possible."""
    if _boot is None or len(ranked.columns) > MOST_ROWS:
        return np.concatenate([weighted(ranked, np.ascontiguousarray(block.T, np.int32)) for block in blocks])
    order = np.argsort(ranked.cuts, kind="stable")
    sums = np.zeros((len(blocks), 2 + 2 * len(order), LANES))
    if ranked.complete:
        places = ranked.columns, ranked.positive, ranked.start, ranked.end, ranked.cuts[order]
        _boot.sums(blocks, blocks.shape[1], *places, sums)
    areas, tallies = sums[:, :2], sums[:, 2:].reshape(len(blocks), len(order), 2, LANES)
    in_place = tallies[:, np.argsort(order)].reshape(len(blocks), -1, LANES)
    return _metrics(ranked, np.concatenate([areas, in_place], axis=1).transpose(0, 2, 1).reshape(-1, sums.shape[1]))


def _sums(ranked: Ranked, weights: NDArray[Any]) -> Floats:
    """What `_boot.sums` gives, (R, 2 + 2 * C): two sums over runs, then true positives and calls at each cut.

    The sums: gained weight times twice the negatives that rank before it (a tie is half before), and gained weight
    times precision.
    """
    # Sums of integers are exact in their own type and twice as fast as in float64.
    dtype = weights.dtype if np.issubdtype(weights.dtype, np.integer) else np.dtype(np.float64)
    above = np.zeros((len(weights), len(ranked.columns) + 1), dtype=dtype)
    gathered = np.take(weights.astype(dtype, copy=False), ranked.columns, axis=1, mode="clip")
    np.cumsum(gathered, axis=1, out=above[:, 1:])
    positives = np.flatnonzero(ranked.positive)
    true_to = np.zeros((len(weights), len(positives) + 1), dtype=dtype)
    np.cumsum(gathered[:, positives], axis=1, out=true_to[:, 1:])
    true = true_to[:, np.searchsorted(positives, ranked.end)].astype(np.float64)
    gained = np.diff(true, axis=1, prepend=0.0)
    before, after = above[:, ranked.start].astype(np.float64), above[:, ranked.end].astype(np.float64)
    # A run of weight 0 at the very top is 0/0; it gains nothing.
    precision = np.divide(true, after, out=np.zeros_like(true), where=after > 0)
    areas = [np.einsum("rg,rg->r", gained, x) for x in (before + after - 2.0 * true + gained, precision)]
    calls = np.stack([true_to[:, np.searchsorted(positives, ranked.cuts)], above[:, ranked.cuts]], axis=2)
    return np.concatenate([np.stack(areas, axis=1), calls.reshape(len(weights), -1)], axis=1)


def _metrics(ranked: Ranked, sums: Floats) -> Floats:
    """The (R, 2 * C) metrics of `weighted` from the (R, 2 + 2 * C) sums."""
    false_twice, precision, *calls = sums.T
    positive, known = calls[-2:]
    negative = known - positive
    with np.errstate(divide="ignore", invalid="ignore"):
        columns = [1.0 - false_twice / (2.0 * positive * negative), precision / positive]
        for threshold, true, called in zip(ranked.thresholds, calls[::2], calls[1::2], strict=False):
            binary = 2.0 * true / (called + positive) + 0.0 * threshold  # NaN without a threshold
            rejected = known - called
            columns += [(binary + 2.0 * (negative - called + true) / (rejected + negative)) / 2.0, binary]
    both = (positive > 0) & (negative > 0)
    return np.where(both[:, None], np.stack(columns, axis=1), np.nan)
