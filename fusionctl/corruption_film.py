"""What can go wrong with a stay's film: it is missing, old, blurred, compressed or flat.

The severities of blur, compression and contrast at level 1 are the greatest of the common image corruptions
(Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations, ICLR 2019);
level 0 is the film itself, and between them severity is linear.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import polars as pl

from fusionctl.corruption import Array, Corruption
from fusionctl.data.pairing import VIEWS

_MISSING, _STALE = 2, 3  # streams of random numbers
BLUR_SHARE = 6 / 224  # sd of the widest blur, as a share of the picture's side (there: 6 of 224 pixels)
WORST_QUALITY = 7  # of JPEG, 1 to 100
BEST_QUALITY = 100
LEAST_CONTRAST = 0.05  # share of the contrast that is left


class FilmMissing(Corruption):
    """The films of a share of the stays are taken away; the series stays."""

    name = "film-missing"
    modality = "cxr"

    def films(self, films: Array, stay_ids: Array) -> Array:
        """-1 for every film of a stay whose films are missing."""
        away = [self.happens(stay, _MISSING) for stay in stay_ids.tolist()]
        return np.where(np.array(away, dtype=bool), -1, films)


class FilmStale(Corruption):
    """In a share of the stays each film is replaced by the one before it, where there is one.

    Args:
        previous: (F,) row in films.npy of the film before each; see `previous_films`.
        level: share of the stays.
        seed: of the draws.
    """

    name = "film-stale"
    modality = "cxr"

    def __init__(self, previous: Array, *, level: float, seed: int) -> None:
        super().__init__(level=level, seed=seed)
        self._previous = previous

    def films(self, films: Array, stay_ids: Array) -> Array:
        """The earlier film's row where the stay's are old and there is one."""
        old = np.array([self.happens(stay, _STALE) for stay in stay_ids.tolist()], dtype=bool)
        before = self._previous[films]
        return np.where(old & (before >= 0), before, films)


def previous_films(films: pl.DataFrame, *, view: str, n_films: int) -> npt.NDArray[np.int64]:
    """The last film of the same patient with an earlier study time; of several, that with the greatest row.

    Args:
        films: film, subject_id, view, study_time of the readable films.
        view: key of `pairing.VIEWS`: only such a film can stand in for another.
        n_films: rows of films.npy F.

    Returns:
        (F,) row of the film before each, -1 where there is none.
    """
    views = VIEWS[view]
    known = films.filter(pl.col("study_time").is_not_null())
    wanted = known if views is None else known.filter(pl.col("view").is_in(views))
    ordered = wanted.sort("subject_id", "study_time", "film")
    film, subject = ordered["film"].to_numpy(), ordered["subject_id"].to_numpy()
    time = ordered["study_time"].to_physical().to_numpy()
    begins = np.ones(len(film), dtype=bool)  # where a patient's next study time begins
    begins[1:] = (subject[1:] != subject[:-1]) | (time[1:] != time[:-1])
    before = np.maximum.accumulate(np.where(begins, np.arange(len(film)), 0)) - 1
    exists = (before >= 0) & (subject[before] == subject)
    previous = np.full(n_films, -1, dtype=np.int64)
    previous[film[exists]] = film[before[exists]]
    return previous


class Blur(Corruption):
    """Gaussian blur of all films: a moved patient, or a lost focus."""

    name = "blur"
    modality = "cxr"

    def film(self, film: Array, stay_id: int, number: int = 0) -> Array:
        """The film through a Gaussian whose sd is `level` * 6 pixels in 224."""
        sd = self.level * BLUR_SHARE * film.shape[-1]
        return film if sd == 0 else np.asarray(cv2.GaussianBlur(film, (0, 0), sd), dtype=np.uint8)


class Jpeg(Corruption):
    """All films stored again as JPEG, of a quality from 100 down to 7."""

    name = "jpeg"
    modality = "cxr"

    def film(self, film: Array, stay_id: int, number: int = 0) -> Array:
        """The film after compression."""
        if self.level == 0:
            return film
        quality = round(BEST_QUALITY + self.level * (WORST_QUALITY - BEST_QUALITY))
        _, stored = cv2.imencode(".jpg", film, [cv2.IMWRITE_JPEG_QUALITY, quality])
        return np.asarray(cv2.imdecode(stored, cv2.IMREAD_GRAYSCALE), dtype=np.uint8)


class Contrast(Corruption):
    """All films with less contrast around their mean grey level; at level 1 a twentieth of it is left."""

    name = "contrast"
    modality = "cxr"

    def film(self, film: Array, stay_id: int, number: int = 0) -> Array:
        """The film, flatter."""
        if self.level == 0:
            return film
        left = 1 - self.level * (1 - LEAST_CONTRAST)
        grey: npt.NDArray[Any] = np.arange(256) * left + film.mean() * (1 - left)
        return np.take(np.rint(grey).astype(np.uint8), film)
