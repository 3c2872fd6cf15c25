"""The leak guards: each recomputes a rule from the arrays that were written, and stops the run if it is broken.

`preprocess` calls `check_preprocessed` on its finished draft, the training stages again on what they load.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from fusionctl import parquet
from fusionctl.data import splits
from fusionctl.data.normaliser import CONSTANT_SD, NORMAL_IQR, Normaliser
from fusionctl.data.variables import VARIABLES
from fusionctl.errors import LeakError

# The protocol's window is open by this much on both sides (Harutyunyan et al. 2019, DataReader).
TOLERANCE_HOURS = 1e-6
_MICROSECONDS = 3_600_000_000  # per hour
_HINT = "rebuild it: fusionctl preprocess --force; if the message stays, it is a bug in fusionctl: please report it"


def check_preprocessed(folder: Path) -> None:
    """Run every guard on the files of a preprocess artifact.

    Args:
        folder: the artifact's folder, published or still a draft.

    Raises:
        LeakError: from the guard that found something.
    """
    samples, films, pairs = (parquet.read(folder / f"{name}.parquet") for name in ("samples", "films", "pairs"))
    check_patients_split(
        pl.concat([samples["subject_id"], films["subject_id"]]), pl.concat([samples["split"], films["split"]])
    )
    check_pairs(samples, films, pairs)
    check_normaliser(
        Normaliser(**json.loads((folder / "normaliser.json").read_text(encoding="utf-8"))),
        np.load(folder / "values.npy", mmap_mode="r"),
        train=(samples["split"] == "train").to_numpy(),
        n_rows=samples["n_rows"].to_numpy(),
    )


def check_pairs(samples: pl.DataFrame, films: pl.DataFrame, pairs: pl.DataFrame) -> None:
    """Every film of a stay is its own patient's, and nothing in the input is later than the time of prediction.

    A film may be older than the admission to intensive care.

    Args:
        samples: stay_id, subject_id, intime, window_hours, last_event_hours, film, film_hours, n_films; a row a stay.
        films: film, subject_id, study_time; a row a film.
        pairs: stay_id, film, film_hours; a row a film of a stay.

    Raises:
        LeakError: a pair names no stay or film or another patient's film; a measurement or film is late, by the
            study's own record or by a time that was written; times or films in the tables contradict each other.
    """
    paired = _recorded(samples, films, pairs)
    by_stay = paired.sort("stay_id", "film_hours", "film").group_by("stay_id", maintain_order=True)
    last = by_stay.agg(
        pl.col("film", "film_hours").last(), recorded=pl.col("recorded").max(), n_films=pl.len().cast(pl.Int32)
    )
    found = samples.select("stay_id").join(last, on="stay_id", how="left", maintain_order="left")
    for hours in (found["recorded"], found["film_hours"], samples["film_hours"]):
        check_no_future(samples["last_event_hours"], hours.fill_null(np.nan), samples["window_hours"])
    agree = ((paired["recorded"] - paired["film_hours"]).abs() <= TOLERANCE_HOURS).fill_null(False)
    _refuse(~agree, "pairs have a film_hours other than the time of the film's study", "times as recorded")
    same = (
        (samples["film"] == found["film"].fill_null(-1))
        & samples["film_hours"].fill_nan(None).eq_missing(found["film_hours"])
        & (samples["n_films"] == found["n_films"].fill_null(0))
    )
    _refuse(~same, "stays have another last film, film_hours or n_films than in pairs.parquet", "tables agree")


def _recorded(samples: pl.DataFrame, films: pl.DataFrame, pairs: pl.DataFrame) -> pl.DataFrame:
    """The pairs with `recorded`, the time of the film's study in hours since intime."""
    stays = samples.select("stay_id", "intime", patient="subject_id")
    studies = films.select("film", "subject_id", "study_time")
    paired = pairs.join(stays, on="stay_id", how="left").join(studies, on="film", how="left")
    unknown = paired["patient"].is_null() | paired["subject_id"].is_null()
    _refuse(
        unknown, "pairs name no stay of samples.parquet or no film of films.parquet", "pairs of known stays and films"
    )
    foreign = paired["patient"] != paired["subject_id"]
    _refuse(foreign, "pairs give a stay the film of another patient", "films of the stay's own patient only")
    since_intime = pl.col("study_time").cast(pl.Datetime("us")) - pl.col("intime").cast(pl.Datetime("us"))
    return paired.with_columns(recorded=since_intime.dt.total_microseconds() / _MICROSECONDS)


def _refuse(broken: pl.Series, what: str, rule: str) -> None:
    if broken.any():
        raise LeakError(f"{int(broken.sum())} of {len(broken)} {what}; rule: {rule}", hint=_HINT)


def check_no_future(last_event_hours: npt.ArrayLike, film_hours: npt.ArrayLike, window_hours: npt.ArrayLike) -> None:
    """No input, row or film, is later than the time of prediction.

    Args:
        last_event_hours: (N,) time of each stay's last measurement in the input, hours since intime.
        film_hours: (N,) study time of each stay's last film, hours since intime, NaN where there is none.
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
    """The statistics are those of the training rows and of no other, of the kind that they say they are.

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
    if normaliser.kind not in _STATISTICS:
        raise LeakError(f"normaliser.json: kind is not one of {', '.join(_STATISTICS)}", hint=_HINT)
    (centre, spread), statistics = _STATISTICS[normaliser.kind]
    rows = np.repeat(train, n_rows)
    for column, variable in enumerate(VARIABLES):
        expected = (0.0, 1.0)
        if not variable.is_categorical:
            expected = statistics(values[:, column][rows].astype(np.float64))
        stored = (normaliser.mean[column], normaliser.sd[column])
        if not np.allclose(stored, expected, rtol=1e-6, atol=1e-9):
            raise LeakError(
                f"normaliser.json: {variable.name} has {centre} {stored[0]:.6g} and {spread} {stored[1]:.6g}, the "
                f"training rows have {expected[0]:.6g} and {expected[1]:.6g}; "
                "rule: statistics from training rows only",
                hint=_HINT,
            )


def _moments(seen: npt.NDArray[np.float64]) -> tuple[float, float]:
    sd = float(seen.std())
    return float(seen.mean()), sd if sd > CONSTANT_SD else 1.0


def _quartiles(seen: npt.NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(seen, [25, 75])
    spread = float(high - low) / NORMAL_IQR
    return float(np.median(seen)), spread if spread > CONSTANT_SD else _moments(seen)[1]


# Of each kind: what its two statistics are called, and how they are computed, apart from how the normaliser does.
_STATISTICS = {
    "standard": (("mean", "sd"), _moments),
    "robust": (("median", "interquartile range / 1.349"), _quartiles),
}
