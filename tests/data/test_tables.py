"""Typed tables: columns by name, values checked, faults with their line."""

import gzip
from datetime import datetime

import polars as pl
import pytest

from fusionctl.data import tables
from fusionctl.data.tables import Column, batches, open_table, read, require_unique
from fusionctl.errors import InputError

COLUMNS = (
    Column("key", "id", required=True),
    Column("when", "time"),
    Column("day", "date"),
    Column("number", "number"),
    Column("race", "text", aliases=("ethnicity",)),
)
HEADER = "other,KEY,When,day,Number,ethnicity\n"


def write(tmp_path, body, header=HEADER):
    path = tmp_path / "table.csv.gz"
    path.write_bytes(gzip.compress((header + body).encode()))
    return path


def test_columns_by_name_types_and_missing_values(tmp_path):
    body = (
        ',1,2150-01-31 23:59:00,2150-02-01,1.5,"A, ""b"""\n'
        "x,2,,,,None\n"
        '"",3,"","","",""\n'
        ",4,2150-01-31 23:59:00.250,2150-02-01 12:00:00,-1e3,é\n"
    )
    frame = read(open_table(write(tmp_path, body), COLUMNS))
    assert frame.columns == ["key", "when", "day", "number", "race", "line"]
    assert frame["key"].to_list() == [1, 2, 3, 4]
    assert frame["when"].to_list() == [
        *(datetime(2150, 1, 31, 23, 59), None, None),
        datetime(2150, 1, 31, 23, 59, 0, 250_000),
    ]
    assert frame["day"].to_list() == [datetime(2150, 2, 1), None, None, datetime(2150, 2, 1, 12)]
    assert frame["number"].to_list() == [1.5, None, None, -1000.0]
    assert frame["race"].to_list() == ['A, "b"', "None", "", "é"]
    assert frame["line"].to_list() == [2, 3, 4, 5]


def test_windows_line_ends(tmp_path):
    path = write(tmp_path, ",1,,,7,last\r\n,2,,,8,\r\n", HEADER.replace("\n", "\r\n"))
    frame = read(open_table(path, COLUMNS))
    assert frame["race"].to_list() == ["last", None] and frame["number"].to_list() == [7, 8]


def test_batches_keep_order_and_count_what_was_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr("fusionctl.data.lines._PIECE", 500)
    monkeypatch.setattr(tables, "_BATCH_BYTES", 1000)
    path = write(tmp_path, "".join(f",{i % 5},,,{i},t\n" for i in range(2000)))
    parts = list(batches(open_table(path, COLUMNS), item_column="key", items=[2, 4]))
    assert len(parts) > 5 and sum(seen for _, seen in parts) == 2000
    frame = pl.concat([frame for frame, _ in parts])
    assert frame["number"].to_list() == [i for i in range(2000) if i % 5 in (2, 4)]
    assert (frame["line"] - 2).to_list() == frame["number"].to_list()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (",x1,,,,", "line 3: column 'key' must be a whole number above 0; got other text"),
        (",1.0,,,,", "line 3: column 'key' must be a whole number above 0; got other text"),
        (",,,,,", "line 3: column 'key' must be a whole number above 0; got nothing"),
        (',"",,,,', "line 3: column 'key' must be a whole number above 0; got nothing"),
        (
            ",1,yesterday,,,",
            "line 3: column 'when' must be a time like 2150-01-31 23:59:00, from 1900 on and before 2300; got 'yester",
        ),
        (",1,2150-02-30 00:00:00,,,", "line 3: column 'when' must be a time"),
        (",1,2150-02-03,,,", "line 3: column 'when' must be a time"),
        (
            ",1,,31.01.2150,,",
            "line 3: column 'day' must be a date like 2150-01-31, from 1900 on and before 2300; got '31.01.2150'",
        ),
        (',1,,,"1,5",', "line 3: column 'number' must be a number; got '1,5'"),
        (",1,,,", "line 3 has 5 fields, the header names 6"),
    ],
)
def test_faults_name_file_line_column_rule_and_value(tmp_path, row, message):
    path = write(tmp_path, f",1,,,,\n{row}\n,2,,,,\n")
    with pytest.raises(InputError) as caught:
        read(open_table(path, COLUMNS))
    assert caught.value.message.startswith(f"{path}: {message}") and caught.value.hint


