"""Weightings of patients: bootstrap resamples, and the data with one patient left out.

A resample of patients is how often each of them was drawn; a row counts as often as its patient. They are laid out as
`ranking.Blocks`: LANES weightings of a patient lie beside each other, so that one look at a row serves them all.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fusionctl.ranking import LANES, Blocks


def resample(n_patients: int, resamples: int, seed: int | tuple[int, ...]) -> Blocks:
    """The data as it is, then resamples of its patients with replacement.

    Args:
        n_patients: number of patients Q; each resample draws as many.
        resamples: number of resamples R.
        seed: the same seed, Q and R give the same resamples.

    Returns:
        (blocks, Q, LANES): weighting 0 is the data, 1..R are the resamples, the rest of the last block is 0.
    """
    rng = np.random.default_rng(seed)
    blocks = np.zeros((-(-(1 + resamples) // LANES), n_patients, LANES), np.uint8)
    blocks[0, :, 0] = 1
    drawn = np.zeros((LANES, n_patients), np.uint8)
    for block, first in enumerate(range(0, 1 + resamples, LANES)):
        some = range(max(1, first), min(first + LANES, 1 + resamples))
        for number in some if n_patients else ():
            # Counts fit 8 bits: one patient 256 times has a chance of 1/256!, below 10^-500.
            drawn[number - first] = np.bincount(rng.integers(0, n_patients, n_patients), minlength=n_patients)
        chosen = slice(some.start - first, some.stop - first)
        blocks[block, :, chosen] = drawn[chosen].T
    return blocks


def leave_one_out(n_patients: int) -> Iterator[Blocks]:
    """Blocks (1, Q, LANES) in turn, whose weightings leave out patient 0, 1, ... Q - 1 and count the others once."""
    for first in range(0, n_patients, LANES):
        block = np.ones((1, n_patients, LANES), np.uint8)
        lanes = np.arange(min(LANES, n_patients - first))
        block[0, first + lanes, lanes] = 0
        yield block
