"""Reading chartevents and labevents: shares of a table, each by a process of its own, into the buckets.

Inflating a .csv.gz is serial and fast; finding the wanted records in it takes three times as long. So every process
inflates the whole table but looks only at its share of the pieces, which costs less than to hand pieces around.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from fusionctl import parquet
from fusionctl.data import mimic, tables
from fusionctl.data.ahead import ahead
from fusionctl.data.attrition import Attrition
from fusionctl.data.buckets import Buckets
from fusionctl.data.events import clean_chart, clean_lab, columns_of, item_ids
from fusionctl.data.tables import Table
from fusionctl.data.variables import Source
from fusionctl.errors import InputError

# Compressed bytes of a table from which a process of its own pays for its start.
LARGE_BYTES = 16 << 20
# One inflates, one looks for records and cleans them.
THREADS_OF_SHARE = 2
# Each process inflates everything: beyond four, one more shortens a table's reading by less than a twentieth.
MOST_SHARES = 4
_SECONDS = 0.5  # between two looks at the progress
_STOP, _STAYS = "stop.tmp", "stays.tmp"


@dataclass(frozen=True)
class Share:
    """One process's part of a table.

    Attributes:
        table: the table, opened.
        source: what its rows are.
        protocol: `paper` or `legacy`.
        share: (i, n): the i-th, from 0, of every n pieces.
    """

    table: Table
    source: Source
    protocol: str
    share: tuple[int, int]

    @property
    def name(self) -> str:
        """Name among the processes that write to one folder."""
        return f"{self.source}{self.share[0]}"


@dataclass
class Outcome:
    """What came of a share: its counts, or the first fault in it."""

    attrition: Attrition
    fault: list[str] = field(default_factory=list)  # message and hint: an exception would lose the hint on its way


def read_events(
    opened: Sequence[tuple[Table, Source]],
    stays: pl.DataFrame,
    folder: Path,
    *,
    protocol: str,
    jobs: int,
    progress: Callable[[str, int, int | None], None],
) -> list[Attrition]:
    """Clean all tables of events into the buckets of a folder.

    Args:
        opened: the tables and what their rows are.
        stays: the kept stays.
        folder: where the buckets are; `Buckets(...).drain()` reads them.
        protocol: `paper` or `legacy`.
        jobs: processes.
        progress: called with a label, the compressed bytes read and their total.

    Returns:
        The counts of each table.

    Raises:
        InputError: the fault that is nearest to a table's beginning.
    """
    stays.write_parquet(folder / _STAYS)
    sizes = {table.path: table.path.stat().st_size for table, _ in opened}
    large = [path for path, size in sizes.items() if size >= LARGE_BYTES]
    shares = [
        Share(table, source, protocol, (i, n))
        for table, source in opened
        for n in [max(1, min(jobs // THREADS_OF_SHARE, MOST_SHARES)) if table.path in large else 1]
        for i in range(n)
    ]
    total, label = sum(sizes.values()), " and ".join(_name(table) for table, _ in opened)

    def report(positions: dict[Path, int]) -> None:
        progress(label, sum(positions.values()), total)

    if jobs > 1 and (len(large) > 1 or len(shares) > len(opened)):
        outcomes = _side_by_side(shares, folder, jobs, report)
    else:
        outcomes, done = [], dict.fromkeys(sizes, 0)
        for share in shares:

            def on_read(position: int, path: Path = share.table.path) -> None:
                report(done | {path: position})

            outcomes.append(read_share(share, folder, on_read))
            done[share.table.path] = sizes[share.table.path]
    (folder / _STAYS).unlink()
    faults = [outcome.fault for outcome in outcomes if outcome.fault]
    if faults:
        message, hint = min(faults, key=_line)
        raise InputError(message, hint=hint)
    return [_total(table, shares, outcomes) for table, _ in opened]


def read_share(share: Share, folder: Path, on_read: Callable[[int], object] | None = None) -> Outcome:
    """Clean one share of a table into the buckets.

    Args:
        share: which.
        folder: of the buckets, and of the stays.
        on_read: called with the compressed bytes read; without, they are left in a file of the folder.
    """
    stays, attrition = parquet.read(folder / _STAYS), Attrition(_name(share.table), "rows")
    buckets = Buckets(folder, stays["stay_id"], columns_of(share.protocol), writer=share.name)
    clean = {"chart": clean_chart, "lab": clean_lab}[share.source]
    wanted: dict[str, Any] = {"item_column": mimic.ITEM_COLUMN, "items": item_ids(share.source, share.protocol)}
    reader = tables.batches(
        share.table, on_read=on_read or _Position(folder / f"{share.name}.tmp"), share=share.share, **wanted
    )
    try:
        for frame, seen in ahead(reader):
            attrition.before += seen
            attrition.drop("item of no variable", seen - frame.height)
            buckets.add(clean(frame, stays, attrition, share.protocol))
            if (folder / _STOP).exists():
                break
    except InputError as error:
        (folder / _STOP).touch()  # what the others have begun they finish: their part may hold an earlier fault
        return Outcome(attrition, [error.message, error.hint])
    buckets.flush()
    return Outcome(attrition)


class _Position:
    """Leaves the position in a table for the process that shows the progress."""

    def __init__(self, path: Path) -> None:
        self._path, self._last = path, time.monotonic()

    def __call__(self, position: int) -> None:
        now = time.monotonic()
        if now - self._last > _SECONDS:
            self._path.write_text(str(position), encoding="ascii")
            self._last = now


def _side_by_side(
    shares: list[Share], folder: Path, jobs: int, report: Callable[[dict[Path, int]], None]
) -> list[Outcome]:
    import joblib  # a tenth of a second that small tables need not wait for

    def run() -> list[Outcome]:
        # An idle process is kept by joblib for the films; it ends with this one.
        return list(
            joblib.Parallel(n_jobs=min(jobs, len(shares)))(joblib.delayed(read_share)(s, folder) for s in shares)
        )

    with ThreadPoolExecutor(1, "tables") as runner:
        running = runner.submit(run)
        try:
            while not running.done():
                wait([running], timeout=_SECONDS)
                report(_positions(shares, folder))
        except BaseException:
            (folder / _STOP).touch()  # leaving the block waits until every process has seen it
            raise
    for name in (_STOP, *(f"{share.name}.tmp" for share in shares)):
        (folder / name).unlink(missing_ok=True)
    return running.result()


def _positions(shares: list[Share], folder: Path) -> dict[Path, int]:
    """How far each table has been read, by the process that is farthest behind."""
    found: dict[Path, int] = {}
    for share in shares:
        path = folder / f"{share.name}.tmp"
        text = path.read_text(encoding="ascii") if path.exists() else ""
        position = int(text) if text.isdigit() else 0
        found[share.table.path] = min(found.get(share.table.path, position), position)
    return found


def _total(table: Table, shares: list[Share], outcomes: list[Outcome]) -> Attrition:
    parts = [o.attrition for s, o in zip(shares, outcomes, strict=True) if s.table is table]
    total = Attrition(_name(table), "rows")
    for part in parts:
        total.add(part)
    return total


def _name(table: Table) -> str:
    return table.path.name.partition(".")[0]


def _line(fault: list[str]) -> int:
    """Line that a fault's message names."""
    found = re.search(r"\bline (\d+)", fault[0])
    return int(found.group(1)) if found else 0
