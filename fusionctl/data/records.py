"""Records of CSV text, checked and picked with numpy before anything is parsed.

CSV parsers accept short and long records silently and know no line numbers. Here the separators of a chunk of text are
found first (by `_scan.c` where it could be compiled, else with numpy). That proves that every record has as many
fields as the header, gives each its line, and lets the few records of wanted items be picked out, so that only they are
parsed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusionctl.data.fields import shown
from fusionctl.errors import InputError

try:
    from fusionctl.data import _scan
except ImportError:  # there was no C compiler at installation
    _scan = None  # type: ignore[assignment]

COMMA, NEWLINE, QUOTE, RETURN = b',\n"\r'
_WORD = 8  # bytes read at once: the digits of an item id, at most
AGAIN = "the file is damaged or was edited: get it again and compare it with SHA256SUMS.txt"


@dataclass(frozen=True)
class Chunk:
    """Whole records of a file, each with its newline; `line` is the number of the first one's line, from 1."""

    path: Path
    text: bytes
    line: int

    @cached_property
    def quoted(self) -> bool:
        """Whether there is any quote: without one, every comma and every newline separates."""
        return b'"' in self.text

    def lines_of(self, starts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Line number of each record, given where each of the chunk's records starts."""
        if not self.quoted:
            return np.arange(self.line, self.line + len(starts))
        newlines = np.flatnonzero(np.frombuffer(self.text, np.uint8) == NEWLINE)
        return np.searchsorted(newlines, starts) + self.line


@dataclass(frozen=True)
class Picked:
    """Records picked from a chunk: their text, the line of each, and how many records the chunk has."""

    text: bytes
    lines: NDArray[np.int64]
    seen: int


def count_byte(text: bytes, byte: int, end: int | None = None) -> int:
    """How often a byte occurs before `end`; several times faster than bytes.count where that is often."""
    return int(np.count_nonzero(np.frombuffer(text, np.uint8)[:end] == byte))


def pick(chunk: Chunk, n_fields: int, wanted: NDArray[np.bool_] | None, column: int = 0, name: str = "") -> Picked:
    """The records whose whole number in `column` is wanted; all of them if `wanted` is None.

    Args:
        chunk: whole records.
        n_fields: fields of each record.
        wanted: by number, whether it is wanted; numbers beyond its end are not, nor is 0.
        column, name: position and name of the field to look at.

    Raises:
        InputError: naming the first line with another number of fields, a quote that does not open or close where a
            field does, something else than a whole number in `column`, or, among the picked records, a NUL byte or
            text that is not UTF-8.
    """
    if wanted is not None and _scan is not None:
        found = _scan.pick(chunk.text, n_fields, column, wanted)
        if found is not None:
            text, offsets, seen = found
            picked = Picked(text, np.frombuffer(offsets, np.int64) + chunk.line, seen)
            _check_text(chunk.path, picked)
            return picked
    # Without the compiled loop, and where it found a fault: this way can name it.
    ends = field_ends(chunk, n_fields)
    after = ends[:, -1] + 1
    starts = np.concatenate((np.zeros(1, np.int64), after[:-1]))
    lines = chunk.lines_of(starts)
    if wanted is None:
        picked = Picked(chunk.text, lines, len(ends))
    else:
        numbers = _whole_numbers(chunk, ends[:, column - 1] + 1 if column else starts, ends[:, column].copy(), name)
        hits = wanted[np.where(numbers < len(wanted), numbers, 0)]
        # Neighbouring records are copied as one piece: where a run of wanted records begins and ends.
        bounded = np.zeros(len(hits) + 2, np.bool_)
        bounded[1:-1] = hits
        edges = np.flatnonzero(bounded[1:] != bounded[:-1])
        runs = zip(starts[edges[::2]].tolist(), after[edges[1::2] - 1].tolist(), strict=True)
        view = memoryview(chunk.text)
        picked = Picked(b"".join([view[a:b] for a, b in runs]), lines[hits], len(ends))
    _check_text(chunk.path, picked)
    return picked


def field_ends(chunk: Chunk, n_fields: int) -> NDArray[np.int64]:
    """Position of the separator that ends each field, (records, n_fields).

    Raises:
        InputError: naming the first line with another number of fields, or with a quote that does not open or close
            where a field does.
    """
    data = np.frombuffer(chunk.text, np.uint8)
    newlines = data == NEWLINE
    n_records = np.count_nonzero(newlines)
    special = data == COMMA
    special |= newlines
    if chunk.quoted:
        special |= data == QUOTE
    ends = np.flatnonzero(special)
    if chunk.quoted:
        is_quote = data[ends] == QUOTE
        ends = ends[~is_quote & (np.cumsum(is_quote, dtype=np.int32) & 1 == 0)]
        n_records = np.count_nonzero(newlines[ends])
    # As many separators as fields, and each record's last one a newline: then no record has more fields or fewer.
    whole = len(ends) == n_fields * n_records and newlines[ends[n_fields - 1 :: n_fields]].all()
    # A quote that opens where a record begins and is never closed would hide all that follows.
    end = int(ends[-1]) + 1 if len(ends) else 0
    if not whole or end != len(data) or (chunk.quoted and _stray_quote(data) is not None):
        raise first_fault(chunk, n_fields)
    return ends.reshape(-1, n_fields)


def _whole_numbers(chunk: Chunk, start: NDArray[np.int64], end: NDArray[np.int64], name: str) -> NDArray[np.int32]:
    """The numbers between byte positions; an empty field is 0."""
    data = np.frombuffer(chunk.text, np.uint8)
    if chunk.quoted:
        closed = (data[end - 1] == QUOTE) & (end - start >= 2)
        start, end = start + closed, end - closed
    widths = end - start
    invalid = widths > _WORD
    # Eight bytes at once, moved up so that what is not of the field falls out and leading zeros come in.
    text = chunk.text if int(start.max(initial=0)) + _WORD <= len(chunk.text) else chunk.text + bytes(_WORD)
    shift = np.uint64(8) * (_WORD - np.minimum(np.maximum(widths, 1), _WORD)).astype(np.uint64)
    words = np.ndarray((len(text) - _WORD + 1,), "<u8", text, 0, (1,))[start].astype(np.uint64, copy=False)
    digits = (words << shift) - (np.uint64(0x3030303030303030) << shift)
    invalid |= (digits | (digits + np.uint64(0x7676767676767676))) & np.uint64(0x8080808080808080) != 0
    for factor, step, mask in ((10, 8, 0x00FF00FF00FF00FF), (100, 16, 0x0000FFFF0000FFFF), (10_000, 32, 0xFFFFFFFF)):
        digits = (digits * np.uint64(factor) + (digits >> np.uint64(step))) & np.uint64(mask)
    number: NDArray[np.int32] = digits.astype(np.int32)
    empty = widths <= 0
    number[empty], invalid[empty] = 0, False
    if invalid.any():
        row = int(np.argmax(invalid))
        line = chunk.line + chunk.text.count(b"\n", 0, start[row])
        got = shown(chunk.text[start[row] : end[row]].decode(errors="replace"))
        what = f"{chunk.path}: line {line}: column {name!r} must be a whole number; got {got}"
        raise InputError(what, hint=AGAIN)
    return number


def _check_text(path: Path, picked: Picked) -> None:
    text = picked.text
    if text.isascii() and b"\0" not in text:
        return
    if (
        nul := text.find(b"\0")
    ) >= 0:  # a copy that was cut, or a disk's lost block: no parser may guess what stood there
        raise InputError(f"{path}: line {_line_at(picked, nul)}: a NUL byte", hint=AGAIN)
    try:
        text.decode()
    except UnicodeDecodeError as error:
        what = f"{path}: line {_line_at(picked, error.start)}: not UTF-8 text (byte {text[error.start]:#04x})"
        raise InputError(what, hint="convert it: iconv -f latin1 -t utf-8, or get the file again") from error


def _line_at(picked: Picked, position: int) -> int:
    """Line on which the record begins that holds a position of the picked text."""
    outside_quotes = picked.text[:position].split(b'"')[::2]
    return int(picked.lines[sum(part.count(b"\n") for part in outside_quotes)])


def first_fault(chunk: Chunk, n_fields: int) -> InputError:
    """What is wrong with the first bad record of a chunk: its number of fields, or a quote.

    The chunk has a fault.
    """
    data = np.frombuffer(chunk.text, np.uint8)
    stray = _stray_quote(data)
    before_stray = chunk.text if stray is None else chunk.text[:stray]
    open_quote, first, fields = False, chunk.line, 1
    for line, text in enumerate(before_stray.split(b"\n")[:-1], chunk.line):
        if not open_quote:
            first, fields = line, 1
        parts = text.split(b'"')
        fields += sum(part.count(b",") for part in parts[open_quote::2])
        open_quote ^= len(parts) % 2 == 0
        if open_quote or fields == n_fields and text:
            continue
        where = f"line {first}" if first == line else f"line {first}: a quote opens that closes in line {line}; it"
        what = f"has {fields} fields, the header names {n_fields}" if text else "is empty"
        return InputError(f"{chunk.path}: {where} {what}", hint=AGAIN)
    if stray is None:
        return InputError(f"{chunk.path}: line {first}: a quote opens here and is never closed", hint=AGAIN)
    line = chunk.line + chunk.text.count(b"\n", 0, stray)
    begun = open_quote and first != line
    where = f"line {first}: a quote opens that closes in line {line}," if begun else f"line {line}: a quote"
    return InputError(f"{chunk.path}: {where} in the middle of a field", hint=AGAIN)


def _stray_quote(data: NDArray[np.uint8]) -> int | None:
    """Position of the first quote that does not open or close where a field does; None if there is none.

    A parser takes such a quote for a part of the text, and what stands between two of them for fields and records.
    """
    quotes = np.flatnonzero(data == QUOTE)
    around = np.concatenate(([NEWLINE], data, [NEWLINE, NEWLINE]))  # so that byte i is around[i + 1]
    before, after, next_after = around[quotes], around[quotes + 2], around[quotes + 3]
    at_start = (before == COMMA) | (before == NEWLINE) | (before == QUOTE)
    at_end = (after == COMMA) | (after == NEWLINE) | (after == QUOTE) | ((after == RETURN) & (next_after == NEWLINE))
    stray = np.where(np.arange(len(quotes)) % 2 == 0, ~at_start, ~at_end)
    return int(quotes[np.argmax(stray)]) if stray.any() else None
