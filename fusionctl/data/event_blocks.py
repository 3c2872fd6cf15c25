"""Events in blocks of whole stays, as they were charted or as they could be known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.parquet as pq

from fusionctl.errors import InputError

# The benchmark's tolerance in hours, at both ends of the window.
EPSILON = 1e-6
# Events per block: about 90 stays of 48 h. Small enough for the block's arrays to stay in the processor's cache, which
# doubles the rate.
BLOCK_EVENTS = 1 << 16

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


class Events(NamedTuple):
    """Events sorted by stay, hours, then stored_hours: n rows, as in `events.parquet`.

    `stored_hours` (NaN: nothing says when it was stored) is there only where it decides when an event may be used.
    """

    stay_id: IntArray
    hours: FloatArray
    variable: npt.NDArray[np.uint8]
    value: npt.NDArray[np.float32]
    stored_hours: FloatArray | None = None

    def of(self, rows: slice | BoolArray | IntArray) -> Events:
        """The events at `rows`: a slice, a mask or positions."""
        return Events._make(None if column is None else column[rows] for column in self)


def in_window(hours: FloatArray, window_hours: FloatArray) -> BoolArray:
    """Which times lie in the window: -1e-6 < hours < window_hours + 1e-6."""
    return (hours > -EPSILON) & (hours < window_hours + EPSILON)


def read_blocks(events_path: Path, size: int = BLOCK_EVENTS, *, stored: bool = False) -> Iterator[Events]:
    """Read events in blocks of about `size` rows that never cut a stay; with stored_hours if `stored`.

    Raises:
        InputError: the rows are not sorted by stay_id and hours.
    """
    rest = Events(np.empty(0, np.int64), np.empty(0), np.empty(0, np.uint8), np.empty(0, np.float32))
    rest = rest._replace(stored_hours=np.empty(0)) if stored else rest
    columns = list(Events._fields if stored else Events._fields[:-1])
    # without these two options the reader keeps what it has read: memory would grow with the file
    with pq.ParquetFile(events_path, pre_buffer=False, buffer_size=1 << 20) as file:
        for batch in file.iter_batches(batch_size=size, columns=columns, use_threads=False):
            new = pl.DataFrame(batch)  # pyarrow's own way to numpy imports pandas, half a second
            events = Events(*(np.concatenate([getattr(rest, name), new[name]]) for name in columns))
            if not len(events.stay_id):
                continue
            _check_sorted(events, events_path)
            cut = int(np.searchsorted(events.stay_id, events.stay_id[-1]))  # the last stay may go on in the next batch
            rest = events.of(slice(cut, None))
            if cut:
                yield events.of(slice(cut))
        if len(rest.stay_id):
            yield rest


def _check_sorted(events: Events, path: Path) -> None:
    step = np.diff(events.stay_id)
    if ((step < 0) | ((step == 0) & ~(np.diff(events.hours) >= 0))).any():
        raise InputError(
            f"{path}: rows are not in order; rule: sorted by stay_id, hours, variable, stored_hours",
            hint="rebuild it: fusionctl extract --force",
        )


def choose(events: Events, stay_ids: IntArray) -> tuple[IntArray, IntArray, Events]:
    """Keep the events of the wanted stays.

    Args:
        events: a block of n >= 1 events.
        stay_ids: (N,) the stays wanted, ascending.

    Returns:
        Positions in `stay_ids` of the M wanted stays that the block holds; each of their events' position (0 to M - 1)
        among those; and their events.
    """
    first = np.flatnonzero(np.diff(events.stay_id, prepend=events.stay_id[0] - 1))
    counts = np.diff(first, append=len(events.stay_id))
    position = np.searchsorted(stay_ids, events.stay_id[first])
    wanted = np.isin(events.stay_id[first], stay_ids, assume_unique=True)
    sample = np.repeat(np.arange(int(wanted.sum())), counts[wanted])
    return position[wanted], sample, events if wanted.all() else events.of(np.repeat(wanted, counts))


def once_stored(sample: IntArray, events: Events, window_hours: FloatArray) -> tuple[IntArray, Events, tuple[int, int]]:
    """Move each event to the time at which it could be known: when it was charted or stored, whichever is later.

    What a laboratory reports is charted at the time of the sample, hours before anyone can read it.

    Args:
        sample: (n,) position of each event's stay among M, ascending.
        events: n events with stored_hours.
        window_hours: (M,) end of each stay's window.

    Returns:
        `sample` and events of those that are known inside the window, by stay and the time of knowing; of two known
        at once the one that stood later stays later. And two counts of events charted inside the window that are left
        out: those that nothing says when they were stored, and those stored after the window.
    """
    if events.stored_hours is None:
        raise ValueError("events were read without stored_hours")
    window = window_hours[sample]
    known_at = np.maximum(events.hours, events.stored_hours)  # NaN stays NaN, and is inside no window
    charted, entering, never = in_window(events.hours, window), in_window(known_at, window), np.isnan(known_at)
    counts = int((charted & never).sum()), int((charted & ~never & ~entering).sum())
    sample, events = sample[entering], events._replace(hours=known_at).of(entering)
    # One key, the stays' windows laid end to end, is sorted five times as fast as two. It is exact to well under a
    # second, and MIMIC's times are whole seconds.
    begin = np.cumsum(window_hours + 1) - (window_hours + 1)
    order = np.argsort(begin[sample] + events.hours, kind="stable")
    return sample[order], events.of(order), counts
