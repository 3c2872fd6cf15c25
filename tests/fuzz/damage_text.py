"""Damages to the text of a table: how it is encoded, how its lines end, what its fields and header look like."""

from __future__ import annotations

import csv
import random

from broken_tree import BrokenTree
from damages import EVERY, damage
from outcome import Error, Read, Same

_LINE1, _LINE = Error(r": line 1\b"), Error(r": line \d+\b")
# A column with text that is read, and one that is not.
_TEXT = {
    "patients": "gender", "admissions": "race", "icustays": "first_careunit", "diagnoses_icd": "icd_code",
    "chartevents": "value", "labevents": "value", "d_labitems": "label", "metadata": "ViewPosition",
}  # fmt: skip
_UNREAD = {
    "admissions": "insurance", "icustays": "los", "diagnoses_icd": "seq_num", "chartevents": "valueuom",
    "labevents": "comments", "d_labitems": "category", "metadata": "ProcedureCodeSequence_CodeMeaning",
}  # fmt: skip
_READ_ITEM = {"labevents": ("50931",), "chartevents": ("220045",)}


def _first_read(table: str) -> int:
    """Place of the first column that is read."""
    return {"diagnoses_icd": 1, "labevents": 1, "chartevents": 1}.get(table, 0)


def record_read(tree: BrokenTree, table: str) -> int:
    """Number of a record that is read: of the tables of events, one of a mapped item."""
    return tree.records(table, "itemid", _READ_ITEM[table])[0] if table in _READ_ITEM else 1


def _mark(tree: BrokenTree, table: str, mark: bytes, columns: dict[str, str] = _TEXT) -> None:
    """Put bytes at the end of a field of a record that is read."""
    tree.set(table, columns[table], "MARK", records=[record_read(tree, table)])
    tree.change(table, lambda data: data.replace(b"MARK", mark))


# --- encodings


@damage("encoding", Same(), EVERY)
def utf8_byte_order_mark(tree, table):
    tree.change(table, lambda data: b"\xef\xbb\xbf" + data)


@damage("encoding", _LINE1, EVERY)
def utf16_little_endian(tree, table):
    tree.change(table, lambda data: b"\xff\xfe" + data.decode().encode("utf-16-le"))


@damage("encoding", _LINE1, EVERY)
def utf16_big_endian(tree, table):
    tree.change(table, lambda data: b"\xfe\xff" + data.decode().encode("utf-16-be"))


@damage("encoding", _LINE1, EVERY)
def utf16_without_a_mark(tree, table):
    tree.change(table, lambda data: data.decode().encode("utf-16-le"))


@damage("encoding", _LINE1, EVERY)
def utf32(tree, table):
    tree.change(table, lambda data: data.decode().encode("utf-32"))


@damage("encoding", _LINE1, EVERY)
def ebcdic(tree, table):
    tree.change(table, lambda data: data.decode().encode("cp037"))


@damage("encoding", Error(r": line \d+: not UTF-8 text \(byte 0xe9\)"), tuple(_TEXT))
def latin1_letter(tree, table):
    _mark(tree, table, b"\xe9t\xe9")


@damage("encoding", Error(r": line \d+: not UTF-8 text"), tuple(_TEXT))
def utf8_letter_cut_in_half(tree, table):
    _mark(tree, table, b"x\xc3")


@damage("encoding", Error(r": line \d+: not UTF-8 text"), tuple(_TEXT))
def surrogate_in_utf8(tree, table):
    _mark(tree, table, b"\xed\xa0\x80")


@damage("encoding", Error(r": line \d+: not UTF-8 text"), tuple(_TEXT))
def overlong_utf8(tree, table):
    _mark(tree, table, b"\xc0\xaf")


@damage("encoding", Same(), tuple(_UNREAD))
def letters_beyond_ascii_in_a_column_that_is_not_read(tree, table):
    _mark(tree, table, "Zoë 氏名 \U0001f9e0".encode(), _UNREAD)


@damage("encoding", Error(r": line \d+: a NUL byte"), tuple(_TEXT))
def nul_byte_in_a_field(tree, table):
    _mark(tree, table, b"\0x")


@damage("encoding", _LINE, EVERY)
def nul_bytes_at_the_end(tree, table):
    tree.change(table, lambda data: data + bytes(5000))


@damage("encoding", _LINE1, EVERY)
def nothing_but_nul_bytes(tree, table):
    tree.put(table, bytes(100_000))


