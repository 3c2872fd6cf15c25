"""What may be published of a count: below 10 it is hidden, and so is what would give it away by subtraction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# PhysioNet's terms allow aggregates only; below 10 a count could point to persons (usual in health statistics).
SMALLEST_COUNT = 10
HIDDEN = f"<{SMALLEST_COUNT}"
WITHHELD = f"≥{SMALLEST_COUNT}"


def small(count: int) -> bool:
    """Whether a count must be hidden. None at all is no person, so 0 is shown."""
    return 0 < count < SMALLEST_COUNT


def shown(count: int) -> str:
    """A count on its own, hidden if small."""
    return HIDDEN if small(count) else f"{count:,}"


def shown_parts(parts: Sequence[int]) -> list[str]:
    """Counts that add up to a total which the reader knows.

    A single hidden part would be the total less the others, so the largest other part is withheld with it.
    """
    texts = [shown(part) for part in parts]
    if sum(small(part) for part in parts) == 1:
        rest = [i for i, part in enumerate(parts) if not small(part) and part > 0]
        if rest:
            texts[max(rest, key=lambda i: parts[i])] = WITHHELD
    return texts


def exact(count: str) -> bool:
    """Whether a shown count is the count itself, and not a bound."""
    return count[:1].isdigit()


def tells_small(*parts: int) -> bool:
    """Whether one of the parts of a total is small, so that no share of that total may be given."""
    return any(small(part) for part in parts)


def safe_attrition(steps: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Join steps that dropped fewer than 10 with a neighbour, so that no difference of two counts is small.

    Args:
        steps: `{rule, before, dropped, kept}` of one chain, in order.

    Returns:
        The steps as texts, `{rule, before, dropped, kept}`; the totals at both ends stay what they were unless small.
    """
    joined: list[dict[str, Any]] = []
    for step in steps:
        joined.append(dict(step))
        if len(joined) > 1 and small(joined[-2]["dropped"]):
            joined[-2:] = [_join(*joined[-2:])]
    while len(joined) > 1 and small(joined[-1]["dropped"]):
        joined[-2:] = [_join(*joined[-2:])]
    return [_step_texts(step) for step in joined]


def _join(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    rule = f"{one['rule']}; {other['rule']}"
    return {**one, "rule": rule, "dropped": one["dropped"] + other["dropped"], "kept": other["kept"]}


def _step_texts(step: Mapping[str, Any]) -> dict[str, Any]:
    dropped, kept = shown_parts([step["dropped"], step["kept"]])
    return {**step, "before": shown(step["before"]), "dropped": dropped, "kept": kept}


def safe_bins(bins: Iterable[Mapping[str, Any]]) -> list[dict[str, float]]:
    """Join neighbouring calibration bins until each holds at least 10 stays with and 10 without the outcome.

    Args:
        bins: `{n, positives, predicted, observed}`, lowest predicted probability first.

    Returns:
        `{predicted, observed}` by joined bin, empty if not even all together suffice.
    """
    groups: list[list[Mapping[str, Any]]] = [[]]
    for each in bins:
        groups[-1].append(each)
        if _enough(groups[-1]):
            groups.append([])
    rest = groups.pop()
    if rest and groups:
        groups[-1] += rest
    return [_pooled(group) for group in groups]


def _enough(group: Sequence[Mapping[str, Any]]) -> bool:
    positives = sum(each["positives"] for each in group)
    return bool(min(positives, sum(each["n"] for each in group) - positives) >= SMALLEST_COUNT)


def _pooled(group: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    n = sum(each["n"] for each in group)
    predicted = sum(each["n"] * each["predicted"] for each in group) / n
    return {"predicted": predicted, "observed": sum(each["positives"] for each in group) / n}
