import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionctl.data import series
from fusionctl.data.event_blocks import Events

NAN = np.nan
NORMAL = np.array([10.0, 20.0], dtype=np.float32)


def events(*rows):
    """Events from (sample or stay, hours, variable, value)."""
    stay, hours, variable, value = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Events(
        np.array(stay, np.int64), np.array(hours, float), np.array(variable, np.uint8), np.array(value, np.float32)
    )


def grid(rows, window_hours, timestep=2.0, fill=NORMAL, carry=True):
    found = events(*rows)
    return series.grid(found.stay_id, found, np.array(window_hours, float), timestep=timestep, fill=fill, carry=carry)


def write(path, rows, stored_hours=None):
    """events.parquet from (stay, hours, variable, value), in the order given."""
    columns = events(*rows)._asdict() | {
        "stored_hours": pl.Series(stored_hours or [None] * len(rows), dtype=pl.Float64)
    }
    pl.DataFrame(columns).write_parquet(path)


def write_grid(folder, stay_ids, window_hours, **options):
    """The grid of `events.parquet` in `folder`; values and observed."""
    options = {"timestep": 2.0, "fill": NORMAL} | options
    stays, window = np.array(stay_ids, np.int64), np.array(window_hours, float)
    found = series.write_grid(folder / "events.parquet", folder, stays, window, **options)
    return found, np.load(folder / "values.npy"), np.load(folder / "observed.npy")


@pytest.mark.parametrize(
    ("hours", "step", "bins"),
    [(48, 2, 24), (48, 1, 48), (48, 5, 10), (48, 48, 1), (47.5, 2, 24), (0.3, 2, 1), (0.0, 2, 1), (50, 2, 25)],
)
def test_number_of_bins(hours, step, bins):
    assert series.n_bins(hours, step) == bins
    assert series.n_bins(np.array([hours]), step).tolist() == [max(1, int(hours / step + 1 - 1e-6))]


@pytest.mark.parametrize(
    ("hours", "row"), [(0.0, 0), (1.999, 0), (2.0, 0), (2.001, 1), (4.0, 1), (5.9999999, 2), (6.0, 2), (6 + 5e-7, 2)]
)
def test_an_event_falls_into_the_bin_that_ends_at_or_after_it(hours, row):
    _, observed, last = grid([(0, hours, 0, 1.0)], [6.0])
    assert observed[:, 0].tolist() == [i == row for i in range(3)]
    assert last.tolist() == [hours]


@pytest.mark.parametrize("hours", [-2e-6, -3.0, 6 + 2e-6, 7.0, 1e9])
def test_an_event_outside_the_window_changes_nothing(hours):
    rows = sorted([(0, 3.0, 1, 7.0), (0, hours, 0, 99.0)])
    values, observed, last = grid(rows, [6.0])
    alone = grid([(0, 3.0, 1, 7.0)], [6.0])
    np.testing.assert_array_equal(values, alone[0])
    np.testing.assert_array_equal(observed, alone[1])
    assert last.tolist() == [3.0]


def test_the_last_value_of_a_bin_wins_and_gaps_are_filled_forward():
    values, observed, _ = grid(
        [(0, 2.5, 0, 1.0), (0, 3.0, 0, 2.0), (0, 3.5, 1, 5.0), (0, 3.9, 0, 3.0), (0, 8.5, 0, 4.0)], [12.0]
    )
    assert values.tolist() == [[10, 20], [3, 5], [3, 5], [3, 5], [4, 5], [4, 5]]
    assert observed.tolist() == [[False, False], [True, True], [False] * 2, [False] * 2, [True, False], [False] * 2]


def test_of_two_rows_at_one_chart_time_the_later_row_wins():
    """events.parquet orders them by the time they were stored."""
    values, _, _ = grid([(0, 1.0, 0, 8.0), (0, 1.0, 0, 3.0)], [2.0])
    assert values.tolist() == [[3, 20]]


def test_nothing_crosses_from_one_stay_to_the_next():
    values, observed, last = grid(
        [(0, 1.0, 0, 1.0), (0, 3.0, 1, 2.0), (1, -5.0, 0, 9.0), (1, 3.0, 1, 4.0), (2, 50.0, 0, 6.0)], [4.0, 6.0, 2.0]
    )
    assert values.tolist() == [[1, 20], [1, 2], [10, 20], [10, 4], [10, 4], [10, 20]]
    assert observed.sum() == 3
    np.testing.assert_array_equal(last, [3.0, 3.0, NAN])


def reference(rows, window, step, impute="previous"):
    """The benchmark's Discretizer, one stay, one event at a time; variable 1 is categorical."""
    bins = max(1, int(window / step + 1 - 1e-6))
    values, observed = np.full((bins, 2), NAN, np.float32), np.zeros((bins, 2), bool)
    for hours, variable, value in rows:
        if -1e-6 < hours < window + 1e-6:
            row = min(int(hours / step - 1e-6), bins - 1)
            values[row, variable], observed[row, variable] = value, True
    for variable in range(2):
        gap = {"zero": (0, -1)}.get(impute, NORMAL)[variable]
        for row in range(bins):
            if observed[row, variable] and impute == "previous":
                gap = values[row, variable]
            values[row, variable] = values[row, variable] if observed[row, variable] else gap
    return values, observed