@damage("encoding", _LINE, EVERY)
def nul_bytes_in_the_middle(tree, table):
    def change(data: bytes) -> bytes:
        end = data.index(b"\n") + 1
        return data[:end] + bytes(300) + data[end + 300 :] if len(data) > end + 301 else data + bytes(300)

    tree.change(table, change)


@damage("encoding", _LINE, EVERY)
def end_of_file_mark_of_dos(tree, table):
    tree.change(table, lambda data: data + b"\x1a")


@damage("encoding", _LINE1, tuple(table for table in EVERY if not _first_read(table)))
def control_characters_in_the_header(tree, table):
    tree.change(table, lambda data: b"\x01\x1b[31m" + data)


@damage("encoding", Error(r": line 1: column .* is missing"), EVERY)
def zero_width_space_in_a_column_name(tree, table):
    tree.change(
        table, lambda data: data.replace(b"_id", "_\u200bid".encode(), 2).replace(b"itemid,", b"item\xc2\xa0id,", 1)
    )


# --- line ends


@damage("line ends", Same(), EVERY)
def carriage_return_and_newline(tree, table):
    tree.change(table, lambda data: data.replace(b"\n", b"\r\n"))


@damage("line ends", Same(), EVERY)
def some_lines_with_carriage_returns(tree, table):
    lines = tree.data(table).split(b"\n")
    tree.put(table, b"\n".join(line + b"\r" * (bool(line) and i % 3 == 1) for i, line in enumerate(lines)))


@damage("line ends", _LINE1, EVERY)
def carriage_returns_alone(tree, table):
    tree.change(table, lambda data: data.replace(b"\n", b"\r"))


@damage("line ends", Same(), EVERY)
def no_newline_at_the_end(tree, table):
    tree.change(table, lambda data: data.rstrip(b"\n"))


@damage("line ends", Same(), EVERY)
def empty_lines_at_the_end(tree, table):
    tree.change(table, lambda data: data + b"\n\r\n\n")


@damage("line ends", Error(r": line 3 is empty"), EVERY)
def empty_line_among_the_records(tree, table):
    lines = tree.data(table).split(b"\n")
    tree.put(table, b"\n".join([*lines[:2], b"", *lines[2:]]))


@damage("line ends", _LINE1, EVERY)
def empty_line_before_the_header(tree, table):
    tree.change(table, lambda data: b"\n" + data)


@damage("line ends", _LINE, EVERY)
def every_second_line_empty(tree, table):
    tree.change(table, lambda data: data.replace(b"\n", b"\n\n"))


@damage("line ends", Error(r": line \d+: it has \d+ fields|: line \d+ has \d+ fields"), EVERY)
def two_records_in_one_line(tree, table):
    lines = tree.data(table).split(b"\n")
    tree.put(table, b"\n".join([lines[0], lines[1] + lines[2], *lines[3:]]))


@damage("line ends", Error(r": line 1\b|has a header but no rows"), EVERY)
def everything_in_one_line(tree, table):
    tree.change(table, lambda data: data.replace(b"\n", b" "))


# --- fields and records


def _lines(tree: BrokenTree, table: str, change) -> None:
    """Change each line after the header: `change(line)`."""
    header, *lines = tree.data(table).decode().rstrip("\n").split("\n")
    tree.put(table, "\n".join([header, *map(change, lines), ""]))


@damage("records", Error(r": line 2 has \d+ fields, the header names \d+"), EVERY)
def record_too_short(tree, table):
    rows = tree.rows(table)
    tree.put_rows(table, [rows[0], rows[1][:-1], *rows[2:]])


@damage("records", Error(r": line 2 has \d+ fields"), EVERY)
def record_too_long(tree, table):
    rows = tree.rows(table)
    tree.put_rows(table, [rows[0], [*rows[1], "more"], *rows[2:]])


@damage("records", Error(r": line \d+ has \d+ fields"), EVERY)
def last_record_cut(tree, table):
    rows = tree.rows(table)
    tree.put_rows(table, [*rows[:-1], rows[-1][:2] if len(rows[-1]) > 2 else rows[-1][:1]])


@damage("records", Error(r": line 2 has \d+ fields"), EVERY)
def a_comma_at_the_end_of_every_record(tree, table):
    _lines(tree, table, lambda line: line + ",")


