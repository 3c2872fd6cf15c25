"""Typed tables from CSV files: columns by name, every value checked, faults named by file, line and column.

Everything is read as text first, so that a value which is not of its column's type is found with its line instead of
failing inside a parser.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fusionctl.data.ahead import ahead
from fusionctl.data.fields import MEANING, Kind, convert, shown
from fusionctl.data.lines import chunks, read_header
from fusionctl.data.records import AGAIN, Picked, pick
from fusionctl.errors import InputError

# Text parsed at a time. Small against memory, large against the cost of starting a parser.
_BATCH_BYTES = 8 << 20
_BATCH_PIECES = 128
_LONGEST_NAME = 40  # of a column, in a message
# Of tables that are read whole. The longest, admissions of v3.1, has 546,028.
_MOST_ROWS = 3_000_000


@dataclass(frozen=True)
class Column:
    """A column that is read.

    Attributes:
        name: its name in the result; matched with the file's header whatever the case.
        kind: what its text must be. `id` (a person's, a visit's) and `whole` become Int64, `number` and `label` (a
            finding's: 1, 0 or -1) Float64, `time` and `date` Datetime in microseconds.
        required: an empty field is an error, not a missing value.
        aliases: names it has in other versions of the data.
    """

    name: str
    kind: Kind
    required: bool = False
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A CSV file whose header has been checked."""

    path: Path
    columns: tuple[Column, ...]
    positions: tuple[int, ...]
    width: int


def open_table(path: Path, columns: Sequence[Column]) -> Table:
    """Find the columns in a file's header.

    Raises:
        InputError: naming the column that is missing or there twice, and the nearest name that is there.
    """
    header = [name.lower() for name in read_header(path)]
    positions = []
    for column in columns:
        names = {column.name.lower(), *(alias.lower() for alias in column.aliases)}
        found = [i for i, name in enumerate(header) if name in names]
        if not found:
            raise _missing(path, column, columns, header)
        if len(found) > 1:
            raise InputError(f"{path}: line 1: column {column.name!r} is there {len(found)} times", hint=AGAIN)
        positions.append(found[0])
    return Table(path, tuple(columns), tuple(positions), len(header))


def _missing(path: Path, column: Column, columns: Sequence[Column], header: Sequence[str]) -> InputError:
    """The error for a column that is not there. A file without a header begins with a patient: not shown."""
    wanted = {name.lower() for c in columns for name in (c.name, *c.aliases)}
    what = f"{path}: line 1: column {column.name!r} is missing"
    if not wanted & set(header):
        return InputError(what, hint="line 1 must name the columns as released, separated by commas")
    names = [name for name in header if len(name) <= _LONGEST_NAME and not re.search(r"\d{4}", name)]
    near = difflib.get_close_matches(column.name.lower(), [name for name in names if name not in wanted], n=2)
    nearest = f"; like it: {', '.join(map(ascii, near))}" if near else ""
    shown = ", ".join(ascii(name)[1:-1] for name in names)[:400]
    return InputError(f"{what}{nearest}", hint=f"give the table its columns as released; it has: {shown}")


def batches(
    table: Table,
    *,
    item_column: str | None = None,
    items: Iterable[int] = (),
    on_read: Callable[[int], object] = lambda position: None,
    share: tuple[int, int] = (0, 1),
) -> Iterator[tuple[pl.DataFrame, int]]:
    """Read a table in order, in frames of bounded size.

    The file is inflated by a thread of its own, a few pieces ahead.

    Args:
        table: from `open_table`.
        item_column: read only the records whose number in this column is one of `items`; None reads all.
        items: wanted numbers.
        on_read: called with the number of bytes of the file read so far.
        share: (i, n): only the i-th, from 0, of every n pieces of the file.

    Yields:
        The table's columns and `line` (the record's line in the file), and how many records were looked at for it.

    Raises:
        InputError: naming file, line, column, rule and value of the first fault.
    """
    column = _position(table, item_column) if item_column else 0
    wanted = _flags(items) if item_column else None
    waiting: list[Picked] = []
    for chunk in ahead(chunks(table.path, on_read, share)):
        waiting.append(pick(chunk, table.width, wanted, column, item_column or ""))
        if sum(len(p.text) for p in waiting) >= _BATCH_BYTES or len(waiting) >= _BATCH_PIECES:
            yield _frame(table, waiting), sum(p.seen for p in waiting)
            waiting = []
    yield _frame(table, waiting), sum(p.seen for p in waiting)


def read(table: Table) -> pl.DataFrame:
    """Read a whole table that has at least one row.

    Raises:
        InputError: as `batches`; or the table has no rows, or so many that it is no table of this kind.
    """
    frames, rows = [], 0
    for frame, seen in batches(table):
        frames.append(frame)
        rows += seen
        if rows > _MOST_ROWS:
            what = (
                f"{table.path}: line {frame['line'][-1]}: more than {_MOST_ROWS:,} rows; rule: a table of MIMIC's size"
            )
            raise InputError(what, hint=AGAIN)
    if not rows:
        raise no_rows(table)
    return pl.concat(frames)


def no_rows(table: Table) -> InputError:
    """The error for a table that has a header and nothing else."""
    return InputError(f"{table.path}: the table has a header but no rows", hint=AGAIN)


def require_unique(frame: pl.DataFrame, key: Sequence[str], path: Path) -> None:
    """Check that a key identifies rows.

    Raises:
        InputError: naming the line of the first row whose key occurred before.
    """
    repeated = frame.filter(~pl.struct(key).is_first_distinct())
    if not repeated.is_empty():
        line = int(repeated["line"][0])
        what = f"{path}: line {line}: {' + '.join(key)} must be unique; this row repeats an earlier one"
        raise InputError(what, hint=f"{repeated.height} rows repeat a key: remove them, or get the file again")


def _position(table: Table, name: str) -> int:
    return dict(zip((c.name for c in table.columns), table.positions, strict=True))[name]


def _flags(items: Iterable[int]) -> NDArray[np.bool_]:
    ids = np.fromiter(items, np.int64)
    flags = np.zeros(ids.max(initial=0) + 1, np.bool_)
    flags[ids] = True
    return flags


def _frame(table: Table, parts: Sequence[Picked]) -> pl.DataFrame:
    text = b"".join(p.text for p in parts)
    lines = np.concatenate([p.lines for p in parts]) if parts else np.zeros(0, np.int64)
    # An empty text is no CSV to a parser.
    frame = _texts(table, text, lines) if text else pl.DataFrame(schema={c.name: pl.String for c in table.columns})
    frame = frame.with_columns(pl.Series("line", lines, pl.Int64))
    return frame.select(*(_typed(table, frame, column) for column in table.columns), "line")


def _texts(table: Table, text: bytes, lines: NDArray[np.int64]) -> pl.DataFrame:
    names = [str(i) for i in range(table.width)]
    wanted = [pl.col(str(i)).alias(c.name) for c, i in zip(table.columns, table.positions, strict=True)]
    try:
        frame = pl.scan_csv(text, has_header=False, schema=dict.fromkeys(names, pl.String)).select(wanted).collect()
        faulty = frame.height != len(lines)
    except pl.exceptions.PolarsError:
        faulty = True
    if faulty:  # `pick` has looked at every separator and quote, so this is not known to happen
        what = f"{table.path}: between lines {lines[0]} and {lines[-1]}: not as many records as were counted"
        raise InputError(what, hint=AGAIN)
    return frame


def _typed(table: Table, frame: pl.DataFrame, column: Column) -> pl.Series:
    """One column of a frame of texts, converted.

    Raises:
        InputError: naming the first value that is not of the column's kind, or is missing although required.
    """
    text = frame[column.name]
    typed = convert(text, column.kind)
    absent = text.is_null() | (text == "")
    bad = (typed.is_null() | absent) if column.required else (typed.is_null() & ~absent)
    if bad.any():
        row = int(bad.arg_max() or 0)
        # A damaged id may still be somebody's id: it is not repeated.
        got = "nothing" if not text[row] else "other text" if column.kind == "id" else shown(text[row])
        meaning = MEANING.get(column.kind, "a text")
        what = f"{table.path}: line {frame['line'][row]}: column {column.name!r} must be {meaning}; got {got}"
        raise InputError(what, hint="correct the line, or get the file again and compare it with SHA256SUMS.txt")
    return typed
