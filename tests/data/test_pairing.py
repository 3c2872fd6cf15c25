from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from fusionctl.data import pairing

INTIME = datetime(2150, 3, 1, 12, 0, 0)


def samples(*rows):
    """Rows of (stay_id, subject_id, hours of intime after INTIME)."""
    return pl.DataFrame(
        [(stay, subject, INTIME + timedelta(hours=hours), 48.0) for stay, subject, hours in rows],
        schema={"stay_id": pl.Int64, "subject_id": pl.Int64, "intime": pl.Datetime("us"), "window_hours": pl.Float64},
        orient="row",
    )


def films(*rows):
    """Rows of (subject_id, hours after INTIME or None, view, dicom_id)."""
    times = [None if row[1] is None else INTIME + timedelta(hours=row[1]) for row in rows]
    return pl.DataFrame(
        {
            "subject_id": pl.Series([row[0] for row in rows], dtype=pl.Int64),
            "study_time": pl.Series(times, dtype=pl.Datetime("us")),
            "view": pl.Series([row[2] for row in rows], dtype=pl.String),
            "dicom_id": pl.Series([row[3] for row in rows], dtype=pl.String),
        }
    )


def pairs(samples, films):
    return pairing.pair(samples, films, view="AP").rows()


def test_the_last_film_inside_the_window_wins():
    found = pairs(samples((1, 7, 0)), films((7, 30, "AP", "b"), (7, 47, "AP", "a"), (7, 49, "AP", "c")))
    assert found == [(1, 1, 47.0)]


@pytest.mark.parametrize(("hours", "inside"), [(0, True), (48, True), (-1 / 3600, False), (48 + 1 / 3600, False)])
def test_both_ends_of_the_window_are_inclusive_to_the_second(hours, inside):
    assert pairs(samples((1, 7, 0)), films((7, hours, "AP", "a"))) == ([(1, 0, float(hours))] if inside else [])


def test_a_microsecond_after_the_window_is_too_late():
    assert pairs(samples((1, 7, 0)), films((7, 48 + 1 / 3.6e9, "AP", "a"))) == []


@pytest.mark.parametrize("view", ["PA", "LATERAL", "AP AXIAL", ""])
def test_other_views_are_not_paired(view):
    assert pairs(samples((1, 7, 0)), films((7, 10, view, "a"))) == []


def test_other_patients_films_and_films_without_a_time_are_not_paired():
    assert pairs(samples((1, 7, 0)), films((8, 10, "AP", "a"), (7, None, "AP", "b"))) == []


def test_equal_times_are_decided_by_the_dicom_id_whatever_the_order():
    one, other = (7, 10, "AP", "a"), (7, 10, "AP", "b")
    assert pairs(samples((1, 7, 0)), films(one, other)) == [(1, 1, 10.0)]
    assert pairs(samples((1, 7, 0)), films(other, one)) == [(1, 0, 10.0)]


def test_a_film_can_belong_to_two_stays_whose_windows_overlap():
    found = pairs(samples((2, 7, 24), (1, 7, 0)), films((7, 30, "AP", "a")))
    assert found == [(1, 0, 30.0), (2, 0, 6.0)]


def test_no_films_at_all():
    assert pairs(samples((1, 7, 0)), films()) == []


def test_summary_by_split():
    hours = np.array([8.0, 38.0, np.nan, 48.0, np.nan])
    found = pairing.summary(hours, np.full(5, 48.0), np.array(["train", "train", "train", "val", "test"]))
    assert found["train"] | {"sd": None} == {
        "stays": 3, "paired": 2, "mean": 25.0, "sd": None, "min": 10.0, "p25": 17.5, "p50": 25.0, "p75": 32.5,
        "max": 40.0,
    }  # fmt: skip
    assert found["train"]["sd"] == pytest.approx(np.sqrt(450))
    assert (found["val"]["paired"], found["val"]["mean"], found["val"]["sd"]) == (1, 0.0, None)
    assert found["test"] == {"stays": 1, "paired": 0} | dict.fromkeys(("mean", "sd", "min", "p25", "p50", "p75", "max"))
    assert (found["all"]["stays"], found["all"]["paired"]) == (5, 3)
