"""Models against each other on the same resamples: differences, Holm's correction, DeLong's test as a cross-check."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from fusionctl.comparisons import delong, holm
from fusionctl.errors import UsageError
from fusionctl.evaluation import complete
from fusionctl.evaluation_models import Models, Predictions
from fusionctl.intervals import Bootstrap, Method

Entry = dict[str, Any]


def parse_compare(text: str, names: Sequence[str]) -> tuple[str, ...]:
    """The models of `--compare A,B,...`; the first is the reference. Empty where nothing was asked for.

    Raises:
        UsageError: a name is not one of the evaluated models, is there twice, or stands alone.
    """
    chosen = tuple(part.strip() for part in text.split(",") if part.strip())
    unknown = [name for name in chosen if name not in names]
    if unknown:
        raise UsageError(
            f"--compare: {unknown[0]!r} is not one of the evaluated models", hint=f"known: {', '.join(names)}"
        )
    if len(set(chosen)) < len(chosen) or len(chosen) == 1:
        raise UsageError(f"--compare must name two or more different models; got {text!r}")
    return chosen


class Contrasts:
    """The differences between two models on one subset; each pair is worked out once."""

    def __init__(self, part: Predictions, boot: Bootstrap, models: Models, *, method: Method) -> None:
        """See `evaluation.model_entry` for the arguments."""
        self._part, self._boot, self._models, self._method = part, boot, models, method
        self._done: dict[tuple[int, int], Entry] = {}
        self.complete = complete(part, models)

    def of(self, a: int, b: int) -> Entry:
        """Model a minus model b: `{metrics: {metric: ..}, labels: {label: {metric: ..}}}`.

        Each is {value, low, high, p}, a label's with p_holm too: corrected over the labels, metric by metric.
        """
        if (a, b) not in self._done:
            names, between = self._part.label_names, self._boot.difference
            labels = {n: between(a, b, k, method=self._method) for k, n in enumerate(names)}
            correct(list(labels.values()))
            self._done[a, b] = {"metrics": between(a, b, method=self._method), "labels": labels}
        return self._done[a, b]

    def differences(self, reference: str | None) -> Entry:
        """Every complete model minus the reference; without one, or one that is not complete, the first complete."""
        if not self.complete:
            return {"reference": None, "models": {}}
        wanted = self._models.index(reference) if reference else -1
        against = wanted if wanted in self.complete else self.complete[0]
        names = self._models.names
        others = {names[m]: self.of(m, against) for m in self.complete if m != against}
        return {"reference": names[against], "models": others}

    def comparisons(self, chosen: Sequence[str]) -> list[Entry]:
        """All pairs of the chosen models, or, without any, each model against the first; complete models only.

        The families of Holm's correction, metric by metric: of a mean over labels these comparisons, those of an
        ensemble with its own seeds (`own_ensemble`) apart; of a label the labels of its pair, not the other pairs.
        `delong` is of single models: it has no meaning for a mean over seeds.
        """
        listed = [m for m in map(self._models.index, chosen) if m in self.complete] if chosen else self.complete
        # The earlier model is the reference, so it is the one that is subtracted.
        pairs = [(b, a) for a, b in combinations(listed, 2) if chosen or a == listed[0]]
        names = self._models.names
        found: list[Entry] = []
        for a, b in pairs:
            done = self.of(a, b)
            labels = {n: {**e, "delong": self._delong(a, b, k)} for k, (n, e) in enumerate(done["labels"].items())}
            means = {metric: dict(entry) for metric, entry in done["metrics"].items()}
            own = self._models.of_its_own(a, b)
            found.append({"a": names[a], "b": names[b], "own_ensemble": own, "metrics": means, "labels": labels})
        for own in (False, True):
            correct([entry["metrics"] for entry in found if entry["own_ensemble"] == own])
        return found

    def _delong(self, a: int, b: int, k: int) -> Entry | None:
        if len(self._models.rows[a]) > 1 or len(self._models.rows[b]) > 1:
            return None
        one, other = (self._part.probabilities[self._models.shown[m], :, k] for m in (a, b))
        return delong(self._part.labels[:, k], one, other)


def correct(family: Sequence[dict[str, Entry]]) -> None:
    """Give every `{metric: {.., p}}` of a family of tests its p_holm, metric by metric."""
    for metric in family[0] if family else ():
        for entry, p in zip(family, holm([entry[metric]["p"] for entry in family]), strict=True):
            entry[metric]["p_holm"] = p