def test_a_damaged_id_is_not_repeated(tmp_path):
    path = write(tmp_path, ",10032725x,,,,\n")
    with pytest.raises(InputError) as caught:
        read(open_table(path, COLUMNS))
    assert "10032725" not in str(caught.value)


@pytest.mark.parametrize("column", range(1, 6))
@pytest.mark.parametrize("number", ["10032725", "4a62873e-a06abb39-6f611008-6a4751aa-6a90e3f1"])
def test_an_identifier_in_another_s_column_is_not_repeated(tmp_path, column, number):
    """As where two names of the header were exchanged."""
    fields = ["", "1", "", "", "", ""]
    fields[column] = number
    try:
        frame = read(open_table(write(tmp_path, ",".join(fields) + "\n"), COLUMNS))
    except InputError as error:
        assert not any(part in str(error) for part in number.split("-"))
    else:
        assert number in map(str, frame.row(0)) or float(number) in frame.row(0)


def test_a_quote_in_an_unquoted_field_names_the_line(tmp_path):
    path = write(tmp_path, ',1,,,,a\n,2,,,,5" tube\n,3,,,,5" hose\n,4,,,,b\n')
    with pytest.raises(InputError, match="line 3: a quote"):
        read(open_table(path, COLUMNS))


def test_faults_of_headers(tmp_path):
    def fault(header):
        with pytest.raises(InputError) as caught:
            open_table(write(tmp_path, "", header), COLUMNS)
        return caught.value.message

    assert "line 1: column 'number' is missing; like it: 'nunber'" in fault(HEADER.replace("Number", "Nunber"))
    assert "column 'key' is missing" in fault("a;b;c\n")
    assert "column 'key' is there 2 times" in fault(HEADER.replace("other", "key"))
    assert "column 'race' is there 2 times" in fault(HEADER.replace("other", "race"))


def test_a_table_without_rows(tmp_path):
    path = write(tmp_path, "")
    with pytest.raises(InputError, match="has a header but no rows"):
        read(open_table(path, COLUMNS))


def test_unique_keys(tmp_path):
    path = write(tmp_path, ",1,,,1,\n,1,,,2,\n,2,,,2,\n,1,,,2,\n")
    frame = read(open_table(path, COLUMNS))
    with pytest.raises(InputError, match="line 3: key must be unique"):
        require_unique(frame, ["key"], path)
    with pytest.raises(InputError, match=r"line 5: key \+ number must be unique"):
        require_unique(frame, ["key", "number"], path)
    require_unique(frame, ["key", "number", "line"], path)


def test_a_file_without_a_header_is_not_quoted(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("16564846,1,2150-01-01\n16564847,2,2150-01-02\n")
    with pytest.raises(InputError) as caught:
        open_table(path, COLUMNS)
    assert "1656484" not in str(caught.value) and "line 1 must name the columns" in caught.value.hint


def test_more_rows_than_a_table_can_have_end_the_reading(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_MOST_ROWS", 2)
    with pytest.raises(InputError, match="line 4: more than 2 rows"):
        read(open_table(write(tmp_path, ",1,,,,\n,2,,,,\n,3,,,,\n"), COLUMNS))


@pytest.mark.parametrize("time", ["1899-12-31 23:59:59", "2300-01-01 00:00:00", "0050-03-01 00:00:00"])
def test_times_of_other_centuries_are_none(tmp_path, time):
    with pytest.raises(InputError, match="line 2: column 'when' must be a time like .*, from 1900 on and before 2300"):
        read(open_table(write(tmp_path, f",1,{time},,,\n"), COLUMNS))