@damage("records", Same(), EVERY)
def a_comma_at_the_end_of_every_line(tree, table):
    tree.change(table, lambda data: data.replace(b"\n", b",,\n"))


@damage("records", Error(r": line 1: column .* is missing"), EVERY)
def semicolons(tree, table):
    tree.put_rows(table, tree.rows(table), delimiter=";")


@damage("records", Error(r": line 1: column .* is missing"), EVERY)
def tabs(tree, table):
    tree.put_rows(table, tree.rows(table), delimiter="\t")


@damage("records", Error(r": line 1: column .* is missing"), EVERY)
def bars(tree, table):
    tree.put_rows(table, tree.rows(table), delimiter="|")


@damage("records", _LINE, tuple(table for table in EVERY if table != "d_labitems"))
def blanks_after_commas(tree, table):
    tree.change(table, lambda data: data.replace(b",", b", "))


@damage(
    "records", Error(r"line 2: a quote opens (here and is never closed|that closes in line \d+, in the middle)"), EVERY
)
def quote_never_closed(tree, table):
    _lines_first(tree, table, lambda line: '"' + line)


def _lines_first(tree: BrokenTree, table: str, change) -> None:
    header, first, rest = tree.data(table).decode().split("\n", 2)
    tree.put(table, "\n".join([header, change(first), rest]))


@damage("records", Error(r": line \d+: a quote"), ("chartevents", "labevents", "admissions", "icustays", "metadata"))
def inches_in_a_field_that_is_not_quoted(tree, table):
    _mark(tree, table, b'5" tube', _UNREAD)


@damage("records", Error(r": line \d+: a quote in the middle of a field"), tuple(_UNREAD))
def inches_in_two_rows(tree, table):
    """The text between them has as many fields as a row."""
    records = [1, len(tree.rows(table)) - 1]
    tree.set(table, _UNREAD[table], "MARK", records=records)
    tree.change(table, lambda data: data.replace(b"MARK", b"6'1\""))


@damage("records", Error(r": line \d+: a quote in the middle of a field"), tuple(_UNREAD))
def a_comma_between_inches(tree, table):
    _mark(tree, table, b'bed 5" wide, 7" long', _UNREAD)


@damage("records", Error(r": line \d+: a quote in the middle of a field"), tuple(_UNREAD))
def one_quote_too_many_where_every_field_is_quoted(tree, table):
    tree.set(table, _UNREAD[table], "MARK", records=[record_read(tree, table)])
    tree.put_rows(table, tree.rows(table), quoting=csv.QUOTE_ALL)
    tree.change(table, lambda data: data.replace(b"MARK", b'8"2'))


@damage("records", Same(), EVERY)
def every_field_quoted(tree, table):
    tree.put_rows(table, tree.rows(table), quoting=csv.QUOTE_ALL)


@damage("records", _LINE1, EVERY)
def single_quotes(tree, table):
    tree.put_rows(table, tree.rows(table), quoting=csv.QUOTE_ALL, quotechar="'")


@damage("records", Same(), tuple(_UNREAD))
def newline_inside_quotes_in_a_column_that_is_not_read(tree, table):
    _mark(tree, table, b'"a\nb, ""c"" \r\n"', _UNREAD)


@damage("records", Error(r": line \d+: a quote in the middle of a field"), tuple(_UNREAD))
def quotes_escaped_by_backslashes(tree, table):
    _mark(tree, table, b'"a \\"b\\" c"', _UNREAD)


@damage("records", _LINE, EVERY)
def comment_above_the_header(tree, table):
    tree.change(table, lambda data: b"# exported 2024-01-01\n" + data)


@damage("records", _LINE, EVERY)
def count_of_rows_at_the_end(tree, table):
    tree.change(table, lambda data: data + b"(30 rows)\n")


@damage("records", _LINE, EVERY)
def the_table_twice_with_its_header(tree, table):
    tree.change(table, lambda data: data + data)


@damage("records", Same(), tuple(_UNREAD))
def a_field_of_a_megabyte(tree, table):
    _mark(tree, table, b"x" * 1_000_000, _UNREAD)


@damage("records", Error(r": line \d+(: a quote|: more than 16 MiB| is longer)"), tuple(_UNREAD))
def a_field_of_twenty_megabytes(tree, table):
    _mark(tree, table, b"x" * 20_000_000, _UNREAD)


