"""The statistics for standardising the grid: from training rows only, in float64, the same bits every time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fusionctl.errors import InputError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

# Below this a variable counts as constant (Height, say, that nobody measured): dividing by the rounding error of a
# mean would blow it up.
CONSTANT_SD = 1e-6


@dataclass(frozen=True)
class Normaliser:
    """Mean and standard deviation of each variable over the grid rows of the training stays.

    Measured and imputed cells count alike, as in the reference, which takes them from the discretised tensors.

    Attributes:
        mean: V means in physical units; 0 for a categorical variable.
        sd: V standard deviations (of the population); 1 for a categorical or constant variable.
        n_stays: number of training stays.
    """

    mean: list[float]
    sd: list[float]
    n_stays: int
    split: str = "train"
    train_rows_only: bool = True

    @classmethod
    def fit(
        cls,
        values: npt.NDArray[np.float32],
        train: BoolArray,
        n_rows: IntArray,
        continuous: BoolArray,
    ) -> Normaliser:
        """Compute the statistics in float64, in blocks of a fixed size: same rows, same bits.

        Args:
            values: (R, V) grid rows of all stays, one stay after another.
            train: (N,) which stays are in the training split.
            n_rows: (N,) rows of each stay.
            continuous: (V,) which variables are standardised.

        Raises:
            InputError: there is no training stay.
        """
        rows = np.repeat(train, n_rows)
        if not rows.any():
            raise InputError(
                f"none of {len(train)} stays is in the training split; rule: statistics come from training stays",
                hint="the data set is too small: about 70 % of the patients are for training",
            )
        n, mean = rows.sum(), sum(block.sum(axis=0) for block in _blocks(values, rows)) / rows.sum()
        sd = np.sqrt(sum(((block - mean) ** 2).sum(axis=0) for block in _blocks(values, rows)) / n)
        sd = np.where(continuous & (sd > CONSTANT_SD), sd, 1.0)
        return cls(np.where(continuous, mean, 0.0).tolist(), sd.tolist(), int(train.sum()))

    def to_json(self) -> dict[str, Any]:
        """As stored in normaliser.json."""
        return dataclasses.asdict(self)


def _blocks(values: npt.NDArray[np.float32], rows: BoolArray, size: int = 1 << 17) -> Iterator[FloatArray]:
    for start in range(0, len(values), size):
        yield values[start : start + size][rows[start : start + size]].astype(np.float64)
