"""What can go wrong with a stay's series: variables that are not measured, a gap in time, wrong units.

What is unobserved is imputed as in preprocess, from the values that are left: so the models meet the grid that they
would have met had the measurement never been made.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fusionctl.corruption import Array, Corruption
from fusionctl.data.series import Floats32, Impute, filling
from fusionctl.data.variables import FAHRENHEIT, INCH, INDEX, VARIABLES

_VARIABLES, _GAP, _UNITS = 4, 5, 6  # streams of random numbers

# Exact by the international yard and pound agreement of 1959.
KILOGRAM_PER_POUND = 0.45359237
# 1 mmol of glucose is 180.156 mg: the sum of the standard atomic weights of C6H12O6.
GLUCOSE_MG_PER_DL = 18.0156  # per mmol/L
# What a number becomes that was noted in one unit and is read as if it were in the variable's: x * scale + offset.
MISTAKES: dict[str, tuple[float, float]] = {
    "Temperature": (1 / FAHRENHEIT[0], -FAHRENHEIT[1] / FAHRENHEIT[0]),  # degrees Fahrenheit read as Celsius
    "Weight": (1 / KILOGRAM_PER_POUND, 0.0),  # pounds read as kilograms
    "Height": (1 / INCH[0], 0.0),  # inches read as centimetres
    "Glucose": (1 / GLUCOSE_MG_PER_DL, 0.0),  # mmol/L read as mg/dL
    "Fraction inspired oxygen": (0.01, 0.0),  # a share read as per cent, as in the reference code
}


@dataclass(frozen=True)
class Imputation:
    """How preprocess filled the cells without a measurement.

    fill: (V,) value where nothing was seen; carry: whether the last value seen comes before it.
    """

    fill: Floats32
    carry: bool

    @classmethod
    def of(cls, *, impute: Impute, protocol: str) -> Imputation:
        """By the settings of preprocess."""
        normal = [variable.imputed(protocol) for variable in VARIABLES]
        return cls(*filling(impute, normal, [variable.is_categorical for variable in VARIABLES]))

    def __call__(self, values: Array, observed: Array) -> Array:
        """The grid of one stay from its measured cells; what stands in the other cells is not read.

        Args:
            values: (T, V).
            observed: (T, V) bool.
        """
        if not self.carry:
            return np.where(observed, values, self.fill)
        row = np.where(observed, np.arange(len(values))[:, None], -1)
        np.maximum.accumulate(row, axis=0, out=row)
        last = np.take_along_axis(values, np.maximum(row, 0), axis=0)
        return np.where(row >= 0, last, self.fill)


class _OfSeries(Corruption):
    modality = "ehr"

    def __init__(self, impute: Imputation, *, level: float, seed: int) -> None:
        super().__init__(level=level, seed=seed)
        self._impute = impute


class Variables(_OfSeries):
    """Of each stay a share of the 17 variables was never measured, drawn stay by stay."""

    name = "variables"

    def series(self, values: Array, observed: Array, stay_id: int) -> tuple[Array, Array]:
        """The grid without round(level * 17) variables."""
        n = round(self.level * values.shape[1])
        if n == 0:
            return values, observed
        away = self.generator(stay_id, _VARIABLES).permutation(values.shape[1])[:n]
        values, observed = values.copy(), observed.copy()
        values[:, away], observed[:, away] = self._impute.fill[away], False
        return values, observed


class Gap(_OfSeries):
    """Nothing of a stay was measured in one contiguous share of its window."""

    name = "gap"

    def series(self, values: Array, observed: Array, stay_id: int) -> tuple[Array, Array]:
        """The grid with round(level * T) rows unobserved; a longer gap holds every shorter one."""
        n_rows = len(values)
        n = round(self.level * n_rows)
        if n == 0:
            return values, observed
        # One row longer, a gap begins at most one row earlier and ends no earlier.
        first = int(self.generator(stay_id, _GAP).random() * (n_rows - n + 1))
        observed = observed.copy()
        observed[first : first + n] = False
        return self._impute(values, observed), observed


class Units(_OfSeries):
    """In a share of the stays the five variables of `MISTAKES` were noted in another unit, and nobody saw it.

    Preprocess drops what is not plausible, and would catch most of these; this is what a model makes of a mistake that
    nothing caught. Only measured values are wrong, and what is carried forward from them.
    """

    name = "units"

    def series(self, values: Array, observed: Array, stay_id: int) -> tuple[Array, Array]:
        """The grid with wrong numbers in the measured cells."""
        if not self.happens(stay_id, _UNITS):
            return values, observed
        values = values.copy()
        for name, (scale, offset) in MISTAKES.items():
            values[:, INDEX[name]] = values[:, INDEX[name]] * scale + offset
        return self._impute(values, observed), observed