def expect(rows, windows, step, impute="previous"):
    """What `reference` makes of rows of (stay, hours, variable, value), stay after stay."""
    each = [reference([r[1:] for r in rows if r[0] == s], w, step, impute) for s, w in enumerate(windows)]
    return np.concatenate([e[0] for e in each]), np.concatenate([e[1] for e in each])


def filling(impute):
    fill, carry = series.filling(impute, NORMAL, [False, True])
    return {"fill": fill, "carry": carry}


@pytest.mark.parametrize("step", [0.5, 1.0, 2.0, 5.0])
def test_equals_the_benchmarks_loop_on_random_stays(step):
    rng = np.random.default_rng(3)
    windows, rows = rng.uniform(0.5, 60, 40), []
    for stay in range(40):
        hours = np.sort(np.round(rng.uniform(-4, 64, rng.integers(1, 60)), rng.integers(0, 3)))
        rows += [(stay, h, rng.integers(2), rng.normal()) for h in hours]
    for impute in ("previous", "normal", "zero"):
        values, observed, _ = grid(rows, windows, step, **filling(impute))
        expected = expect(rows, windows, step, impute)
        np.testing.assert_array_equal(values, expected[0])
        np.testing.assert_array_equal(observed, expected[1])


HOURS = st.integers(-240, 3600).map(lambda minutes: minutes / 60)
ROWS = st.lists(st.tuples(st.integers(0, 3), HOURS, st.integers(0, 1), st.integers(0, 9).map(float)), min_size=1)
WINDOWS = st.lists(st.integers(1, 50).map(float), min_size=4, max_size=4)


@settings(max_examples=100, deadline=None)
@given(ROWS, WINDOWS, st.sampled_from([0.5, 2.0, 7.0]), st.sampled_from(["previous", "normal", "zero"]))
def test_every_imputation_equals_the_loop(rows, windows, step, impute):
    rows = sorted(rows, key=lambda r: r[:2])
    values, observed, last = grid(rows, windows, step, **filling(impute))  # some of the four may have no event
    expected = expect(rows, windows, step, impute)
    np.testing.assert_array_equal(values, expected[0])
    np.testing.assert_array_equal(observed, expected[1])
    inside = [[h for s, h, *_ in rows if s == stay and -1e-6 < h < w + 1e-6] for stay, w in enumerate(windows)]
    np.testing.assert_array_equal(last, [max(hours, default=NAN) for hours in inside])


def test_imputation_of_one_stay():
    rows = [(0, 3.0, 0, 2.0), (0, 3.5, 1, 5.0)]
    assert grid(rows, [8.0], **filling("previous"))[0].tolist() == [[10, 20], [2, 5], [2, 5], [2, 5]]
    assert grid(rows, [8.0], **filling("normal"))[0].tolist() == [[10, 20], [2, 5], [10, 20], [10, 20]]
    assert grid(rows, [8.0], **filling("zero"))[0].tolist() == [[0, -1], [2, 5], [0, -1], [0, -1]]


@settings(max_examples=50, deadline=None)
@given(ROWS, st.sampled_from(["previous", "normal", "zero"]), st.integers(1, 20))
def test_no_imputation_looks_ahead(rows, impute, n_rows):
    """What comes after a row of the grid changes nothing in the rows up to it."""
    rows = sorted([(0, 0.0, 0, 1.0), *((0, *row[1:]) for row in rows)], key=lambda row: row[1])
    past = [row for row in rows if row[1] <= 2.0 * n_rows]
    whole, cut = (grid(events, [60.0], 2.0, **filling(impute)) for events in (rows, past))
    np.testing.assert_array_equal(whole[0][:n_rows], cut[0][:n_rows])
    np.testing.assert_array_equal(whole[1][:n_rows], cut[1][:n_rows])


def test_write_grid_leaves_out_stays_without_an_event_in_the_window(tmp_path):
    write(
        tmp_path / "events.parquet",
        [(5, 1.0, 0, 1.0), (6, 1.0, 0, 9.0), (7, -1.0, 0, 2.0), (8, 1.5, 1, 3.0), (8, 9.0, 1, 4.0)],
    )
    calls = []
    found, values, observed = write_grid(
        tmp_path,
        [4, 5, 7, 8],  # 4 has no event at all, 6 is not wanted
        [4.0, 4.0, 4.0, 2.0],
        progress=lambda done, total: calls.append((done, total)),
    )
    assert found.n_rows.tolist() == [0, 2, 0, 1]
    assert found.first_row[[1, 3]].tolist() == [0, 2]
    np.testing.assert_array_equal(found.last_event_hours, [NAN, 1.0, NAN, 1.5])
    assert values.tolist() == [[1, 20], [1, 20], [10, 3]]
    assert observed.tolist() == [[True, False], [False, False], [False, True]]
    assert calls[-1] == (5, 5)
    assert (found.never_stored, found.late) == (0, 0)


