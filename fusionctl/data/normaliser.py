"""The statistics for standardising the grid: from training rows only, in float64, the same bits every time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fusionctl.errors import InputError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Kind = Literal["standard", "robust"]

# Below this a variable counts as constant (Height, say, that nobody measured): dividing by the rounding error of a
# mean would blow it up.
CONSTANT_SD = 1e-6
# Interquartile range of a normal distribution with sd 1, twice its quantile at 0.75: it makes both kinds agree on
# bell-shaped values.
NORMAL_IQR = 1.349


@dataclass(frozen=True)
class Normaliser:
    """Centre and spread of each variable over the grid rows of the training stays.

    Measured and imputed cells count alike, as in the reference, which takes them from the discretised tensors. A
    variable that is filled with one value in most rows may therefore have no interquartile range: kind "robust" then
    takes its standard deviation.

    Attributes:
        mean: V means, or medians if robust, in physical units; 0 for a categorical variable.
        sd: V standard deviations (of the population), or interquartile ranges / 1.349 if robust; 1 for a categorical
            variable and where the figure is at most 1e-6.
        n_stays: number of training stays.
        kind: "standard", or "robust" against outliers.
    """

    mean: list[float]
    sd: list[float]
    n_stays: int
    split: str = "train"
    train_rows_only: bool = True
    kind: Kind = "standard"  # artifacts from before there was a choice do not name it

    @classmethod
    def fit(
        cls,
        values: npt.NDArray[np.float32],
        train: BoolArray,
        n_rows: IntArray,
        continuous: BoolArray,
        *,
        kind: Kind = "standard",
    ) -> Normaliser:
        """Compute the statistics in float64: same rows, same bits.

        Memory: a block of a fixed number of rows, or if robust one variable of all training rows.

        Args:
            values: (R, V) grid rows of all stays, one stay after another.
            train: (N,) which stays are in the training split.
            n_rows: (N,) rows of each stay.
            continuous: (V,) which variables are standardised.
            kind: which statistics.

        Raises:
            InputError: there is no training stay.
        """
        rows = np.repeat(train, n_rows)
        if not rows.any():
            raise InputError(
                f"none of {len(train)} stays is in the training split; rule: statistics come from training stays",
                hint="the data set is too small: about 70 % of the patients are for training",
            )
        centre, spread = (_quartiles if kind == "robust" else _moments)(values, rows)
        if kind == "robust":  # mostly imputed: no interquartile range, but a spread all the same
            spread = np.where(spread > CONSTANT_SD, spread, _moments(values, rows)[1])
        spread = np.where(continuous & (spread > CONSTANT_SD), spread, 1.0)
        return cls(np.where(continuous, centre, 0.0).tolist(), spread.tolist(), int(train.sum()), kind=kind)

    def to_json(self) -> dict[str, Any]:
        """As stored in normaliser.json."""
        return dataclasses.asdict(self)


def _moments(values: npt.NDArray[np.float32], rows: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Means and standard deviations (V,) of the chosen rows, in blocks of a fixed size."""
    n = rows.sum()
    mean = np.asarray(sum(block.sum(axis=0) for block in _blocks(values, rows)) / n)
    return mean, np.sqrt(sum(((block - mean) ** 2).sum(axis=0) for block in _blocks(values, rows)) / n)


def _quartiles(values: npt.NDArray[np.float32], rows: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Medians and interquartile ranges / 1.349 (V,) of the chosen rows, a variable at a time."""
    columns = (values[:, column][rows].astype(np.float64) for column in range(values.shape[1]))
    low, median, high = np.stack([np.quantile(column, [0.25, 0.5, 0.75]) for column in columns], axis=1)
    return median, (high - low) / NORMAL_IQR


def _blocks(values: npt.NDArray[np.float32], rows: BoolArray, size: int = 1 << 17) -> Iterator[FloatArray]:
    for start in range(0, len(values), size):
        yield values[start : start + size][rows[start : start + size]].astype(np.float64)
