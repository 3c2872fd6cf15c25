from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from fusionctl.corruption_film import Blur, Contrast, FilmMissing, FilmStale, Jpeg, previous_films

RNG = np.random.default_rng(0)
FILM = np.clip(RNG.normal(120, 40, (64, 64)), 0, 255).astype(np.uint8)
LEVELS = (0.2, 0.5, 1.0)


def table(*rows):
    """films.parquet of rows (film, subject, view, hours)."""
    film, subject, view, hours = zip(*rows, strict=True)
    times = [None if h is None else datetime(2150, 1, 1) + timedelta(hours=h) for h in hours]
    return pl.DataFrame(
        {"film": film, "subject_id": subject, "view": view, "study_time": pl.Series(times, dtype=pl.Datetime("us"))},
        schema_overrides={"film": pl.Int32},
    )


def test_the_previous_film_is_the_patients_last_one_of_an_earlier_time():
    films = table(
        (0, 1, "AP", 5),
        (1, 1, "AP", 1),
        (2, 1, "AP", 5),  # two of one study: each stands after film 1, none for the other
        (3, 1, "AP", 9),  # of two at 5 hours the greater row
        (4, 2, "AP", 3),
        (5, 2, "LATERAL", 4),
        (6, 2, "AP", 6),  # the lateral film cannot stand in
        (7, 3, "AP", None),
        (8, 3, "AP", 2),
    )
    assert previous_films(films, view="AP", n_films=10).tolist() == [1, -1, 1, 2, -1, -1, 4, -1, -1, -1]
    assert previous_films(films, view="any", n_films=10).tolist() == [1, -1, 1, 2, -1, 4, 5, -1, -1, -1]
    assert previous_films(films.clear(), view="AP", n_films=0).tolist() == []


def test_films_of_a_share_of_stays_are_missing_or_old():
    films, stays = np.arange(1000) + 1, np.arange(1000)
    previous = np.concatenate([[-1], np.where(np.arange(1000) % 2, films - 1, -1)])
    for level in (0.0, 0.3, 1.0):
        missing = FilmMissing(level=level, seed=0).films(films, stays)
        assert set(missing[missing != films]) <= {-1}
        assert (missing == -1).mean() == pytest.approx(level, abs=0.04)
        old = FilmStale(previous, level=level, seed=0).films(films, stays)
        assert (old[::2] == films[::2]).all()  # these have no earlier film
        assert (old[1::2] == films[1::2] - 1).mean() == pytest.approx(level, abs=0.06)
    away = FilmMissing(level=0.3, seed=0).films(films, stays) == -1
    assert (away <= (FilmMissing(level=0.5, seed=0).films(films, stays) == -1)).all()
    assert (away != (FilmMissing(level=0.3, seed=1).films(films, stays) == -1)).any()


def test_all_films_of_a_stay_share_its_fate():
    away = FilmMissing(level=0.5, seed=0).films(np.arange(300), np.repeat(np.arange(100), 3)) == -1
    assert (away.reshape(100, 3).all(axis=1) == away.reshape(100, 3).any(axis=1)).all()


@pytest.mark.parametrize("kind", [Blur, Jpeg, Contrast])
def test_pictures_get_worse_with_the_level_and_the_film_itself_stays(kind):
    before = FILM.copy()
    damaged = [kind(level=level, seed=0).film(FILM, 1) for level in LEVELS]
    errors = [np.abs(film.astype(float) - FILM).mean() for film in damaged]
    assert 0 < errors[0] < errors[1] < errors[2]
    assert all(film.shape == FILM.shape and film.dtype == np.uint8 for film in damaged)
    np.testing.assert_array_equal(FILM, before)
    assert kind(level=0.0, seed=0).film(FILM, 1) is FILM


def test_blur_spreads_a_point_by_a_share_of_the_side():
    point = np.zeros((224, 224), np.uint8)
    point[112, 112] = 255
    wide = Blur(level=1.0, seed=0).film(np.minimum(point.astype(int) * 10, 255).astype(np.uint8), 1)
    line = np.zeros((224, 224), np.uint8)
    line[:, 100:124] = 200
    profile = Blur(level=1.0, seed=0).film(line, 1)[112].astype(float)
    x = np.arange(224)
    variance = (profile * (x - 111.5) ** 2).sum() / profile.sum()
    assert variance == pytest.approx((24**2 - 1) / 12 + 36, rel=0.03)  # of a bar of 24, and a Gaussian of 6
    assert wide.max() < 10


def test_contrast_shrinks_around_the_mean():
    flat = Contrast(level=1.0, seed=0).film(FILM, 1)
    assert flat.mean() == pytest.approx(FILM.mean(), abs=0.5)
    assert flat.std() == pytest.approx(0.05 * FILM.std(), abs=0.3)
    half = Contrast(level=0.5, seed=0).film(FILM, 1)
    assert half.std() == pytest.approx(0.525 * FILM.std(), rel=0.02)
