"""The models that an evaluation compares: what they predict for the same stays, and which are seeds of one model.

Letters: A artifacts, M rows of the stack (the artifacts, then the ensembles), N stays, K labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusionctl import metrics

Floats = NDArray[np.float64]
ENSEMBLE = " ensemble"


@dataclass(frozen=True)
class Predictions:
    """What all models predict for the same stays of one split.

    stay_id, subject_id, has_film: (N,); labels: (N, K); probabilities: (M, N, K), NaN where a model has no input.
    """

    label_names: tuple[str, ...]
    stay_id: NDArray[np.int64]
    subject_id: NDArray[np.int64]
    has_film: NDArray[np.bool_]
    labels: Floats
    probabilities: Floats

    def of(self, rows: NDArray[np.bool_]) -> Predictions:
        """The same of some stays: rows is (N,)."""
        columns = (self.stay_id[rows], self.subject_id[rows], self.has_film[rows], self.labels[rows])
        return Predictions(self.label_names, *columns, self.probabilities[:, rows])


@dataclass(frozen=True)
class Models:
    """Which rows of the stack are which model.

    names: every model once; an ensemble follows the seed group that it is made of.
    rows: by model, its rows: one, or one a seed. A metric of several rows is the mean over them.
    shown: by model, the one row whose curves stand for it: of a seed group its ensemble's.
    members: of the ensembles, in the order of their rows, the rows that each is the mean of.
    """

    names: tuple[str, ...]
    rows: tuple[tuple[int, ...], ...]
    shown: tuple[int, ...]
    members: tuple[tuple[int, ...], ...]

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the seed groups."""
        return tuple(name for name, rows in zip(self.names, self.rows, strict=True) if len(rows) > 1)

    @property
    def own(self) -> tuple[str, ...]:
        """Names of the models without the ensembles."""
        ensembles = {name + ENSEMBLE for name in self.groups}
        return tuple(name for name in self.names if name not in ensembles)

    def index(self, name: str) -> int:
        """Position of a model."""
        return self.names.index(name)

    def of_its_own(self, a: int, b: int) -> bool:
        """Whether one of two positions is the ensemble of the seeds of the other."""
        return any({self.names[a], self.names[b]} == {name, name + ENSEMBLE} for name in self.groups)


def models_of(artifact_names: Sequence[str]) -> Models:
    """Group artifacts by name: those of one name differ in nothing but the seed.

    Args:
        artifact_names: (A,) name of each artifact's model, in the order of the rows.
    """
    names: list[str] = []
    rows: list[tuple[int, ...]] = []
    shown: list[int] = []
    members: list[tuple[int, ...]] = []
    for name in dict.fromkeys(artifact_names):
        own = tuple(i for i, other in enumerate(artifact_names) if other == name)
        names, rows, shown = [*names, name], [*rows, own], [*shown, own[0]]
        if len(own) > 1:
            ensemble = len(artifact_names) + len(members)
            members.append(own)
            shown[-1] = ensemble
            names, rows, shown = [*names, name + ENSEMBLE], [*rows, (ensemble,)], [*shown, ensemble]
    return Models(tuple(names), tuple(rows), tuple(shown), tuple(members))


def with_ensembles(probabilities: Floats, models: Models) -> Floats:
    """(A, N, K) probabilities of the artifacts, followed by the mean over each seed group: (M, N, K)."""
    return np.concatenate([probabilities, *(probabilities[list(own)].mean(axis=0)[None] for own in models.members)])


def predicted(labels: Floats, scores: Floats) -> NDArray[np.bool_]:
    """(N,) which stays have a known label and a prediction, of (N,) labels and scores."""
    return np.asarray(~np.isnan(labels) & ~np.isnan(scores))


def chosen_thresholds(validation: Predictions) -> Floats:
    """(M, K) the threshold of each row and label that is best on the validation stays; NaN where none is defined."""
    chosen = np.full((len(validation.probabilities), len(validation.label_names)), np.nan)
    for m, scores in enumerate(validation.probabilities):
        for k in range(chosen.shape[1]):
            rows = predicted(validation.labels[:, k], scores[:, k])
            chosen[m, k] = metrics.choose_threshold(validation.labels[rows, k], scores[rows, k])
    return chosen
