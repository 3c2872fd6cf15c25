"""Buckets on disk give back what was put in, by stay, and leave nothing behind."""

import numpy as np
import polars as pl
import pytest

from fusionctl.data import buckets
from fusionctl.data.buckets import Buckets
from fusionctl.data.events import columns_of
from fusionctl.errors import InputError


def frame(rng, stays, n, protocol):
    columns = {
        "stay_id": rng.choice(stays, n),
        "hours": rng.normal(size=n),
        "variable": rng.integers(0, 17, n),
        "value": rng.normal(size=n),
        "stored_hours": [None if i % 3 == 0 else float(i) for i in range(n)],
        "rank": rng.integers(0, 2**56, n),
    }
    return pl.DataFrame(columns).select(list(columns_of(protocol))).cast(columns_of(protocol))


@pytest.mark.parametrize("protocol", ["paper", "legacy"])
def test_every_event_comes_back_in_the_bucket_of_its_stay(tmp_path, monkeypatch, protocol):
    monkeypatch.setattr(buckets, "STAYS_PER_BUCKET", 3)
    monkeypatch.setattr(buckets, "_HELD", 50)
    rng = np.random.default_rng(0)
    stays = np.array([5, 7, 8, 20, 21, 30, 44])
    frames = [frame(rng, stays[stays != 20], 17, protocol) for _ in range(20)]
    writers = [Buckets(tmp_path, pl.Series(stays), columns_of(protocol), writer=name) for name in "ab"]
    for i, events in enumerate(frames):
        writers[i % 2].add(events)
    for writer in writers:
        writer.flush()
    store = Buckets(tmp_path, pl.Series(stays), columns_of(protocol))
    assert list(tmp_path.iterdir())
    parts = list(store.drain())
    assert [set(p["stay_id"]) <= set(s) for p, s in zip(parts, ([5, 7, 8], [20, 21, 30], [44]), strict=True)] == [
        True
    ] * 3
    order = list(columns_of(protocol))
    assert pl.concat(parts).sort(order).equals(pl.concat(frames).sort(order))
    assert not list(tmp_path.iterdir())


def test_the_rank_of_legacy_is_on_its_way_only():
    assert set(columns_of("legacy")) - set(columns_of("paper")) == {"rank"}


@pytest.mark.parametrize("protocol", ["paper", "legacy"])
def test_no_events(tmp_path, protocol):
    parts = list(Buckets(tmp_path, pl.Series([1, 2]), columns_of(protocol)).drain())
    assert [p.height for p in parts] == [0] and parts[0].schema == pl.Schema(columns_of(protocol))


def test_a_table_that_repeats_itself_does_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(buckets, "_MOST_EVENTS", 30)
    store = Buckets(tmp_path, pl.Series([1, 2]), columns_of("paper"))
    store.add(frame(np.random.default_rng(0), [1, 2], 31, "paper"))
    store.flush()
    with pytest.raises(InputError, match="31 events of 1024 stays; rule: at most 30"):
        list(store.drain())
