import numpy as np
import polars as pl
import pytest

from fusionctl.data import event_blocks
from fusionctl.data.event_blocks import Events, once_stored
from fusionctl.errors import InputError


def write(path, rows):
    """events.parquet from (stay, hours, stored_hours); the value is stay + hours."""
    stay, hours, stored = zip(*rows, strict=True)
    columns = {"stay_id": stay, "hours": hours, "variable": [0] * len(rows), "value": np.add(stay, hours)}
    types = {"stay_id": pl.Int64, "hours": pl.Float64, "variable": pl.UInt8, "value": pl.Float32}
    pl.DataFrame(columns | {"stored_hours": stored}, schema=types | {"stored_hours": pl.Float64}).write_parquet(path)


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
@pytest.mark.parametrize("stored", [False, True])
def test_blocks_never_cut_a_stay(tmp_path, size, stored):
    rows = [(stay, float(h), None if h % 2 else h + 1.0) for stay in (3, 4, 9, 11) for h in range(stay)]
    write(tmp_path / "events.parquet", rows)
    blocks = list(event_blocks.read_blocks(tmp_path / "events.parquet", size, stored=stored))
    stays = [set(block.stay_id.tolist()) for block in blocks]
    assert sum(len(s) for s in stays) == 4 == len(set.union(*stays))
    np.testing.assert_array_equal(np.concatenate([b.value for b in blocks]), [r[0] + r[1] for r in rows])
    if stored:
        found = np.concatenate([b.stored_hours for b in blocks])
        np.testing.assert_array_equal(found, [np.nan if r[2] is None else r[2] for r in rows])
    else:
        assert all(block.stored_hours is None for block in blocks)


@pytest.mark.parametrize("rows", [[(2, 1.0, 1.0), (1, 1.0, 1.0)], [(1, 2.0, 2.0), (1, 1.0, 1.0)]])
def test_unsorted_events_are_refused(tmp_path, rows):
    write(tmp_path / "events.parquet", rows)
    with pytest.raises(InputError, match="rows are not in order; rule: sorted by stay_id, hours"):
        list(event_blocks.read_blocks(tmp_path / "events.parquet"))


def test_of_results_known_at_once_the_one_charted_later_is_last():
    hours, stored = np.array([1.0, 2.0, 0.0, 5.0]), np.array([3.0, 3.0, 9.0, 5.0])
    events = Events(np.array([7, 7, 8, 8]), hours, np.zeros(4, np.uint8), np.arange(4, dtype=np.float32), stored)
    sample, found, counts = event_blocks.once_stored(np.array([0, 0, 1, 1]), events, np.array([4.0, 20.0]))
    assert found.value.tolist() == [0, 1, 3, 2] and found.hours.tolist() == [3, 3, 5, 9]
    assert sample.tolist() == [0, 0, 1, 1] and counts == (0, 0)


def test_once_stored_needs_the_times():
    events = Events(np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.uint8), np.zeros(0, np.float32))
    with pytest.raises(ValueError, match="without stored_hours"):
        event_blocks.once_stored(np.zeros(0, np.int64), events, np.zeros(0))


def test_the_order_holds_where_a_short_stay_follows_a_long_one():
    """Laid end to end, the windows must not overlap, however different they are."""
    window = np.array([100.0, 2.0, 50.0])
    sample = np.array([0, 0, 1, 1, 2])
    hours = np.array([99.0, 0.5, 1.0, 0.5, 49.0])
    events = Events(sample + 7, hours, np.zeros(5, np.uint8), np.arange(5, dtype=np.float32), hours)
    placed, ordered, counts = once_stored(sample, events, window)
    assert placed.tolist() == [0, 0, 1, 1, 2] and ordered.hours.tolist() == [0.5, 99.0, 0.5, 1.0, 49.0]
    assert counts == (0, 0)
