"""Latent variables of the synthetic stays, seeded random streams and exact quotas.

The equations and what they are for stand in `fusionctl.data.synth`.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

# Log odds of death in hospital: intercept (about 15 % die) and the weights of z, e and f.
INTERCEPT, DEATH_Z, DEATH_E, DEATH_F = -2.9, 1.4, 1.2, 1.0
EHR_Z, EHR_E = 0.8, 0.6  # severity as the bedside sees it
FILM_Z, FILM_F = 0.4, 0.8  # severity as the film sees it
STUDY_NOISE = 0.7  # sd between films of one stay
# cxr-only: mean shift of the film's severity in patients who died, and its sd among patients alike in outcome.
OUTCOME_SHIFT, OUTCOME_SD = 0.9, 0.85


@dataclass(frozen=True)
class Latents:
    """The hidden state of S stays; every array has shape (S,).

    Args:
        z: severity, shared by every modality. Standard normal.
        e: what only the EHR shows (the course of the stay). Standard normal.
        f: what only the film shows (the lungs). Standard normal.
        died: death in hospital.
    """

    z: Floats
    e: Floats
    f: Floats
    died: Bools

    def __len__(self) -> int:
        return len(self.z)

    def course(self, hours: Floats) -> Floats:
        """Severity at the bedside: hours (T,) since intime -> (S, T); the share of e grows over the first 48 h."""
        growth = 0.5 + np.clip(hours, 0.0, 48.0) / 48.0
        return EHR_Z * self.z[:, None] + EHR_E * self.e[:, None] * growth[None, :]

    def film(self) -> Floats:
        """Severity that the films of a stay share, (S,)."""
        return FILM_Z * self.z + FILM_F * self.f

    def take(self, rows: Ints | slice) -> Latents:
        """The latents of some stays, in the order of `rows`."""
        return Latents(self.z[rows], self.e[rows], self.f[rows], self.died[rows])


def stream(seed: int, name: str, part: int = 0) -> np.random.Generator:
    """An independent random stream for one purpose, so that a change in one table leaves the others as they were."""
    return np.random.default_rng([seed, zlib.crc32(name.encode()), part])


def draw_latents(stays: int, seed: int) -> Latents:
    """Draw the hidden state and the outcome of `stays` stays."""
    rng = stream(seed, "latents")
    z, e, f = rng.standard_normal((3, stays))
    odds = INTERCEPT + DEATH_Z * z + DEATH_E * e + DEATH_F * f
    return Latents(z, e, f, rng.random(stays) < sigmoid(odds))


def film_severity_from_outcome(died: Bools, rng: np.random.Generator) -> Floats:
    """Severity of the films of stays of which only the outcome is known (cxr-only mode), (S,) -> (S,)."""
    return OUTCOME_SHIFT * died + OUTCOME_SD * rng.standard_normal(len(died))


def sigmoid(x: Floats) -> Floats:
    """The logistic function, elementwise."""
    return 1.0 / (1.0 + np.exp(-x))


def quota(rng: np.random.Generator, n: int, rate: float) -> Bools:
    """A random mask with exactly ceil(rate * n) true entries: even a tiny tree holds every kind of dirt."""
    chosen: Bools = rng.permutation(n) < math.ceil(rate * n)
    return chosen
