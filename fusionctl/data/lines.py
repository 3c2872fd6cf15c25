"""CSV files, plain or gzip-compressed, read piece by piece: one pass, bounded memory, every line's number known."""

from __future__ import annotations

import csv
import gzip
import io
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fusionctl.data.records import AGAIN, NEWLINE, QUOTE, Chunk, count_byte
from fusionctl.errors import InputError

_PIECE = 1 << 19  # bytes inflated at a time: the separators of one piece stay in the processor's cache
_LONGEST_RECORD = 1 << 24
_LONGEST_HEADER = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"
_Errors = tuple[type[Exception], ...]


def _inflater() -> tuple[Any, _Errors]:
    """The fastest gzip reader there is (python-isal where it is installed), and its errors on damaged data."""
    damaged: _Errors = (EOFError, OSError, zlib.error)
    try:
        from isal import igzip, isal_zlib
    except ImportError:
        return gzip, damaged
    isal_error: Any = isal_zlib.error
    return igzip, (*damaged, isal_error)


def read_header(path: Path) -> list[str]:
    """Column names of a file as they stand in it, without surrounding blanks.

    Raises:
        InputError: the file is missing, unreadable, empty, not gzip although named so, or its header is not UTF-8, is
            longer than a megabyte or no CSV.
    """
    with _opened(path) as (file, _, damaged):
        first = _next_piece(path, file, damaged, 1, _PIECE)
        while (
            b"\n" not in first
            and len(first) <= _LONGEST_HEADER
            and (more := _next_piece(path, file, damaged, 1, _PIECE))
        ):
            first += more
    if not first.strip():
        raise InputError(f"{path}: the file is empty; expected a header and rows", hint=AGAIN)
    line = first.partition(b"\n")[0].rstrip(b"\r")
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        what = f"{path}: line 1: the header is not UTF-8 text (UTF-16, or not a CSV file?)"
        raise InputError(what, hint="save the table as UTF-8, or get it again")
    if len(line) > _LONGEST_HEADER or "\r" in text:
        what = "carriage returns alone end its lines" if "\r" in text else "the header has more than a megabyte"
        raise InputError(f"{path}: line 1: {what}; rule: a header and rows, a line each", hint=AGAIN)
    try:
        return [name.strip() for name in next(csv.reader([text]), [])]
    except csv.Error as error:
        raise InputError(f"{path}: line 1: the header is no CSV ({error})", hint=AGAIN) from error


def chunks(
    path: Path, on_read: Callable[[int], object] = lambda position: None, share: tuple[int, int] = (0, 1)
) -> Iterator[Chunk]:
    """The records after the header, about half a megabyte at a time. Empty lines at the end are ignored.

    Args:
        path: a `.csv` or `.csv.gz` file.
        on_read: called with the number of bytes read from the file so far, before each chunk.
        share: (i, n): of every n chunks only the i-th, from 0.

    Raises:
        InputError: the file cannot be read, its compressed data are damaged or cut short, a quote is never closed, or
            there is no end of a record in 16 MiB.
    """
    line, rest, header, number = 1, b"", True, 0
    with _opened(path) as (file, raw, damaged):
        while True:
            # After a long text without an end as much again, so that it is not searched more often than it doubles.
            more = min(len(rest), _LONGEST_RECORD - len(rest))
            piece = _next_piece(path, file, damaged, line, max(_PIECE, more))
            on_read(raw.tell())
            end = piece.rfind(b"\n") + 1
            unusual = header or b'"' in rest or b'"' in piece or piece.endswith((b"\n\n", b"\n\r\n"), 0, end)
            if end > 2 and not unusual:
                # The usual piece: every newline ends a record, so only the chunks of the share are put together.
                if number % share[1] == share[0]:
                    yield Chunk(path, b"".join((rest, memoryview(piece)[:end])), line)
                number += 1
                line += count_byte(piece, NEWLINE, end)
                rest = piece[end:]
                continue
            text = rest + piece
            if not piece and (text := text.rstrip(b"\r\n")):
                text += b"\n"
            cut = _end_of_last_record(text) if piece else len(text)
            start = text.find(b"\n") + 1 if header and cut else 0
            if cut > start:
                if number % share[1] == share[0]:
                    yield Chunk(path, text[start:cut], line + bool(start))
                number += 1
            elif len(text) > _LONGEST_RECORD:
                raise _endless(path, text, line)
            header = header and not cut
            line += count_byte(text, NEWLINE, cut)
            rest = text[cut:]
            if not piece:
                return


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, io.BufferedReader, _Errors]]:
    """The inflated stream, the raw file below it, and the exceptions that mean damaged data."""
    reader, damaged = _inflater()
    try:
        kind = path.stat().st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):  # reading a pipe could wait for ever
            raise InputError(f"{path}: not a file but a pipe or a device", hint="give the folder its file again")
        raw = path.open("rb")
    except OSError as error:
        hint = "check that it is a file and that you may read it (ls -l)"
        raise InputError(f"{path}: {error.strerror}", hint=hint) from error
    with raw:
        if path.suffix != ".gz":
            yield raw, raw, damaged
            return
        start = raw.peek(2)[:2]
        if start and start != _GZIP_MAGIC:
            what = f"{path}: the file is named .gz but is not gzip-compressed"
            raise InputError(what, hint="rename it to .csv if it is text, or get it again")
        with reader.open(raw, "rb") as file:
            yield file, raw, damaged


def _next_piece(path: Path, file: Any, damaged: _Errors, line: int, size: int) -> bytes:
    try:
        return bytes(file.read(size))
    except damaged as error:
        what = (
            "ends in the middle of its compressed data" if isinstance(error, EOFError) else f"cannot be read ({error})"
        )
        raise InputError(f"{path}: the file {what}, somewhere after line {line}", hint=AGAIN) from error


def _end_of_last_record(text: bytes) -> int:
    """Position after the last newline that is not inside quotes, before empty lines; 0 if there is none."""
    end = text.rfind(b"\n") + 1
    if b'"' in text and count_byte(text, QUOTE, end) % 2:
        data = np.frombuffer(text, np.uint8)[:end]
        newlines = np.flatnonzero(data == NEWLINE)
        outside = np.searchsorted(np.flatnonzero(data == QUOTE), newlines) % 2 == 0
        end = int(newlines[outside][-1]) + 1 if outside.any() else 0
    if end <= 2 or text.endswith((b"\n\n", b"\n\r\n"), 0, end):
        written = len(text[:end].rstrip(b"\r\n"))
        end = text.find(b"\n", written) + 1 if written else 0
    return end


def _endless(path: Path, text: bytes, line: int) -> InputError:
    """What is wrong with a text that holds no whole record although it is longer than any."""
    if not text.strip(b"\r\n"):
        return InputError(f"{path}: line {line} is empty", hint=AGAIN)
    if b'"' in text:
        return InputError(f"{path}: line {line}: a quote opens here and is never closed", hint=AGAIN)
    return InputError(f"{path}: line {line} is longer than {_LONGEST_RECORD >> 20} MiB", hint=AGAIN)