@damage("records", Same(), ("patients", "admissions", "icustays", "d_labitems", "chexpert", "test_labels", "labevents"))
def rows_in_another_order(tree, table):
    header, *rows = tree.rows(table)
    random.Random(1).shuffle(rows)
    tree.put_rows(table, [header, *rows])


@damage("records", Error(r"has a header but no rows"), EVERY)
def header_without_rows(tree, table):
    tree.put_rows(table, tree.rows(table)[:1])


@damage("records", Error(r"is empty"), EVERY)
def empty_text(tree, table):
    tree.put(table, b"")


@damage("records", Error(r"is empty"), EVERY)
def nothing_but_newlines(tree, table):
    tree.put(table, b"\n\n\n")


# --- headers


@damage("header", Error(r": line 1: column .* is missing"), EVERY)
def no_header(tree, table):
    tree.put_rows(table, tree.rows(table)[1:])


@damage("header", _LINE, EVERY)
def header_twice(tree, table):
    rows = tree.rows(table)
    tree.put_rows(table, [rows[0], *rows])


@damage("header", Same(), EVERY)
def columns_in_another_order(tree, table):
    tree.put_rows(table, [row[::-1] for row in tree.rows(table)])


@damage("header", Same(), EVERY)
def more_columns(tree, table):
    tree.put_rows(
        table, [["row_id", *row, "note"] if i == 0 else [str(i), *row, ""] for i, row in enumerate(tree.rows(table))]
    )


@damage("header", Same(), EVERY)
def index_column_without_a_name(tree, table):
    tree.put_rows(table, [["" if i == 0 else str(i - 1), *row] for i, row in enumerate(tree.rows(table))])


@damage("header", Same(), EVERY)
def names_in_capitals(tree, table):
    rows = tree.rows(table)
    tree.put_rows(table, [[name.upper() for name in rows[0]], *rows[1:]])


@damage("header", Same(), EVERY)
def names_with_blanks_around(tree, table):
    rows = tree.rows(table)
    tree.put_rows(table, [[f" {name}  " for name in rows[0]], *rows[1:]])


@damage("header", Same(), EVERY)
def names_in_quotes(tree, table):
    header, newline, rest = tree.data(table).partition(b"\n")
    tree.put(table, b",".join(b'"' + name + b'"' for name in header.split(b",")) + newline + rest)


@damage("header", Error(r": line 1: column .* is missing"), EVERY)
def first_column_missing(tree, table):
    place = _first_read(table)
    tree.put_rows(table, [row[:place] + row[place + 1 :] for row in tree.rows(table)])


_RENAMED = {
    "patients": "anchor_age", "admissions": "admittime", "icustays": "intime", "diagnoses_icd": "icd_code",
    "d_labitems": "itemid", "chartevents": "valuenum", "labevents": "valuenum", "metadata": "StudyDate",
    "chexpert": "Edema", "test_labels": "Edema",
}  # fmt: skip


@damage("header", Error(r": line 1: column .* is missing; like it: "), EVERY)
def column_renamed(tree, table):
    name = _RENAMED[table]
    tree.change(table, lambda data: data.replace(name.encode(), f"{name}2".encode(), 1))


@damage("header", Error(r": line 1: column .* is there 2 times"), EVERY)
def column_twice(tree, table):
    place = _first_read(table)
    tree.put_rows(table, [[*row, row[place]] for row in tree.rows(table)])


@damage("header", Error(r": line 1: column 'race' is there 2 times"), table="admissions")
def race_and_ethnicity(tree):
    tree.put_rows(
        "admissions", [[*row, "ethnicity" if i == 0 else "WHITE"] for i, row in enumerate(tree.rows("admissions"))]
    )


@damage("header", Error(r": line 1"), EVERY)
def a_hundred_thousand_columns(tree, table):
    extra = b"," + b",".join(b"c%d" % i for i in range(100_000))
    header, newline, rest = tree.data(table).partition(b"\n")
    tree.put(table, header.replace(b"_id", b"_ids").replace(b"itemid", b"item") + extra + newline + rest)


@damage("header", Error(r": line 1"), EVERY)
def a_header_of_twenty_megabytes(tree, table):
    tree.change(table, lambda data: b"x" * 20_000_000 + b"," + data)


@damage("header", Read(), ("diagnoses_icd",), name="the rows of half a table")
def half(tree, table):
    rows = tree.rows(table)
    tree.put_rows(table, rows[: len(rows) // 2])
