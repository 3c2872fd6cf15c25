from datetime import datetime, timedelta
from typing import get_args, get_type_hints

import numpy as np
import polars as pl
import pytest

from fusionctl.data import pairing
from fusionctl.errors import UsageError
from fusionctl.settings import PreprocessSettings

INTIME = datetime(2150, 3, 1, 12, 0, 0)
PICKS = get_args(get_type_hints(PreprocessSettings)["film_pick"])


def samples(*rows, window_hours=48.0):
    """Rows of (stay_id, subject_id, hours of intime after INTIME)."""
    return pl.DataFrame(
        [(stay, subject, INTIME + timedelta(hours=hours), window_hours) for stay, subject, hours in rows],
        schema={"stay_id": pl.Int64, "subject_id": pl.Int64, "intime": pl.Datetime("us"), "window_hours": pl.Float64},
        orient="row",
    )


def films(*rows, first=0):
    """Rows of (subject_id, hours after INTIME or None, view, dicom_id); their rows of films.npy begin at `first`."""
    times = [None if row[1] is None else INTIME + timedelta(hours=row[1]) for row in rows]
    return pl.DataFrame(
        {
            "film": pl.Series(range(first, first + len(rows)), dtype=pl.Int32),
            "subject_id": pl.Series([row[0] for row in rows], dtype=pl.Int64),
            "study_time": pl.Series(times, dtype=pl.Datetime("us")),
            "view": pl.Series([row[2] for row in rows], dtype=pl.String),
            "dicom_id": pl.Series([row[3] for row in rows], dtype=pl.String),
        }
    )


def pairs(samples, films, *, view="AP", pick="last", window=""):
    return pairing.pair(samples, films, view=view, pick=pick, window=window).rows()


def hours_of(pick, hours, *, window="", end=48.0):
    """Study times of the films that one stay gets, of those at some hours."""
    found = pairs(
        samples((1, 7, 0), window_hours=end), films(*((7, h, "AP", "a") for h in hours)), pick=pick, window=window
    )
    return [film_hours for _, _, film_hours in found]


def test_the_last_film_inside_the_window_wins():
    found = pairs(samples((1, 7, 0)), films((7, 30, "AP", "b"), (7, 47, "AP", "a"), (7, 49, "AP", "c")))
    assert found == [(1, 1, 47.0)]


def test_the_film_is_its_number_not_its_place_in_the_table():
    table = films((7, 30, "AP", "b"), (7, 47, "AP", "a"), (7, 20, "AP", "c"), first=100)
    assert pairs(samples((1, 7, 0)), table.reverse()) == [(1, 101, 47.0)]
    found = pairing.pair(samples((1, 7, 0)), table, view="AP", pick="all", window="")
    assert found.schema == {"stay_id": pl.Int64, "film": pl.Int32, "film_hours": pl.Float64}


@pytest.mark.parametrize("pick", PICKS)
@pytest.mark.parametrize(("hours", "inside"), [(0, True), (48, True), (-1 / 3600, False), (48 + 1 / 3600, False)])
def test_both_ends_of_the_window_are_inclusive_to_the_second(hours, inside, pick):
    assert pairs(samples((1, 7, 0)), films((7, hours, "AP", "a")), pick=pick) == (
        [(1, 0, float(hours))] if inside else []
    )


def test_a_microsecond_after_the_window_is_too_late():
    assert pairs(samples((1, 7, 0)), films((7, 48 + 1 / 3.6e9, "AP", "a"))) == []


@pytest.mark.parametrize(
    ("window", "hours", "inside"),
    [
        ("0.1:0.3", 0.1, True),
        ("0.1:0.3", 0.3, True),
        ("0.1:0.3", 0.1 - 1 / 3.6e9, False),
        ("0.1:0.3", 0.3 + 1 / 3.6e9, False),
        ("-6:", -6, True),
        ("-6:", -6 - 1 / 3.6e9, False),
        ("-6:", 48, True),
        ("-6:", 48 + 1 / 3.6e9, False),
        (":24", -1 / 3.6e9, False),
        ("-6:96", 48 + 1 / 3.6e9, False),  # never later than the prediction, whatever the window says
        ("-6:-2", -2, True),
        ("-6:-2", 0, False),
    ],
)
def test_the_film_window_is_inclusive_to_the_microsecond_and_ends_with_the_input(window, hours, inside):
    for pick in PICKS:
        found = pairs(samples((1, 7, 0)), films((7, hours, "AP", "a")), pick=pick, window=window)
        assert len(found) == inside


