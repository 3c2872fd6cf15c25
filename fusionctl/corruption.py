"""What every corruption of a stay's inputs is: how severe, of what, and drawn from where.

A corruption is applied to the batch as it is read, before standardisation, in physical units and grey levels. It is
drawn from (seed, stay, corruption) alone, so that every model, batch size and order meets the same input and nothing is
written to disk. What is taken away at one severity is also away at every greater one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fusionctl.errors import UsageError

Array = npt.NDArray[Any]


class Corruption:
    """A corruption of inputs at one severity; as it stands here, none.

    Args:
        level: severity, 0 (none) to 1.
        seed: of the draws, not negative.

    Attributes:
        name: of the setting that chooses it.
        modality: what it touches: "ehr" (series), "cxr" (films) or "both".

    Raises:
        UsageError: the level breaks its rule.
    """

    name = "corruption"
    modality = "both"

    def __init__(self, *, level: float, seed: int) -> None:
        if not 0 <= level <= 1:
            raise UsageError(f"{self.name} level must be a share from 0 to 1; got {level}")
        self.level, self.seed = level, seed

    def series(self, values: Array, observed: Array, stay_id: int) -> tuple[Array, Array]:
        """A stay's grid as it is input.

        Args:
            values: (T, 17) physical units, categories as indices.
            observed: (T, 17) bool, measured or not.
            stay_id: whose they are.

        Returns:
            Values and masks: new arrays, or these themselves where nothing is corrupted.
        """
        return values, observed

    def film(self, film: Array, stay_id: int, number: int = 0) -> Array:
        """A film as it is input.

        Args:
            film: (S, S) grey levels.
            stay_id: whose it is in the batch.
            number: of the film among those of the stay, from 0.

        Returns:
            A new array of the same shape, or this one.
        """
        return film

    def films(self, films: Array, stay_ids: Array) -> Array:
        """Which films are input.

        Args:
            films: (P,) rows of films.npy.
            stay_ids: (P,) whose they are.

        Returns:
            (P,) the row that takes the place of each; -1: the film is taken away.
        """
        return films

    def all_series(self, values: Array, observed: Array, lengths: Array, stay_ids: Array) -> tuple[Array, Array]:
        """`series` of several stays.

        Args:
            values, observed: (R, 17) rows of the stays one after another.
            lengths: (B,) rows of each.
            stay_ids: (B,).
        """
        ends = np.cumsum(lengths)[:-1]
        stays = zip(np.split(values, ends), np.split(observed, ends), stay_ids.tolist(), strict=True)
        corrupted = [self.series(*stay) for stay in stays]
        return np.concatenate([stay[0] for stay in corrupted]), np.concatenate([stay[1] for stay in corrupted])

    def all_films(self, films: Array, stay_ids: Array, numbers: Array) -> Array:
        """`film` of films (P, S, S) with their stays (P,) and their numbers (P,) within them."""
        each = zip(films, stay_ids.tolist(), numbers.tolist(), strict=True)
        return np.stack([self.film(*film) for film in each]) if len(films) else films

    def generator(self, stay_id: int, stream: int) -> np.random.Generator:
        """A stay's own random numbers, the same at every severity.

        Args:
            stay_id: of whom.
            stream: number of the corruption, from 2. In the keys of noise the third number is its level, never 0, and
                the fourth 0 or 1, so that no corruption draws the numbers of another.
        """
        key = [self.seed, int(stay_id), 0, stream]
        return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))

    def happens(self, stay_id: int, stream: int) -> bool:
        """Whether a stay is among the share `level` of stays; then it is at every greater level, too."""
        return bool(self.generator(stay_id, stream).random() < self.level)
