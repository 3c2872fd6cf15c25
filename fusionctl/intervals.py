"""Intervals and paired differences from bootstrap resamples of patients.

Letters: K labels, M models, R resamples, Q patients, F metrics.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Method = Literal["auto", "percentile", "shifted", "basic", "bca"]
Interval = dict[str, float]  # value, low, high; of a difference also p
# The method that `auto` takes for a metric's value where that is not `percentile`, which it takes for all differences.
# An AUPRC of few outcomes is too high, and that of a resample is so twice over: the interval of a mean over 25 labels
# lies above the truth. In a difference of two models that cancels. Coverage of each: benchmarks/coverage.py.
AUTO: dict[str, Method] = {"auprc": "shifted"}
VALUES, DIFFERENCES = (0.0, 1.0), (-1.0, 1.0)  # where the metrics lie
_ENDS = (0.025, 0.975)
_NORMAL = NormalDist()


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
        """`{metric: {value, low, high}}`: 95 % interval; `label` -1 is the mean over labels. See `interval`."""
        values, draws = self.values[model, label], self.draws[:, model, label]
        methods = [method_of(method, metric) for metric in self.metrics]
        left_out = self._jackknife(methods, model, label)
        found = map(partial(interval, bounds=VALUES), values, draws.T, methods, left_out.T)
        return dict(zip(self.metrics, found, strict=True))

    def difference(
        self, model: int, reference: int, label: int = -1, *, method: Method = "percentile"
    ) -> dict[str, Interval]:
        """`{metric: {value, low, high, p}}` of `model` minus `reference`, paired: both on the same resamples.

        p is that of `two_sided_p`: below 0.05 where the interval leaves 0 out, but for a draw at its very end.
        """
        values = self.values[model, label] - self.values[reference, label]
        draws = self.draws[:, model, label] - self.draws[:, reference, label]
        methods = [method_of(method, metric, difference=True) for metric in self.metrics]
        left_out = self._jackknife(methods, model, label) - self._jackknife(methods, reference, label)
        found = {}
        for metric, value, column, own, jackknife in zip(
            self.metrics, values, draws.T, methods, left_out.T, strict=True
        ):
            ends = interval(value, column, own, jackknife, bounds=DIFFERENCES)
            found[metric] = {**ends, "p": two_sided_p(value, column, own, jackknife)}
        return found

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

    def _jackknife(self, methods: Sequence[Method], model: int, label: int) -> Floats:
        """(Q, F) values without each patient; (0, F) where no method needs them."""
        return self.left_out()[:, model, label] if "bca" in methods else np.empty((0, len(self.metrics)))


def method_of(method: Method, metric: str, *, difference: bool = False) -> Method:
    """What `auto` stands for, of a metric's value or of a difference of two; any other method is itself."""
    if method != "auto":
        return method
    return "percentile" if difference else AUTO.get(metric, "percentile")


def interval(
    value: float,
    draws: Floats,
    method: Method = "percentile",
    left_out: Floats | None = None,
    *,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Interval:
    """`{value, low, high}`: a 95 % interval within bounds.

    Args:
        value: the statistic on the data.
        draws: (R,) on resamples; NaN is left out.
        method: percentile: of the draws. basic: of the draws mirrored at the value. shifted: the percentile interval
            moved by twice the bias, which is the mean of the draws less the value: once for that of the draws, once
            for that of the value. bca (Efron, JASA 1987): at other shares, for bias and skew.
        left_out: (Q,) without each patient; bca alone needs it.
        bounds: where the statistic can lie.

    Returns:
        Both ends NaN without draws.
    """
    kept = _placed(value, draws, method)
    if not len(kept):
        return {"value": float(value), "low": math.nan, "high": math.nan}
    shares = _bca_shares(value, kept, left_out) if method == "bca" else _ENDS
    low, high = np.clip(np.percentile(kept, [100 * share for share in shares]), *bounds)
    return {"value": float(value), "low": float(low), "high": float(high)}


def _placed(value: float, draws: Floats, method: Method) -> Floats:
    """The draws that are there, where the method's percentiles are taken of them."""
    draws = draws[~np.isnan(draws)]
    if method == "basic":
        return 2 * value - draws
    return draws - 2 * (draws.mean() - value) if method == "shifted" and len(draws) else draws


def _bca_terms(value: float, draws: Floats, left_out: Floats | None) -> tuple[float, float]:
    """Bias (of the share of draws below the value, an equal one counted half) and acceleration (from the jackknife)."""
    below = (np.count_nonzero(draws < value) + np.count_nonzero(draws <= value)) / 2
    # Half a draw from either end at most: beyond it the bias would be infinite.
    bias = _NORMAL.inv_cdf(min(max(below, 0.5), len(draws) - 0.5) / len(draws))
    known = np.zeros(1) if left_out is None else left_out[~np.isnan(left_out)]
    influence = known.mean() - known if len(known) else np.zeros(1)
    spread = float((influence**2).sum()) ** 1.5
    return bias, float((influence**3).sum()) / (6 * spread) if spread > 0 else 0.0


def _bca_shares(value: float, draws: Floats, left_out: Floats | None) -> tuple[float, ...]:
    """The shares of the draws that take the place of 2.5 % and 97.5 %."""
    bias, acceleration = _bca_terms(value, draws, left_out)
    shares = []
    for end in _ENDS:
        z = bias + _NORMAL.inv_cdf(end)
        room = 1 - acceleration * z
        # Where skew leaves no room the end is the outermost draw.
        shares.append(_NORMAL.cdf(bias + z / room) if room > 0 else float(z > 0))
    return tuple(shares)


def two_sided_p(value: float, draws: Floats, method: Method = "percentile", left_out: Floats | None = None) -> float:
    """Twice the smaller one-sided p of "the statistic is 0": the interval of `interval` turned round.

    One-sided, it is the share of draws at or beyond 0, counted with one more so that it is never 0, where the method
    puts the draws; of bca the level whose end that share is.

    Returns:
        From 2 / (R + 1) to 1; NaN without draws.
    """
    kept = _placed(value, draws, method)
    if not len(kept):
        return math.nan
    n = len(kept)
    tails = [float((1 + np.count_nonzero(side)) / (1 + n)) for side in (kept <= 0, kept >= 0)]
    if method == "bca":
        bias, acceleration = _bca_terms(value, kept, left_out)
        tails = [_bca_level(tails[0], bias, acceleration), _bca_level(tails[1], -bias, -acceleration)]
    return min(1.0, max(2.0 / (1 + n), 2.0 * min(tails)))


def _bca_level(share: float, bias: float, acceleration: float) -> float:
    """The level of the lower end that lies at a share of the draws: `_bca_shares` solved for the level."""
    if share >= 1:
        return 1.0
    w = _NORMAL.inv_cdf(share) - bias
    room = 1 + acceleration * w
    # No level has its end beyond where the shares pile up.
    return _NORMAL.cdf(w / room - bias) if room > 0 else float(w > 0)


def mean_of_known(values: Floats, *, axis: int) -> Floats:
    """Mean of what is not NaN; NaN, without a warning, where nothing is left."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, values, 0.0).sum(axis=axis) / known.sum(axis=axis))