def test_a_film_window_after_the_end_of_a_short_stays_input_takes_nothing():
    assert hours_of("last", [10, 30], window="24:48", end=20.0) == []
    assert hours_of("all", [10, 19, 21], window="5:48", end=20.0) == [10, 19]


@pytest.mark.parametrize(
    ("view", "taken"),
    [("AP", "AP"), ("PA", "PA"), ("frontal", "AP PA"), ("any", " AP PA LATERAL LL XTABLE")],
)
def test_views(view, taken):
    for shown in ("AP", "PA", "LATERAL", "AP AXIAL", "LL", ""):
        found = pairs(samples((1, 7, 0)), films((7, 10, shown, "a")), view=view)
        assert len(found) == (view == "any" or shown in taken.split())


def test_every_view_that_can_be_set_is_known():
    assert set(get_args(get_type_hints(PreprocessSettings)["film_view"])) == set(pairing.VIEWS)


@pytest.mark.parametrize("pick", PICKS)
@pytest.mark.parametrize("view", ["AP", "any"])
def test_other_patients_films_and_films_without_a_time_are_not_paired(view, pick):
    assert pairs(samples((1, 7, 0)), films((8, 10, "AP", "a"), (7, None, "AP", "b")), view=view, pick=pick) == []


def test_picks():
    hours = [30, 3, 47, 12]
    assert hours_of("last", hours) == [47]
    assert hours_of("first", hours) == [3]
    assert hours_of("nearest-end", hours) == [47]
    assert hours_of("all", hours) == [3, 12, 30, 47]


def test_no_pick_leaves_the_film_window():
    """The film at 25 h is nearer to the window's end than that at 10 h, but the window says 24 h."""
    hours = [-30, -5, 10, 25]
    assert hours_of("nearest-end", hours, window=":24") == [10]
    assert hours_of("last", hours, window=":24") == [10]
    assert hours_of("first", hours, window="-6:24") == [-5]
    assert hours_of("all", hours, window="-6:24") == [-5, 10]


@pytest.mark.parametrize("pick", ["last", "first", "nearest-end"])
def test_equal_times_are_decided_by_the_dicom_id_whatever_the_order(pick):
    one, other = (7, 10, "AP", "a"), (7, 10, "AP", "b")
    assert pairs(samples((1, 7, 0)), films(one, other), pick=pick) == [(1, 1, 10.0)]
    assert pairs(samples((1, 7, 0)), films(other, one), pick=pick) == [(1, 0, 10.0)]


def test_a_film_can_belong_to_two_stays_whose_windows_overlap():
    found = pairs(samples((2, 7, 24), (1, 7, 0)), films((7, 30, "AP", "a")))
    assert found == [(1, 0, 30.0), (2, 0, 6.0)]


def test_all_films_are_sorted_by_stay_and_time():
    table = films((7, 40, "AP", "a"), (8, 5, "AP", "b"), (7, 30, "AP", "c"), (7, 30, "AP", "d"))
    found = pairs(samples((2, 7, 24), (3, 8, 0), (1, 7, 0)), table, pick="all")
    assert found == [(1, 2, 30), (1, 3, 30), (1, 0, 40), (2, 2, 6), (2, 3, 6), (2, 0, 16), (3, 1, 5)]


