"""Intervals and paired differences from bootstrap resamples of patients.

Letters: K labels, M models, R resamples, Q patients, F metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Method = Literal["percentile", "bca"]
Interval = dict[str, float]  # value, low, high; of a difference also p
_ENDS = (0.025, 0.975)


@dataclass(frozen=True)
class Bootstrap:
    """Metrics of M models on the data and on R resamples of its patients.

    values: (M, K + 1, F); the last of the K + 1 is the mean over the labels that have both classes.
    draws: (R, M, K + 1, F); a mean is that of the resample's own labels, so that its interval is one of the mean.
    metrics: names of the F columns.
    left_out: gives (Q, M, K + 1, F), the values without each patient in turn; costs Q evaluations, so only BCa asks.
    """

    values: Floats
    draws: Floats
    metrics: tuple[str, ...]
    left_out: Callable[[], Floats]

    def interval(self, model: int, label: int = -1, *, method: Method = "percentile") -> dict[str, Interval]:
        """`{metric: {value, low, high}}`: 95 % interval; `label` -1 is the mean over labels. See `limits`."""
        return self._summary(
            self.values[model, label], self.draws[:, model, label], self._jackknife(method, model, label)
        )

    def difference(
        self, model: int, reference: int, label: int = -1, *, method: Method = "percentile"
    ) -> dict[str, Interval]:
        """`{metric: {value, low, high, p}}` of `model` minus `reference`, paired: both on the same resamples.

        p is two-sided: twice the smaller share of resamples at or beyond 0, each counted with one more, so never 0.
        """
        values = self.values[model, label] - self.values[reference, label]
        draws = self.draws[:, model, label] - self.draws[:, reference, label]
        left_out = self._jackknife(method, model, label) - self._jackknife(method, reference, label)
        summary = self._summary(values, draws, left_out)
        for metric, column in zip(self.metrics, draws.T, strict=True):
            summary[metric]["p"] = two_sided_p(column)
        return summary

    def undefined(self, model: int, label: int) -> int:
        """Number of resamples without a value because one class was not drawn."""
        return int(np.isnan(self.draws[:, model, label, 0]).sum())

    def grouped(self, groups: Sequence[Sequence[int]]) -> Bootstrap:
        """One model a group: the mean of its models (seeds of one system), on the data and on each resample.

        So the interval is that of the mean over these very seeds: patients vary in it, seeds do not.

        Args:
            groups: indices of models; a model may be in several groups.
        """

        def mean(scores: Floats) -> Floats:
            return np.stack([scores[..., list(group), :, :].mean(axis=-3) for group in groups], axis=-3)

        @cache
        def left_out() -> Floats:
            return mean(self.left_out())

        return Bootstrap(mean(self.values), mean(self.draws), self.metrics, left_out)

    def _jackknife(self, method: Method, model: int, label: int) -> Floats:
        """(Q, F) values without each patient; (0, F) where the method needs none."""
        return self.left_out()[:, model, label] if method == "bca" else np.empty((0, len(self.metrics)))

    def _summary(self, values: Floats, draws: Floats, left_out: Floats) -> dict[str, Interval]:
        """`{metric: {value, low, high}}` from (F,) values, (R, F) draws and (Q, F) or (0, F) jackknife values."""
        columns = zip(self.metrics, values, draws.T, left_out.T, strict=True)
        return {
            metric: dict(zip(("value", "low", "high"), (float(v), *limits(v, d, j if len(j) else None)), strict=True))
            for metric, v, d, j in columns
        }


def limits(value: float, draws: Floats, left_out: Floats | None = None) -> tuple[float, float]:
    """Both ends of a 95 % interval.

    Args:
        value: the statistic on the data.
        draws: (R,) on resamples; NaN is left out.
        left_out: (Q,) without each patient: then BCa (Efron, JASA 1987), which corrects for bias (the share of draws
            below the value, an equal one counted half) and for skew (the acceleration, from this jackknife). None:
            the percentile interval.

    Returns:
        (low, high); NaN without draws.
    """
    draws = draws[~np.isnan(draws)]
    if not len(draws):
        return float("nan"), float("nan")
    shares = _ENDS if left_out is None else _bca_shares(value, draws, left_out[~np.isnan(left_out)])
    low, high = np.percentile(draws, [100 * share for share in shares])
    return float(low), float(high)


def _bca_shares(value: float, draws: Floats, left_out: Floats) -> tuple[float, ...]:
    """The shares of the draws that take the place of 2.5 % and 97.5 %."""
    normal = NormalDist()
    below = (np.count_nonzero(draws < value) + np.count_nonzero(draws <= value)) / 2
    # Half a draw from either end at most: beyond it the bias would be infinite.
    bias = normal.inv_cdf(min(max(below, 0.5), len(draws) - 0.5) / len(draws))
    influence = left_out.mean() - left_out if len(left_out) else np.zeros(1)
    spread = float((influence**2).sum()) ** 1.5
    acceleration = float((influence**3).sum()) / (6 * spread) if spread > 0 else 0.0
    shares = []
    for end in _ENDS:
        z = bias + normal.inv_cdf(end)
        room = 1 - acceleration * z
        # Where skew leaves no room the end is the outermost draw.
        shares.append(normal.cdf(bias + z / room) if room > 0 else float(z > 0))
    return tuple(shares)


def two_sided_p(draws: Floats) -> float:
    """Twice the smaller share of (R,) draws at or beyond 0, each counted with one more; NaN without draws."""
    draws = draws[~np.isnan(draws)]
    tail = min(np.count_nonzero(draws <= 0), np.count_nonzero(draws >= 0))
    return min(1.0, 2.0 * (1 + tail) / (1 + len(draws))) if len(draws) else float("nan")


def mean_of_known(values: Floats, *, axis: int) -> Floats:
    """Mean of what is not NaN; NaN, without a warning, where nothing is left."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, values, 0.0).sum(axis=axis) / known.sum(axis=axis))
