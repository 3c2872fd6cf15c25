"""The corruptions by name, and what they need to know of a data set."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fusionctl import parquet
from fusionctl.corruption import Corruption
from fusionctl.corruption_film import Blur, Contrast, FilmMissing, FilmStale, Jpeg, previous_films
from fusionctl.corruption_series import Gap, Imputation, Units, Variables
from fusionctl.data.batch import StayData
from fusionctl.data.series import Impute
from fusionctl.data.variables import VARIABLES
from fusionctl.noise import Noise, NoiseStats, estimate


class Background:
    """What corruptions are made from: training inputs, rules of imputation, earlier films; each taken when needed.

    Args:
        data: the samples.
        path: folder of the preprocess artifact.
        impute, protocol, view: of its settings.
        seed: of the choice of training samples, and of the corruptions.
    """

    def __init__(self, data: StayData, path: Path, *, impute: Impute, protocol: str, view: str, seed: int) -> None:
        self.data, self.seed = data, seed
        self._path, self._impute, self._protocol, self._view = path, impute, protocol, view

    @cached_property
    def noise(self) -> NoiseStats:
        """Statistics of the training inputs."""
        return statistics(self.data, self.seed)

    @cached_property
    def imputation(self) -> Imputation:
        """How cells without a measurement were filled."""
        return Imputation.of(impute=self._impute, protocol=self._protocol)

    @cached_property
    def previous(self) -> npt.NDArray[np.int64]:
        """(F,) row of the film before each, -1 where there is none."""
        films = parquet.read(self._path / "films.parquet", columns=["film", "subject_id", "view", "study_time"])
        return previous_films(films, view=self._view, n_films=len(self.data.films))


_Build = Callable[[Background, dict[str, Any]], Corruption]
_BUILD: dict[str, _Build] = {
    FilmMissing.name: lambda background, drawn: FilmMissing(**drawn),
    FilmStale.name: lambda background, drawn: FilmStale(background.previous, **drawn),
    Variables.name: lambda background, drawn: Variables(background.imputation, **drawn),
    Gap.name: lambda background, drawn: Gap(background.imputation, **drawn),
    Blur.name: lambda background, drawn: Blur(**drawn),
    Jpeg.name: lambda background, drawn: Jpeg(**drawn),
    Contrast.name: lambda background, drawn: Contrast(**drawn),
    Units.name: lambda background, drawn: Units(background.imputation, **drawn),
}


def build(name: str, background: Background, *, level: float, kind: str = "", modality: str = "") -> Corruption | None:
    """A corruption at one severity; None for "clean".

    Args:
        name: "clean", "noise" or another of `settings.Corruption`.
        background: of the data.
        level: severity, 0 to 1.
        kind, modality: of noise; see `Noise`.
    """
    if name == "clean":
        return None
    if name == Noise.name:
        return Noise(background.noise, level=level, kind=kind, modality=modality, seed=background.seed)
    return _BUILD[name](background, {"level": level, "seed": background.seed})


def statistics(data: StayData, seed: int) -> NoiseStats:
    """What noise is drawn from, of a data set's training stays; see `estimate`."""
    return estimate(
        data.values,
        data.films,
        first_row=data.first_row,
        n_rows=data.n_rows,
        film=data.film,
        train=data.split == "train",
        continuous=np.array([not variable.is_categorical for variable in VARIABLES]),
        seed=seed,
    )