def test_no_events(tmp_path):
    write(tmp_path / "events.parquet", [])
    for available_at in ("charttime", "storetime"):
        found, values, _ = write_grid(tmp_path, [1], [4.0], available_at=available_at)
        assert found.n_rows.tolist() == [0]
        assert values.shape == (0, 2)


def test_results_enter_once_they_are_stored(tmp_path):
    write(
        tmp_path / "events.parquet",
        [
            (5, -2.0, 0, 1.0),  # from before the admission, known at 0.5 h
            (5, 1.0, 0, 2.0),  # known at 7 h: after the next one
            (5, 3.0, 0, 3.0),  # said to be stored before it was charted
            (5, 3.0, 1, 4.0),  # never stored
            (5, 7.0, 1, 5.0),  # known after the window
            (5, 8.0, 1, 6.0),
            (5, 9.0, 1, 7.0),  # charted after the window
            (6, 1.0, 0, 8.0),  # late
            (7, 1.0, 0, 9.0),  # not wanted
        ],
        stored_hours=[0.5, 7.0, 2.0, None, 8.5, 8.0, 9.0, 9.0, None],
    )
    found, values, observed = write_grid(tmp_path, [5, 6], [8.0, 8.0], available_at="storetime")
    assert values.tolist() == [[1, 20], [3, 20], [3, 20], [2, 6]]
    assert np.argwhere(observed).tolist() == [[0, 0], [1, 0], [3, 0], [3, 1]]
    assert found.n_rows.tolist() == [4, 0]
    np.testing.assert_array_equal(found.last_event_hours, [8.0, NAN])
    assert (found.never_stored, found.late) == (1, 2)


STORED = st.one_of(st.none(), st.integers(-240, 4800).map(lambda minutes: minutes / 60))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(0, 3), HOURS, st.integers(0, 1), st.integers(0, 9).map(float), STORED])), WINDOWS
)
def test_storetime_equals_the_loop_over_the_times_of_knowing(tmp_path_factory, rows, windows):
    folder = tmp_path_factory.mktemp("grid")
    rows = sorted(rows, key=lambda r: r[:2])
    write(folder / "events.parquet", [r[:4] for r in rows], [r[4] for r in rows])
    found, values, observed = write_grid(folder, range(4), windows, available_at="storetime", **filling("previous"))
    known = [(s, max(h, stored), v, x) for s, h, v, x, stored in rows if stored is not None]
    known = sorted(known, key=lambda r: r[:2])
    inside = [r for r in known if -1e-6 < r[1] < windows[r[0]] + 1e-6]
    for stay, window in enumerate(windows):
        entered = [r[1:] for r in inside if r[0] == stay]
        rows_of = slice(found.first_row[stay], found.first_row[stay] + found.n_rows[stay])
        expected = reference(entered, window, 2.0) if entered else np.empty((2, 0, 2))
        np.testing.assert_array_equal(values[rows_of], expected[0])
        np.testing.assert_array_equal(observed[rows_of], expected[1])
        np.testing.assert_array_equal(found.last_event_hours[stay], max((r[0] for r in entered), default=NAN))
    charted = [(s, h, stored) for s, h, _, _, stored in rows if -1e-6 < h < windows[s] + 1e-6]
    assert found.never_stored == sum(stored is None for *_, stored in charted)
    assert found.late == sum(stored is not None and stored >= windows[s] + 1e-6 for s, _, stored in charted)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(*[st.just(0), HOURS, st.integers(0, 1), st.integers(0, 9).map(float), STORED]), min_size=1))
def test_storetime_uses_nothing_stored_after_the_window(tmp_path_factory, rows):
    folder, grids = tmp_path_factory.mktemp("grid"), []
    rows = sorted(rows, key=lambda r: r[1])
    for offset in (0.0, 100.0):  # another value of what is stored after the window
        late = [offset if r[4] is None or r[4] > 24.0 else 0.0 for r in rows]
        write(
            folder / "events.parquet",
            [(*r[:3], r[3] + x) for r, x in zip(rows, late, strict=True)],
            [r[4] for r in rows],
        )
        found, *arrays = write_grid(folder, [0], [24.0], available_at="storetime")
        grids.append([a.tobytes() for a in arrays])
        assert not found.last_event_hours[0] > 24.0 + 1e-6
    assert grids[0] == grids[1]


def test_the_default_reads_no_stored_hours(tmp_path):
    write(tmp_path / "events.parquet", [(5, 1.0, 0, 1.0)])
    table = pl.read_parquet(tmp_path / "events.parquet").drop("stored_hours")
    table.write_parquet(tmp_path / "events.parquet")
    assert write_grid(tmp_path, [5], [2.0])[1].tolist() == [[1, 20]]
