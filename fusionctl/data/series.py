"""Events to a regular grid: binning and imputation.

The grid of a stay starts at intime and has `timestep` hours per row. An event at t hours belongs to row
int(t / timestep - 1e-6), so that a row holds the half-open interval (start, end]; the last value of a row wins. A gap
takes the last value seen; before the first there is `normal`. After Harutyunyan et al. 2019 (Discretizer) and MedFuse,
done for many stays at once: no Python loop touches a stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.parquet as pq

from fusionctl.data.npy import NpyAppender
from fusionctl.errors import InputError

# The benchmark's tolerance, in hours at both ends of the window and in steps when binning.
EPSILON = 1e-6
# Events per block: about 90 stays of 48 h. Small enough for the block's arrays to stay in the processor's cache, which
# doubles the rate.
BLOCK_EVENTS = 1 << 16

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


class Events(NamedTuple):
    """Events sorted by stay, hours, then stored_hours: n rows, as in `events.parquet`."""

    stay_id: IntArray
    hours: FloatArray
    variable: npt.NDArray[np.uint8]
    value: npt.NDArray[np.float32]

    def of(self, rows: slice | BoolArray) -> Events:
        """The events at `rows`, a slice or a mask."""
        return Events._make(column[rows] for column in self)


@dataclass(frozen=True)
class Grid:
    """What became of each of N stays.

    Attributes:
        first_row: (N,) first row in values.npy.
        n_rows: (N,) number of rows; 0 for a stay without an event in its window.
        last_event_hours: (N,) time of the last event that entered the grid, NaN where there is none.
    """

    first_row: IntArray
    n_rows: IntArray
    last_event_hours: FloatArray


def n_bins(window_hours: npt.ArrayLike, timestep: float) -> IntArray:
    """Rows of a grid over `window_hours`: int(hours / timestep + 1 - 1e-6), at least one."""
    bins = (np.asarray(window_hours, dtype=np.float64) / timestep + 1 - EPSILON).astype(np.int64)
    return np.maximum(bins, 1)


def grid(
    sample: IntArray,
    events: Events,
    window_hours: FloatArray,
    *,
    timestep: float,
    normal: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.float32], BoolArray, FloatArray]:
    """Put the events of N stays on their grids and fill the gaps.

    Args:
        sample: (n,) position of each event's stay among the N, ascending; each stay has an event.
        events: n events.
        window_hours: (N,) end of each stay's window; events at -1e-6 < t < end + 1e-6 enter.
        timestep: hours per row.
        normal: (V,) value of a variable that was not seen yet.

    Returns:
        values (R, V) and observed (R, V), the stays' rows one after another; and the time of the last event that
        entered (N,), NaN where none did.
    """
    n_variables, bins = len(normal), n_bins(window_hours, timestep)
    first_row, n_rows = np.cumsum(bins) - bins, int(bins.sum())
    inside = (events.hours > -EPSILON) & (events.hours < window_hours[sample] + EPSILON)
    row = np.minimum((events.hours / timestep - EPSILON).astype(np.int64), bins[sample] - 1) + first_row[sample]
    cell = row * n_variables + events.variable
    cell[~inside] = n_rows * n_variables  # one spare cell takes what does not enter
    # Events are numbered in order of time. numpy's assignment leaves the last of several numbers for one cell, and a
    # running maximum down the rows is the forward fill.
    cells = np.full(n_rows * n_variables + 1, -1, dtype=np.int32)
    cells[cell] = np.arange(len(cell), dtype=np.int32)
    number = cells[:-1].reshape(n_rows, n_variables)
    observed = number >= 0
    np.maximum.accumulate(number, axis=0, out=number)
    # The running maximum crosses from stay to stay: numbers below a stay's first event are of the stay before.
    first_event = np.searchsorted(sample, np.arange(len(bins))).astype(np.int32)
    seen = number >= np.repeat(first_event, bins)[:, None]
    values = np.where(seen, np.take(events.value, number, mode="clip"), normal)
    last = np.full(len(bins), np.nan)
    last[sample[inside]] = events.hours[inside]
    return values, observed, last


def write_grid(
    events_path: Path,
    folder: Path,
    stay_ids: IntArray,
    window_hours: FloatArray,
    *,
    timestep: float,
    normal: npt.NDArray[np.float32],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Grid:
    """Write values.npy and observed.npy for the stays that have an event in their window, in order of stay_id.

    Memory is bounded: a block of events and its rows at a time.

    Args:
        events_path: `events.parquet` of the extract artifact.
        folder: where to write.
        stay_ids: (N,) the stays wanted, ascending.
        window_hours: (N,) end of each stay's window.
        timestep: hours per row.
        normal: (V,) value of a variable that was not seen yet.
        progress: called with the events read so far and their total number.

    Raises:
        InputError: the events are not sorted.
    """
    found = Grid(np.zeros(len(stay_ids), np.int64), np.zeros(len(stay_ids), np.int64), np.full(len(stay_ids), np.nan))
    shape, total, done = (len(normal),), pq.ParquetFile(events_path).metadata.num_rows, 0
    with (
        NpyAppender(folder / "values.npy", shape, np.float32) as values_file,
        NpyAppender(folder / "observed.npy", shape, np.bool_) as observed_file,
    ):
        for events in read_blocks(events_path):
            done += len(events.stay_id)
            stays, sample, events = _wanted(events, stay_ids)
            if len(stays):
                window = window_hours[stays]
                values, observed, last = grid(sample, events, window, timestep=timestep, normal=normal)
                filled, bins = ~np.isnan(last), n_bins(window, timestep)
                n_rows = np.where(filled, bins, 0)
                found.first_row[stays] = values_file.rows + np.cumsum(n_rows) - n_rows
                found.n_rows[stays], found.last_event_hours[stays] = n_rows, last
                rows = np.repeat(filled, bins)
                values_file.append(values if rows.all() else values[rows])
                observed_file.append(observed if rows.all() else observed[rows])
            progress(done, total)
    return found


def read_blocks(events_path: Path, size: int = BLOCK_EVENTS) -> Iterator[Events]:
    """Read events in blocks of about `size` rows that never cut a stay.

    Raises:
        InputError: the rows are not sorted by stay_id and hours.
    """
    # without these two options the reader keeps what it has read: memory would grow with the file
    with pq.ParquetFile(events_path, pre_buffer=False, buffer_size=1 << 20) as file:
        rest = Events(np.empty(0, np.int64), np.empty(0), np.empty(0, np.uint8), np.empty(0, np.float32))
        for batch in file.iter_batches(batch_size=size, columns=list(Events._fields), use_threads=False):
            new = pl.DataFrame(batch)  # pyarrow's own way to numpy imports pandas, half a second
            events = Events._make(np.concatenate([getattr(rest, name), new[name]]) for name in Events._fields)
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


def _wanted(events: Events, stay_ids: IntArray) -> tuple[IntArray, IntArray, Events]:
    """Positions in `stay_ids` of the block's wanted stays, each event's position among those, and their events."""
    first = np.flatnonzero(np.diff(events.stay_id, prepend=events.stay_id[0] - 1))
    counts = np.diff(first, append=len(events.stay_id))
    position = np.searchsorted(stay_ids, events.stay_id[first])
    wanted = np.isin(events.stay_id[first], stay_ids, assume_unique=True)
    sample = np.repeat(np.arange(int(wanted.sum())), counts[wanted])
    return position[wanted], sample, events if wanted.all() else events.of(np.repeat(wanted, counts))
