"""Events to a regular grid: binning and imputation.

The grid of a stay starts at intime and has `timestep` hours per row. An event at t hours belongs to row
int(t / timestep - 1e-6), so that a row holds the half-open interval (start, end]; the last value of a row wins. A gap
takes the last value seen, before the first a filling value; or the filling value everywhere (`filling`). After
Harutyunyan et al. 2019 (Discretizer) and MedFuse, done for many stays at once: no Python loop touches a stay.

The time of an event is when it was charted, or, to be strict, when it could be known: not before it was stored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from fusionctl.data.ahead import ahead
from fusionctl.data.event_blocks import EPSILON, Events, choose, in_window, once_stored, read_blocks
from fusionctl.data.npy import NpyAppender

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Floats32 = npt.NDArray[np.float32]
Impute = Literal["previous", "normal", "zero"]
Availability = Literal["charttime", "storetime"]


@dataclass(frozen=True)
class Grid:
    """What became of each of N stays.

    Attributes:
        first_row: (N,) first row in values.npy.
        n_rows: (N,) number of rows; 0 for a stay without an event in its window.
        last_event_hours: (N,) time of the last event that entered the grid, NaN where there is none.
        never_stored: events of these stays, charted in the window, that were left out because nothing says when they
            were stored; 0 where the time of charting counts.
        late: events of these stays, charted in the window, that were stored only after it; likewise.
    """

    first_row: IntArray
    n_rows: IntArray
    last_event_hours: FloatArray
    never_stored: int = 0
    late: int = 0


def n_bins(window_hours: npt.ArrayLike, timestep: float) -> IntArray:
    """Rows of a grid over `window_hours`: int(hours / timestep + 1 - 1e-6), at least one.

    The tolerance is the benchmark's and here, as in the row of an event, one of steps.
    """
    bins = (np.asarray(window_hours, dtype=np.float64) / timestep + 1 - EPSILON).astype(np.int64)
    return np.maximum(bins, 1)


def filling(impute: Impute, normal: npt.ArrayLike, categorical: npt.ArrayLike) -> tuple[Floats32, bool]:
    """What `grid` puts into cells without a measurement, for one of the imputation strategies.

    - "previous": the last value seen; before the first, the normal value.
    - "normal": always the normal value.
    - "zero": 0 in physical units, before standardisation, as in the benchmark; of a categorical variable no category.

    The benchmark's fourth strategy, "next", is left out on purpose: it fills a gap with a value measured later, so
    an input would depend on what comes after it.

    Args:
        impute: name of the strategy.
        normal: (V,) normal values; of a categorical variable the index of its category.
        categorical: (V,) bool, which variables are categorical.

    Returns:
        fill (V,) float32, where -1 in a categorical column stands for no category; and carry, whether a value seen
        goes before `fill`.
    """
    if impute == "zero":
        return np.where(np.asarray(categorical, dtype=bool), -1.0, 0.0).astype(np.float32), False
    return np.asarray(normal, dtype=np.float32), impute == "previous"


def grid(
    sample: IntArray,
    events: Events,
    window_hours: FloatArray,
    *,
    timestep: float,
    fill: Floats32,
    carry: bool = True,
) -> tuple[Floats32, BoolArray, FloatArray]:
    """Put the events of N stays on their grids and fill the gaps.

    Args:
        sample: (n,) position of each event's stay among the N, ascending.
        events: n >= 1 events, those of a stay in order of `hours`.
        window_hours: (N,) end of each stay's window; events at -1e-6 < hours < end + 1e-6 enter.
        timestep: hours per row.
        fill: (V,) value of a cell that nothing was measured for; see `filling`.
        carry: whether a value goes on into the rows after it, so that `fill` stands only before the first.

    Returns:
        values (R, V) and observed (R, V), the stays' rows one after another; and the time of the last event that
        entered (N,), NaN where none did.
    """
    n_variables, bins = len(fill), n_bins(window_hours, timestep)
    first_row, n_rows = np.cumsum(bins) - bins, int(bins.sum())
    inside = in_window(events.hours, window_hours[sample])
    row = np.minimum((events.hours / timestep - EPSILON).astype(np.int64), bins[sample] - 1) + first_row[sample]
    cell = row * n_variables + events.variable
    cell[~inside] = n_rows * n_variables  # one spare cell takes what does not enter
    # Events are numbered in order of time. numpy's assignment leaves the last of several numbers for one cell, and a
    # running maximum down the rows is the forward fill.
    cells = np.full(n_rows * n_variables + 1, -1, dtype=np.int32)
    cells[cell] = np.arange(len(cell), dtype=np.int32)
    number = cells[:-1].reshape(n_rows, n_variables)
    known = observed = number >= 0
    if carry:
        np.maximum.accumulate(number, axis=0, out=number)
        # The running maximum crosses from stay to stay: numbers below a stay's first event are of the stay before.
        first_event = np.searchsorted(sample, np.arange(len(bins))).astype(np.int32)
        known = number >= np.repeat(first_event, bins)[:, None]
    values = np.where(known, np.take(events.value, number, mode="clip"), fill)
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
    fill: Floats32,
    carry: bool = True,
    available_at: Availability = "charttime",
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
        fill, carry: what fills a cell without a measurement; see `filling`.
        available_at: "charttime", or "storetime": an event counts as of the time it was charted or stored, whichever
            is later, in the window rule, for its row and for which value is the last.
        progress: called with the events read so far and their total number.

    Raises:
        InputError: the events are not sorted.
    """
    found = Grid(np.zeros(len(stay_ids), np.int64), np.zeros(len(stay_ids), np.int64), np.full(len(stay_ids), np.nan))
    shape, total, done = (len(fill),), pq.ParquetFile(events_path).metadata.num_rows, 0
    left_out = np.zeros(2, dtype=np.int64)
    with (
        NpyAppender(folder / "values.npy", shape, np.float32) as values_file,
        NpyAppender(folder / "observed.npy", shape, np.bool_) as observed_file,
    ):
        for events in ahead(read_blocks(events_path, stored=available_at == "storetime")):
            done += len(events.stay_id)
            stays, sample, events = choose(events, stay_ids)
            window = window_hours[stays]
            if events.stored_hours is not None:
                sample, events, block_left_out = once_stored(sample, events, window)
                left_out += block_left_out
            if len(sample):
                values, observed, last = grid(sample, events, window, timestep=timestep, fill=fill, carry=carry)
                filled, bins = ~np.isnan(last), n_bins(window, timestep)
                n_rows = np.where(filled, bins, 0)
                found.first_row[stays] = values_file.rows + np.cumsum(n_rows) - n_rows
                found.n_rows[stays], found.last_event_hours[stays] = n_rows, last
                rows = np.repeat(filled, bins)
                values_file.append(values if rows.all() else values[rows])
                observed_file.append(observed if rows.all() else observed[rows])
            progress(done, total)
    return replace(found, never_stored=int(left_out[0]), late=int(left_out[1]))
