"""What a sweep says in numbers: relative performance by level, the area under it, and tests between models.

Performance is what a score has above that of guessing: of an AUROC of 0.7 at most 0.2 can be lost.

Letters: L levels, R resamples, F metrics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from fusionctl.comparisons import holm
from fusionctl.intervals import interval, method_of, two_sided_p
from fusionctl.metrics import METRICS

Floats = npt.NDArray[np.float64]
METHODS = tuple(method_of("auto", metric) for metric in METRICS)  # of the scores' intervals; shares have percentiles
# What an area's record and a difference's say of where it is from.
_WHERE = ("trained", "corruption", "kind", "modality", "subset", "metric")


def above_chance(scores: Floats, draws: Floats, chance: Floats, drawn_chance: Floats) -> tuple[Floats, Floats]:
    """What scores have above those of guessing; nothing where that is not clearly above 0 on the clean input.

    Args:
        scores: (L, F) by level; the first is the clean input.
        draws: (R, L, F) on resamples.
        chance: (F,) scores of guessing: 0.5 in AUROC, the prevalence in AUPRC; NaN where they are not known.
        drawn_chance: (R, F) on the same resamples.

    Returns:
        (L, F) and (R, L, F); NaN where the 95 % interval of what the clean score has above chance does not lie above 0,
        as a share of next to nothing means nothing.
    """
    above, drawn = scores - chance, draws - drawn_chance[:, None]
    clear = [interval(above[0, f], drawn[:, 0, f], method)["low"] > 0 for f, method in enumerate(METHODS)]
    return np.where(clear, above, np.nan), np.where(clear, drawn, np.nan)


def relative(above: Floats) -> Floats:
    """Scores above chance (..., L, F) as shares of those at the first level: 1 nothing is lost, 0 guessing.

    NaN where that level, the clean input, has nothing above chance.
    """
    shares, clean = np.full(above.shape, np.nan), above[..., :1, :]
    np.divide(above, clean, out=shares, where=clean > 0)
    return shares


def area(levels: Sequence[float], above: Floats) -> Floats:
    """Area under relative performance over the levels, divided by their range: 1 = nothing is lost.

    Args:
        levels: ascending from 0.
        above: (..., L, F), scores above chance.

    Returns:
        (..., F), by the trapezoidal rule; NaN with fewer than two levels, or where a level has no score.
    """
    if len(levels) < 2:
        return np.full((*above.shape[:-2], above.shape[-1]), np.nan)
    span = levels[-1] - levels[0]
    return np.asarray(np.trapezoid(relative(above), np.asarray(levels), axis=-2) / span)


def named(entry: Mapping[str, float], prefix: str) -> dict[str, float]:
    """`{value, low, high}` as `{prefix, prefix_low, prefix_high}`."""
    return {prefix: entry["value"], f"{prefix}_low": entry["low"], f"{prefix}_high": entry["high"]}


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
    value, draws = one[0] - other[0], one[1] - other[1]
    return {**interval(value, draws), "p": two_sided_p(value, draws)}
