"""Gaussian noise on inputs, as in the paper's section V-G: a share of a stay's time steps and of its film's pixels.

Noise is drawn per sample from (seed, stay, level), and for a stay's second film and further ones also from the film's
number, so that every model, batch size and order meets the same corrupted
input and nothing is written to disk. It is applied before standardisation, in physical units and grey levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fusionctl.corruption import Corruption
from fusionctl.errors import InputError, UsageError

KINDS = ("additive", "zero-mean", "replace")
MODALITIES = ("both", "ehr", "cxr")
SAMPLES = 1000  # paper, section V-G: mean and sd from 1000 random samples
_STEP = 0.1  # the paper's, Tables 5 and 6
MAX_LEVELS = 100

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
# Independent streams of random numbers: noising one modality alone leaves the other's noise as it is with both.
_SERIES, _FILM, _SAMPLE = 0, 1, 2


@dataclass(frozen=True)
class Moments:
    """What noise of one kind of input is drawn from and clipped to: scalars for pixels, (V,) for a series."""

    mean: FloatArray
    sd: FloatArray
    low: FloatArray
    high: FloatArray

    @classmethod
    def of(cls, samples: npt.NDArray[Any]) -> Moments:
        """Moments and range over the first axis, in float64.

        Args:
            samples: (n, ...) with n >= 1.
        """
        x = np.asarray(samples, dtype=np.float64)
        return cls(x.mean(axis=0), x.std(axis=0), x.min(axis=0), x.max(axis=0))


@dataclass(frozen=True)
class NoiseStats:
    """Statistics of the training inputs.

    Attributes:
        series: (V,) moments of each variable over grid rows, in physical units.
        continuous: (V,) which variables are corrupted; a category is not.
        film: moments of a pixel's grey level; None if no training stay has a film.
    """

    series: Moments
    continuous: BoolArray
    film: Moments | None


def estimate(
    values: npt.NDArray[np.float32],
    films: npt.NDArray[np.uint8],
    *,
    first_row: npt.NDArray[np.integer],
    n_rows: npt.NDArray[np.integer],
    film: npt.NDArray[np.integer],
    train: BoolArray,
    continuous: BoolArray,
    seed: int,
    n_samples: int = SAMPLES,
) -> NoiseStats:
    """Estimate the statistics from random training stays, and from random training stays with a film.

    Args:
        values: (R, V) grid rows of all stays, physical units.
        films: (F, S, S) grey levels.
        first_row: (N,) first row of each stay in `values`.
        n_rows: (N,) number of its rows.
        film: (N,) row of its film (its last one, if it has several) in `films`, -1 = none.
        train: (N,) which stays are in the training split.
        continuous: (V,) which variables are continuous.
        seed: of the choice of samples.
        n_samples: most stays and most films to use.

    Raises:
        InputError: there is no training stay.
    """
    if not train.any():
        raise InputError("no stay is in the training split; rule: noise statistics come from training stays")
    stays = _choose(np.flatnonzero(train), n_samples, seed)
    rows = np.concatenate([np.arange(first_row[i], first_row[i] + n_rows[i]) for i in stays])
    paired = _choose(np.flatnonzero(train & (film >= 0)), n_samples, seed)
    pixels = _pixel_moments(films, np.sort(film[paired])) if len(paired) else None
    return NoiseStats(Moments.of(values[rows]), np.asarray(continuous, dtype=bool), pixels)


class Noise(Corruption):
    """Corrupts the inputs of stays at one level; the same stay always in the same way.

    Args:
        stats: statistics of the training inputs.
        level: share of a stay's time steps and of its film's pixels, 0 to 1.
        kind: "additive" (x + N(mean, sd): the paper's text), "zero-mean" (x + N(0, sd)) or "replace" (N(mean, sd));
            each is then clipped to the range seen in training.
        modality: "both", "ehr" (series only) or "cxr" (films only).
        seed: of the noise, not negative.

    Raises:
        UsageError: an argument breaks its rule.
    """

    name = "noise"

    def __init__(self, stats: NoiseStats, *, level: float, kind: str, modality: str, seed: int) -> None:
        super().__init__(level=level, seed=seed)
        if kind not in KINDS:
            raise UsageError(f"--kind must be one of {', '.join(KINDS)}; got {kind!r}")
        if modality not in MODALITIES:
            raise UsageError(f"--modality must be one of {', '.join(MODALITIES)}; got {modality!r}")
        self.stats, self.kind, self.modality = stats, kind, modality

    def series(self, values: Any, observed: Any, stay_id: int) -> tuple[Any, Any]:
        """The noisy values, and the masks as they are; see `noisy`."""
        return self.noisy(values, stay_id), observed

    def noisy(self, values: npt.NDArray[np.float32], stay_id: int) -> npt.NDArray[np.float32]:
        """Corrupt all continuous variables at round(level * T) of a stay's T time steps.

        Args:
            values: (T, V) physical units, before standardisation.
            stay_id: whose they are.

        Returns:
            (T, V), a new array; `values` itself where nothing is corrupted.
        """
        if self.modality == "cxr" or self.level == 0:
            return values
        rng = self._drawn(_SERIES, stay_id)
        steps = _choose_positions(rng, len(values), self.level)
        draws = rng.standard_normal((len(steps), values.shape[1]))
        columns = np.flatnonzero(self.stats.continuous)
        noisy = self._apply(values[steps].astype(np.float64), draws, self.stats.series)
        result = values.copy()
        result[np.ix_(steps, columns)] = noisy[:, columns]
        return result

    def film(self, film: npt.NDArray[np.uint8], stay_id: int, number: int = 0) -> npt.NDArray[np.uint8]:
        """Corrupt round(level * pixels) pixels of a stay's film; grey levels are rounded and clipped, never wrapped.

        Args:
            film: grey levels of any shape, (S, S) say.
            stay_id: whose film it is in the batch.
            number: of the film among those of the stay, from 0; each has noise of its own.

        Returns:
            A new array of the same shape; `film` itself where nothing is corrupted.
        """
        if self.modality == "ehr" or self.level == 0 or self.stats.film is None:
            return film
        rng = self._drawn(_FILM, stay_id, number)
        pixels = _choose_positions(rng, film.size, self.level)
        result = film.flatten()
        noisy = self._apply(result[pixels].astype(np.float64), rng.standard_normal(len(pixels)), self.stats.film)
        result[pixels] = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
        return result.reshape(film.shape)

    def _apply(self, x: FloatArray, draws: FloatArray, moments: Moments) -> FloatArray:
        gaussian = draws * moments.sd + (0.0 if self.kind == "zero-mean" else moments.mean)
        noisy = gaussian if self.kind == "replace" else x + gaussian
        return np.clip(noisy, moments.low, moments.high)

    def _drawn(self, stream: int, stay_id: int, number: int = 0) -> np.random.Generator:
        key = [self.seed, int(stay_id), round(self.level * 1_000_000), stream]
        key += [int(number)] * (number > 0)  # a stay's first film draws the same whether it has one film or several
        return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def parse_levels(text: str) -> tuple[float, ...]:
    """Read noise levels: LOW:HIGH (step 0.1), LOW:HIGH:STEP, or a comma-separated list.

    Returns:
        Ascending levels without 0 (the clean input, which is always evaluated) and without repeats.

    Raises:
        UsageError: not shares from 0 to 1, LOW above HIGH, a step that is not positive, or too many levels.
    """
    rule = f"--noise must be LOW:HIGH[:STEP] or a comma-separated list of shares from 0 to 1; got {text!r}"
    try:
        numbers = [float(part) for part in text.split(":" if ":" in text else ",")]
    except ValueError as error:
        raise UsageError(rule) from error
    if not np.isfinite(numbers).all() or not all(0 <= number <= 1 for number in numbers):
        raise UsageError(rule)
    if ":" in text:
        low, high, step = (*numbers, _STEP)[:3]
        if len(numbers) > 3 or low > high or step <= 0 or (high - low) / step > MAX_LEVELS:
            raise UsageError(f"{rule} (LOW <= HIGH, STEP > 0, at most {MAX_LEVELS} levels)")
        numbers = [low + i * step for i in range(int((high - low) / step + 1e-6) + 1)]
    levels = tuple(sorted({round(number, 6) for number in numbers} - {0.0}))
    if len(levels) > MAX_LEVELS:
        raise UsageError(f"{rule} (at most {MAX_LEVELS} levels)")
    return levels


def _choose(candidates: npt.NDArray[np.intp], n: int, seed: int) -> npt.NDArray[np.intp]:
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, _SAMPLE))))
    return np.sort(rng.permutation(candidates)[:n])


def _choose_positions(rng: np.random.Generator, n: int, level: float) -> npt.NDArray[np.int64]:
    return rng.choice(n, size=round(level * n), replace=False, shuffle=False)


def _pixel_moments(films: npt.NDArray[np.uint8], chosen: npt.NDArray[np.integer]) -> Moments:
    # from the histogram of grey levels, film by film: exact, and no copy of a thousand films
    counts = np.zeros(256)
    for row in chosen:
        counts += np.bincount(films[row].ravel(), minlength=256)
    grey = np.arange(256.0)
    mean = (counts * grey).sum() / counts.sum()
    sd = np.sqrt((counts * (grey - mean) ** 2).sum() / counts.sum())
    seen = grey[counts > 0]
    return Moments(*(np.asarray(number) for number in (mean, sd, seen[0], seen[-1])))
