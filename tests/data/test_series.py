import numpy as np
import polars as pl
import pytest

from fusionctl.data import series
from fusionctl.data.normaliser import Normaliser
from fusionctl.errors import InputError

NAN = np.nan
NORMAL = np.array([10.0, 20.0], dtype=np.float32)


def events(*rows):
    """Events from (sample or stay, hours, variable, value)."""
    stay, hours, variable, value = zip(*rows, strict=True) if rows else ((), (), (), ())
    return series.Events(
        np.array(stay, np.int64), np.array(hours, float), np.array(variable, np.uint8), np.array(value, np.float32)
    )


def grid(rows, window_hours, timestep=2.0):
    found = events(*rows)
    return series.grid(found.stay_id, found, np.array(window_hours, float), timestep=timestep, normal=NORMAL)


def write(path, rows):
    found = events(*rows)
    table = pl.DataFrame(found._asdict()).with_columns(stored_hours=pl.lit(None, dtype=pl.Float64))
    table.write_parquet(path)


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


def reference(rows, window, step):
    """The benchmark's Discretizer, one stay, one event at a time."""
    bins = int(window / step + 1 - 1e-6)
    values, observed = np.full((bins, 2), NAN, np.float32), np.zeros((bins, 2), bool)
    for hours, variable, value in rows:
        if -1e-6 < hours < window + 1e-6:
            row = min(int(hours / step - 1e-6), bins - 1)
            values[row, variable], observed[row, variable] = value, True
    for variable in range(2):
        previous = NORMAL[variable]
        for row in range(bins):
            previous = values[row, variable] if observed[row, variable] else previous
            values[row, variable] = previous
    return values, observed


@pytest.mark.parametrize("step", [0.5, 1.0, 2.0, 5.0])
def test_equals_the_benchmarks_loop_on_random_stays(step):
    rng = np.random.default_rng(3)
    windows, rows = rng.uniform(0.5, 60, 40), []
    for stay in range(40):
        hours = np.sort(np.round(rng.uniform(-4, 64, rng.integers(1, 60)), rng.integers(0, 3)))
        rows += [(stay, h, rng.integers(2), rng.normal()) for h in hours]
    values, observed, _ = grid(rows, windows, step)
    expected = [reference([r[1:] for r in rows if r[0] == s], windows[s], step) for s in range(40)]
    np.testing.assert_array_equal(values, np.concatenate([e[0] for e in expected]))
    np.testing.assert_array_equal(observed, np.concatenate([e[1] for e in expected]))


def test_write_grid_leaves_out_stays_without_an_event_in_the_window(tmp_path):
    write(
        tmp_path / "events.parquet",
        [(5, 1.0, 0, 1.0), (6, 1.0, 0, 9.0), (7, -1.0, 0, 2.0), (8, 1.5, 1, 3.0), (8, 9.0, 1, 4.0)],
    )
    calls = []
    found = series.write_grid(
        tmp_path / "events.parquet",
        tmp_path,
        np.array([4, 5, 7, 8]),  # 4 has no event at all, 6 is not wanted
        np.array([4.0, 4.0, 4.0, 2.0]),
        timestep=2.0,
        normal=NORMAL,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert found.n_rows.tolist() == [0, 2, 0, 1]
    assert found.first_row[[1, 3]].tolist() == [0, 2]
    np.testing.assert_array_equal(found.last_event_hours, [NAN, 1.0, NAN, 1.5])
    assert np.load(tmp_path / "values.npy").tolist() == [[1, 20], [1, 20], [10, 3]]
    assert np.load(tmp_path / "observed.npy").tolist() == [[True, False], [False, False], [False, True]]
    assert calls[-1] == (5, 5)


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_blocks_never_cut_a_stay(tmp_path, size):
    rows = [(stay, float(h), 0, stay + h) for stay in (3, 4, 9, 11) for h in range(stay)]
    write(tmp_path / "events.parquet", rows)
    blocks = list(series.read_blocks(tmp_path / "events.parquet", size))
    stays = [set(block.stay_id.tolist()) for block in blocks]
    assert sum(len(s) for s in stays) == 4 == len(set.union(*stays))
    np.testing.assert_array_equal(np.concatenate([b.value for b in blocks]), [r[3] for r in rows])


def test_no_events(tmp_path):
    write(tmp_path / "events.parquet", [])
    found = series.write_grid(
        tmp_path / "events.parquet", tmp_path, np.array([1]), np.array([4.0]), timestep=2.0, normal=NORMAL
    )
    assert found.n_rows.tolist() == [0]
    assert np.load(tmp_path / "values.npy").shape == (0, 2)


@pytest.mark.parametrize("rows", [[(2, 1.0, 0, 1.0), (1, 1.0, 0, 1.0)], [(1, 2.0, 0, 1.0), (1, 1.0, 0, 1.0)]])
def test_unsorted_events_are_refused(tmp_path, rows):
    write(tmp_path / "events.parquet", rows)
    with pytest.raises(InputError, match="rows are not in order; rule: sorted by stay_id, hours"):
        list(series.read_blocks(tmp_path / "events.parquet"))


def test_normaliser_counts_training_rows_only():
    values = np.array([[1, 5], [3, 6], [100, 7], [200, 8], [5, 9]], dtype=np.float32)
    found = Normaliser.fit(values, np.array([True, False, True]), np.array([2, 2, 1]), np.array([True, False]))
    assert found.mean == [3.0, 0.0]
    assert found.sd == pytest.approx([np.sqrt(8 / 3), 1.0])
    assert found.n_stays == 2
    assert found.to_json()["train_rows_only"] is True


def test_a_constant_variable_is_not_blown_up():
    values = np.full((1000, 1), 0.21, dtype=np.float32)
    found = Normaliser.fit(values, np.array([True]), np.array([1000]), np.array([True]))
    assert found.sd == [1.0]


def test_no_training_stay_is_an_error():
    with pytest.raises(InputError, match="none of 1 stays is in the training split"):
        Normaliser.fit(np.zeros((1, 1), np.float32), np.array([False]), np.array([1]), np.array([True]))
