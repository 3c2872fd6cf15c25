"""The leak guards: each recomputes a rule from the arrays that were written, and stops the run if it is broken.

`preprocess` calls `check_preprocessed` on its finished draft, the training stages again on what they load.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from fusionctl.data import splits
from fusionctl.data.normaliser import CONSTANT_SD, Normaliser
from fusionctl.data.variables import VARIABLES
from fusionctl.errors import LeakError

# The protocol's window is open by this much on both sides (Harutyunyan et al. 2019, DataReader).
TOLERANCE_HOURS = 1e-6
_HINT = "rebuild it: fusionctl preprocess --force; if the message stays, it is a bug in fusionctl: please report it"


def check_preprocessed(folder: Path) -> None:
    """Run every guard on the files of a preprocess artifact.

    Args:
        folder: the artifact's folder, published or still a draft.

    Raises:
        LeakError: from the guard that found something.
    """
    samples, films = pl.read_parquet(folder / "samples.parquet"), pl.read_parquet(folder / "films.parquet")
    check_patients_split(
        pl.concat([samples["subject_id"], films["subject_id"]]), pl.concat([samples["split"], films["split"]])
    )
    film_of = samples["film"].to_numpy()
    study_time = films["study_time"].to_numpy()[film_of[film_of >= 0]]
    film_hours = np.full(len(samples), np.nan)
    since_intime = study_time - samples["intime"].to_numpy()[film_of >= 0]
    film_hours[film_of >= 0] = since_intime / np.timedelta64(3600, "s")
    for hours in (film_hours, samples["film_hours"]):  # the time in the study's own record, and the one written
        check_no_future(samples["last_event_hours"], hours, samples["window_hours"])
    unpaired = np.ones(len(films), dtype=bool)
    unpaired[film_of[film_of >= 0]] = False
    check_pretraining_films(films["split"].to_numpy()[unpaired])
    check_normaliser(
        Normaliser(**json.loads((folder / "normaliser.json").read_text(encoding="utf-8"))),
        np.load(folder / "values.npy", mmap_mode="r"),
        train=(samples["split"] == "train").to_numpy(),
        n_rows=samples["n_rows"].to_numpy(),
    )


def check_no_future(last_event_hours: npt.ArrayLike, film_hours: npt.ArrayLike, window_hours: npt.ArrayLike) -> None:
    """No input, row or film, is later than the time of prediction.

    Args:
        last_event_hours: (N,) time of each stay's last measurement in the input, hours since intime.
        film_hours: (N,) study time of each stay's film, hours since intime, NaN where there is none.
        window_hours: (N,) time of prediction, hours since intime.

    Raises:
        LeakError: with the number of stays and the largest excess.
    """
    window = np.asarray(window_hours, dtype=np.float64)
    for what, hours in (("measurement", last_event_hours), ("film", film_hours)):
        excess = np.asarray(hours, dtype=np.float64) - window
        late = excess > TOLERANCE_HOURS  # NaN compares false
        if late.any():
            raise LeakError(
                f"{int(late.sum())} of {len(window)} stays have a {what} after the time of prediction, "
                f"by up to {excess[late].max():.4g} h; rule: inputs end at the time of prediction",
                hint=_HINT,
            )


def check_patients_split(subject_id: npt.ArrayLike, split: npt.ArrayLike) -> None:
    """No patient is in two splits; see `splits.check`."""
    splits.check(subject_id, split)


def check_pretraining_films(film_splits: npt.ArrayLike) -> None:
    """Films for pretraining are films of training patients only.

    Args:
        film_splits: (F,) split of each film's patient, by the split of the series.

    Raises:
        LeakError: with the number of films of other patients.
    """
    foreign = np.asarray(film_splits) != "train"
    if foreign.any():
        raise LeakError(
            f"{int(foreign.sum())} of {len(foreign)} films for pretraining belong to validation or test patients; "
            "rule: films of training patients only",
            hint=_HINT,
        )


def check_normaliser(
    normaliser: Normaliser,
    values: npt.NDArray[np.float32],
    *,
    train: npt.NDArray[np.bool_],
    n_rows: npt.NDArray[np.integer],
) -> None:
    """Mean and standard deviation are those of the training rows and of no other.

    Args:
        normaliser: the statistics to prove.
        values: (R, 17) grid rows of all stays, one stay after another.
        train: (N,) which stays are in the training split.
        n_rows: (N,) number of rows of each stay; they sum to R.

    Raises:
        LeakError: naming the first variable whose statistics differ from the recomputed ones.
    """
    n_train = int(train.sum())
    if normaliser.n_stays != n_train:
        raise LeakError(
            f"normaliser.json: computed from {normaliser.n_stays} stays, {n_train} are in the training split; "
            "rule: statistics from training rows only",
            hint=_HINT,
        )
    rows = np.repeat(train, n_rows)
    for column, variable in enumerate(VARIABLES):
        expected = (0.0, 1.0)
        if not variable.is_categorical:
            seen = values[rows, column].astype(np.float64)
            expected = (float(seen.mean()), float(seen.std()) if seen.std() > CONSTANT_SD else 1.0)
        stored = (normaliser.mean[column], normaliser.sd[column])
        if not np.allclose(stored, expected, rtol=1e-6, atol=1e-9):
            raise LeakError(
                f"normaliser.json: {variable.name} has mean {stored[0]:.6g} and sd {stored[1]:.6g}, the training rows "
                f"have {expected[0]:.6g} and {expected[1]:.6g}; rule: statistics from training rows only",
                hint=_HINT,
            )
