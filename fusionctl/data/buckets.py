"""Sorting more events than fit in memory: by stay into buckets on disk, then bucket by bucket."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from fusionctl.errors import InputError

# About a million events with the paper's variables: some 100 MB while they are sorted.
STAYS_PER_BUCKET = 1024
# Thirty times what the fullest bucket has: a table that repeats itself, which would fill the memory.
_MOST_EVENTS = 50_000_000
# Events held back before they are appended to the buckets' files.
_HELD = 1 << 19
_TYPES = {pl.Int64: "<i8", pl.Float64: "<f8", pl.UInt8: "u1", pl.Float32: "<f4"}


class Buckets:
    """Events on their way to their stays' buckets, in files that several processes may write side by side.

    Args:
        folder: for the buckets' files; each is removed once it is read.
        stay_ids: all stays, sorted. Bucket i holds the stays from i x STAYS_PER_BUCKET on.
        columns: name and type of each column of the events; a missing number is NaN on disk and null again after.
        writer: name of this process among those that write to the folder.
    """

    def __init__(self, folder: Path, stay_ids: pl.Series, columns: Mapping[str, Any], writer: str = "0") -> None:
        self._folder = folder
        self._columns = dict(columns)
        self._record = np.dtype([(name, _TYPES[kind]) for name, kind in columns.items()])
        self._first = stay_ids.gather_every(STAYS_PER_BUCKET).to_numpy()
        self._writer = writer
        self._held: list[pl.DataFrame] = []

    def add(self, events: pl.DataFrame) -> None:
        """Take events in any order."""
        self._held.append(events)
        if sum(frame.height for frame in self._held) >= _HELD:
            self.flush()

    def drain(self) -> Iterator[pl.DataFrame]:
        """The flushed events of all writers, one bucket after the other, unsorted; a bucket may be empty.

        Raises:
            InputError: a bucket holds many times the events that its stays can have.
        """
        for index in range(len(self._first)):
            paths = sorted(self._folder.glob(f"bucket-{index:05d}-*.tmp"))
            if (events := sum(path.stat().st_size for path in paths) // self._record.itemsize) > _MOST_EVENTS:
                what = f"chartevents and labevents: {events:,} events of {STAYS_PER_BUCKET} stays"
                hint = "the tables repeat themselves: get them again and compare them with SHA256SUMS.txt"
                raise InputError(f"{what}; rule: at most {_MOST_EVENTS:,}", hint=hint)
            records = np.concatenate([np.zeros(0, self._record), *(np.fromfile(path, self._record) for path in paths)])
            for path in paths:
                path.unlink()
            frame = pl.DataFrame({name: np.ascontiguousarray(records[name]) for name in self._columns}, self._columns)
            yield frame.with_columns(pl.col(pl.Float64).fill_nan(None))

    def flush(self) -> None:
        """Write what is held back to the buckets' files."""
        if not self._held:
            return
        events = pl.concat(self._held)
        self._held = []
        bucket = np.searchsorted(self._first, events["stay_id"].to_numpy(), side="right").astype(np.uint16) - 1
        records = np.zeros(events.height, self._record)
        for name, kind in self._columns.items():
            column = events[name]
            records[name] = (column.fill_null(float("nan")) if kind == pl.Float64 else column).to_numpy()
        order = np.argsort(bucket, kind="stable")
        bounds = np.searchsorted(bucket[order], np.arange(len(self._first) + 1))
        for index in range(len(self._first)):
            part = records[order[bounds[index] : bounds[index + 1]]]
            if len(part):
                with (self._folder / f"bucket-{index:05d}-{self._writer}.tmp").open("ab") as file:
                    file.write(part.tobytes())
