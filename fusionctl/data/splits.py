"""Patients to splits by a salted hash of their id.

A patient keeps its split in every MIMIC version, whatever other patients there are: nothing but the id decides.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fusionctl.errors import LeakError, UsageError

SPLITS = ("train", "val", "test")
SHARES = (0.7, 0.1, 0.2)  # paper, section IV-D

MIN_FOLDS = 3

# First eight bytes of the SHA-256 of "fusionctl split 1", "fusionctl inner validation 1" and "fusionctl folds 1".
# Changing a salt moves patients between splits: it makes every published result incomparable.
_SPLIT_SALT = 0x3E27E5011FA79A81
_INNER_SALT = 0x722109D0E4567A02
_FOLDS_SALT = 0x35B4D155C77C9660

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


def assign(subject_ids: npt.ArrayLike) -> npt.NDArray[np.str_]:
    """Split of each patient: 70 % "train", 10 % "val", 20 % "test".

    Args:
        subject_ids: (N,) integer ids, repeats allowed.

    Returns:
        (N,) names of the splits.
    """
    bounds = np.cumsum(SHARES)[:-1]
    return np.array(SPLITS)[np.searchsorted(bounds, _uniform(subject_ids, _SPLIT_SALT), side="right")]


def folds(subject_ids: npt.ArrayLike, n_folds: int, fold: int) -> npt.NDArray[np.str_]:
    """Split of each patient in cross-validation: "test" in fold `fold`, "val" in the one after it, else "train".

    After the last fold comes the first. For one number of folds a patient is in the same fold in every MIMIC version;
    the draw is independent of `assign`'s.

    Args:
        subject_ids: (N,) integer ids, repeats allowed.
        n_folds: number of folds, at least 3.
        fold: the fold to test on, 0 to n_folds - 1.

    Returns:
        (N,) names of the splits.

    Raises:
        UsageError: one of the numbers is out of its range.
    """
    if n_folds < MIN_FOLDS:
        raise UsageError(
            f"--folds must be at least {MIN_FOLDS}, one fold each for testing, validation and training; got {n_folds}",
            hint="for example --folds 5 --fold 0; without --folds the split is 70/10/20",
        )
    if not 0 <= fold < n_folds:
        raise UsageError(
            f"--fold must be 0 to {n_folds - 1}, below --folds {n_folds}; got {fold}",
            hint=f"run it once a fold: --fold 0 to --fold {n_folds - 1}",
        )
    fold_of = (_uniform(subject_ids, _FOLDS_SALT) * n_folds).astype(np.int64)
    test, val = fold_of == fold, fold_of == (fold + 1) % n_folds
    return np.select([test, val], ["test", "val"], "train").astype(np.str_)


def inner_validation(subject_ids: npt.ArrayLike, share: float = 0.1) -> BoolArray:
    """Which patients of the training split serve to choose an epoch when the validation split must not be touched.

    The hash is salted differently from `assign`'s: the two draws are independent.

    Args:
        subject_ids: (N,) integer ids, repeats allowed.
        share: expected share of patients, 0 to 1.
    """
    return np.asarray(_uniform(subject_ids, _INNER_SALT) < share)


def check(subject_ids: npt.ArrayLike, split: npt.ArrayLike) -> None:
    """Prove that no patient is in two splits.

    Args:
        subject_ids: (N,) integer ids, repeats allowed.
        split: (N,) name of each row's split.

    Raises:
        LeakError: with the number of patients in more than one split.
    """
    ids, names = np.asarray(subject_ids), np.asarray(split)
    patients, row = np.unique(ids, return_inverse=True)
    codes = np.unique(names, return_inverse=True)[1]
    seen = np.zeros((len(patients), int(codes.max(initial=0)) + 1), dtype=bool)
    seen[row, codes] = True
    several = int((seen.sum(axis=1) > 1).sum())
    if several:
        raise LeakError(
            f"{several} of {len(patients)} patients are in more than one split; rule: a patient has one split",
            hint="rebuild the artifact (fusionctl preprocess --force); if it stays, this is a bug: please report it",
        )


def _uniform(subject_ids: npt.ArrayLike, salt: int) -> npt.NDArray[np.float64]:
    """Hash ids to [0, 1): the finaliser of splitmix64 (Steele, Lea, Flood 2014) on id + salt, vectorised."""
    with np.errstate(over="ignore"):  # arithmetic modulo 2**64 is the point
        z = np.asarray(subject_ids).astype(np.uint64) + np.uint64(salt)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) / 2.0**53
