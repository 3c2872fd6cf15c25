"""What a sweep says in numbers: relative performance by level, the area under it, and tests between models.

Letters: L levels, R resamples, F metrics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from fusionctl.comparisons import holm
from fusionctl.intervals import limits, two_sided_p

Floats = npt.NDArray[np.float64]
# What an area's record and a difference's say of where it is from.
_WHERE = ("trained", "corruption", "kind", "modality", "subset", "metric")


def relative(scores: Floats) -> Floats:
    """Scores (..., L, F) as shares of those at the first level, the clean input; NaN where that is 0 or undefined."""
    shares, clean = np.full(scores.shape, np.nan), scores[..., :1, :]
    np.divide(scores, clean, out=shares, where=clean > 0)
    return shares


def area(levels: Sequence[float], scores: Floats) -> Floats:
    """Area under relative performance over the levels, divided by their range: 1 = nothing is lost.

    Args:
        levels: ascending from 0.
        scores: (..., L, F).

    Returns:
        (..., F), by the trapezoidal rule; NaN with fewer than two levels, or where a level has no score.
    """
    if len(levels) < 2:
        return np.full((*scores.shape[:-2], scores.shape[-1]), np.nan)
    span = levels[-1] - levels[0]
    return np.asarray(np.trapezoid(relative(scores), np.asarray(levels), axis=-2) / span)


def interval(value: float, draws: Floats, prefix: str = "") -> dict[str, float]:
    """`{value, low, high}`, or with a prefix `{prefix, prefix_low, prefix_high}`."""
    low, high = limits(value, draws)
    names = (prefix, f"{prefix}_low", f"{prefix}_high") if prefix else ("value", "low", "high")
    return dict(zip(names, (float(value), low, high), strict=True))


def areas(found: Mapping[tuple[Any, ...], tuple[float, Floats]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Records of areas, and of their differences between all pairs of models.

    Args:
        found: by (model, trained, corruption, kind, modality, subset, metric): the area and its draws (R,), of the
            same resamples for all models.

    Returns:
        Areas with 95 % intervals; differences (the first model's area minus the second's) with interval and p, and
        p after Holm's correction over all differences of the same metric and subset.
    """
    records = [{"model": m, **_where(rest), **interval(v, draws)} for (m, *rest), (v, draws) in found.items()]
    alike: dict[tuple[Any, ...], list[str]] = {}
    for model, *rest in found:
        alike.setdefault(tuple(rest), []).append(model)
    differences = [
        {"a": a, "b": b, **_where(rest), **_difference(found[a, *rest], found[b, *rest])}
        for rest, models in alike.items()
        for a, b in combinations(models, 2)
    ]
    for family in {(d["subset"], d["metric"]) for d in differences}:
        members = [d for d in differences if (d["subset"], d["metric"]) == family]
        for member, p in zip(members, holm([d["p"] for d in members]), strict=True):
            member["p_holm"] = p
    return records, differences


def _where(rest: Sequence[Any]) -> dict[str, Any]:
    return dict(zip(_WHERE, rest, strict=True))


def _difference(one: tuple[float, Floats], other: tuple[float, Floats]) -> dict[str, float]:
    draws = one[1] - other[1]
    return {**interval(one[0] - other[0], draws), "p": two_sided_p(draws)}