@pytest.mark.parametrize("pick", PICKS)
def test_no_films_at_all(pick):
    found = pairing.pair(samples((1, 7, 0)), films(), view="any", pick=pick, window="")
    assert found.rows() == [] and pairing.film_of(found).rows() == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (0, np.inf)),
        (":", (0, np.inf)),
        ("-24:48", (-24, 48)),
        ("0:24", (0, 24)),
        ("-6:", (-6, np.inf)),
        (":24", (0, 24)),
        ("1.5 : 1.5", (1.5, 1.5)),
        ("-1e300:1e300", (-1e300, 1e300)),
    ],
)
def test_windows(text, expected):
    assert pairing.parse_window(text) == expected


@pytest.mark.parametrize(
    "text", ["24", "a:b", "nan:24", "0:nan", "24:0", ":-6", "0:inf", "-inf:", "0:1:2", "0-24", " "]
)
def test_wrong_windows_are_refused_with_the_rule(text):
    with pytest.raises(UsageError) as caught:
        pairing.parse_window(text)
    rule = "--film-window must be FROM:TO in hours since ICU admission, FROM <= TO"
    assert caught.value.message == f"{rule}; got {text!r}" and "for example --film-window=-24:48" in caught.value.hint


def test_a_window_as_wide_as_can_be_takes_what_the_input_allows():
    assert hours_of("all", [-2000, 5, 49], window="-1e300:1e300") == [-2000, 5]


def test_the_film_of_a_stay_is_the_last_of_those_chosen():
    table = films((7, 40, "AP", "a"), (7, 30, "AP", "c"), (7, 40, "AP", "d"), (8, 5, "AP", "b"))
    chosen = pairing.pair(samples((1, 7, 0), (3, 8, 0)), table, view="AP", pick="all", window="")
    found = pairing.film_of(chosen)
    assert found.columns == ["stay_id", "film", "film_hours", "n_films"] and found.schema["n_films"] == pl.Int32
    assert found.rows() == [(1, 2, 40.0, 3), (3, 3, 5.0, 1)]
    assert pairing.film_of(chosen.reverse()).equals(found)


@pytest.fixture
def found():
    """Three stays with films of five, by split."""
    hours = np.array([8.0, 38.0, np.nan, 48.0, np.nan])
    split = np.array(["train", "train", "train", "val", "test"])
    return pairing.summary(hours, np.full(5, 48.0), split, np.array([1, 4, 0, 2, 0]))


def test_summary_by_split(found):
    assert found["train"] | {"sd": None} == {
        "stays": 3, "paired": 2, "films": 5, "mean": 25.0, "sd": None, "min": 10.0, "p25": 17.5, "p50": 25.0,
        "p75": 32.5, "max": 40.0,
    }  # fmt: skip
    assert found["train"]["sd"] == pytest.approx(np.sqrt(450))
    assert (found["val"]["paired"], found["val"]["mean"], found["val"]["sd"]) == (1, 0.0, None)
    nothing = dict.fromkeys(("mean", "sd", "min", "p25", "p50", "p75", "max"))
    assert found["test"] == {"stays": 1, "paired": 0, "films": 0} | nothing
    assert (found["all"]["stays"], found["all"]["paired"], found["all"]["films"]) == (5, 3, 7)


def test_the_terminal_table(found):
    table = pairing.terminal_table(found)
    assert table["header"] == [
        *("split", "stays", "with a film", "share", "films"),
        *("mean", "sd", "min", "p25", "median", "p75", "max"),
    ]
    all_stays, train, val, test = table["rows"]
    assert train == ["train", "3", "2", "66.7%", "5", "25.0", "21.2", "10.0", "17.5", "25.0", "32.5", "40.0"]
    assert val == ["val", "1", "1", "100.0%", "2", "0.0", "–", *["0.0"] * 5]
    assert test == ["test", "1", "0", "0.0%", "0", *["–"] * 7]
    assert all_stays[:5] == ["all", "5", "3", "60.0%", "7"]
    nobody = pairing.summary(*(np.zeros(0),) * 2, np.array([], dtype=str), np.zeros(0, int))
    assert pairing.terminal_table(nobody)["rows"][0] == ["all", "0", "0", "–", "0", *["–"] * 7]
