"""Parsers on arbitrary bytes: a value or the error that is theirs, and never anything else."""

import gzip
from datetime import datetime
from pathlib import Path

import film_files
import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fusionctl.config import read_config
from fusionctl.data import dicom, event_blocks, jpeg, lines, pairing, split_file
from fusionctl.data.fields import convert
from fusionctl.data.films import study_time
from fusionctl.data.tables import Column, open_table, read
from fusionctl.errors import InputError, UsageError
from fusionctl.noise import parse_levels
from fusionctl.options import parse_shard
from fusionctl.settings import FuseSettings

quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
COLUMNS = (
    Column("key", "id", required=True),
    Column("when", "time"),
    Column("number", "number"),
    Column("note", "text"),
)
PARTS = [
    b"key,when,number,note\n",
    b"1,2150-01-01 00:00:00,1.5,x\n",
    b",",
    b"\n",
    b"\r\n",
    b'"',
    b'""',
    b"\0",
    b"\xff",
    b"-1",
]
PARTS += [b"2150-02-30 00:00:00", b"nan", b"key", b"\xef\xbb\xbf", "é".encode(), b"9" * 25, b"a,b", b" "]
tables_text = st.lists(st.sampled_from(PARTS), max_size=40).map(b"".join) | st.binary(max_size=400)


@quick
@given(tables_text, st.booleans(), st.sampled_from([3, 50, 1 << 19]))
@example(b"key,when,number,note\n\r\n\r\n", False, 3)
def test_any_bytes_as_a_table(tmp_path, data, compressed, piece):
    path = tmp_path / ("t.csv.gz" if compressed else "t.csv")
    path.write_bytes(gzip.compress(data) if compressed else data)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(lines, "_PIECE", piece)
        try:
            frame = read(open_table(path, COLUMNS))
        except InputError as error:
            assert str(path) in error.message and error.hint
            return
    assert frame["key"].null_count() == 0 and frame["line"].is_sorted() and frame["line"].min() >= 2
    outside = b"".join(data.split(b'"')[::2]).rstrip(b"\r\n")
    assert frame.height == outside.count(b"\n") or data.count(b'"')


@quick
@given(st.binary(max_size=300), st.integers(0, 60), st.integers(0, 255))
def test_any_bytes_as_compressed_data(tmp_path, data, place, byte):
    """Rubbish, and one byte of a good file changed."""
    raw = bytearray(gzip.compress(b"key,when,number,note\n" + b"1,,,\n" * 20))
    raw[place % len(raw)] = byte
    for content in (data, b"\x1f\x8b" + data, bytes(raw)):
        path = tmp_path / "t.csv.gz"
        path.write_bytes(content)
        try:
            read(open_table(path, COLUMNS))
        except InputError as error:
            assert str(path) in error.message


@quick
@given(st.text(max_size=30) | st.from_regex(r"[0-9+-]{1,6}-[0-9]{1,3}-[0-9]{1,3}[ T][0-9:. Z+-]{0,12}", fullmatch=True))
def test_a_time_is_one_of_the_covered_years_or_none(text):
    for kind in ("time", "date"):
        found = convert(pl.Series("t", [text, "2150-01-01 00:00:00"]), kind)
        assert found[0] is None or datetime(1900, 1, 1) <= found[0] < datetime(2300, 1, 1)
        assert found[1] == datetime(2150, 1, 1)


whole = st.integers(-(2**63), 2**63 - 1) | st.integers(19_000_000, 22_991_299)


@quick
@given(st.none() | whole, st.none() | st.floats() | st.floats(0, 240_000))
def test_a_study_s_time_is_possible_or_missing(date, time):
    frame = pl.DataFrame({"d": [date], "t": [time]}, schema={"d": pl.Int64, "t": pl.Float64})
    found = frame.select(study_time("d", "t")).item()
    if found is not None:
        assert int(found.strftime("%Y%m%d")) == date
        assert abs(int(found.strftime("%H%M%S")) + found.microsecond / 1e6 - time) < 2e-3


FILM = film_files.jpeg(40, 30)


def damaged(data: bytes):
    """Bytes of a file with a piece taken out, put in, changed or cut off; or rubbish behind its first bytes."""
    place = st.integers(0, len(data))
    piece = st.binary(max_size=8)
    return st.one_of(
        st.binary(max_size=200),
        st.binary(max_size=200).map(lambda rest: data[:4] + rest),
        place.map(lambda at: data[:at]),
        st.tuples(place, place).map(lambda cut: data[: min(cut)] + data[max(cut) :]),
        st.tuples(place, piece).map(lambda new: data[: new[0]] + new[1] + data[new[0] :]),
        st.tuples(place, piece).map(lambda new: data[: new[0]] + new[1] + data[new[0] + len(new[1]) :]),
    )


@quick
@given(damaged(FILM))
def test_any_bytes_as_a_film(data):
    try:
        header = jpeg.read_header(data)
        film = jpeg.decode(data, header, width=8, height=8)
    except jpeg.UnreadableFilm as error:
        assert "rule: " in error.message
        return
    assert film.dtype == np.uint8 and film.ndim == 2 and film.size


@settings(quick, max_examples=60)
@given(st.data())
def test_any_bytes_as_dicom(tmp_path, data):
    pytest.importorskip("pydicom")
    path = tmp_path / "film.dcm"
    if not path.exists():
        film_files.write_dicom(tmp_path, "good.dcm", np.arange(48, dtype=np.uint16).reshape(6, 8))
    path.write_bytes(data.draw(damaged((tmp_path / "good.dcm").read_bytes())))
    try:
        film = dicom.read(path)
    except jpeg.UnreadableFilm as error:
        assert "rule: " in error.message
        return
    except InputError as error:  # compressed by something that is not installed
        assert "no decoder" in error.message
        return
    assert film.dtype == np.uint8 and film.ndim == 2


@quick
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from([0.0, 1.0, 2.5, float("nan")]), st.integers(0, 16)), max_size=30
    ),
    st.booleans(),
    st.integers(1, 8),
)
def test_any_events_in_blocks(tmp_path, rows, in_order, size):
    rows = sorted(row for row in rows if row[1] == row[1]) if in_order else rows
    frame = pl.DataFrame(rows, schema={"stay_id": pl.Int64, "hours": pl.Float64, "variable": pl.UInt8}, orient="row")
    frame.with_columns(value=pl.lit(1.0, pl.Float32)).write_parquet(tmp_path / "events.parquet")
    try:
        blocks = list(event_blocks.read_blocks(tmp_path / "events.parquet", size))
    except InputError as error:
        assert not in_order and "rows are not in order" in error.message
        return
    assert [s for block in blocks for s in block.stay_id.tolist()] == [row[0] for row in rows]
    stays = [set(block.stay_id.tolist()) for block in blocks]
    assert sum(map(len, stays)) == len(set().union(*stays)), "no stay is cut"


@quick
@given(
    st.binary(max_size=300)
    | st.lists(st.sampled_from([b"subject_id,split\n", b"1,test\n", b"2,val\n", b"\0", b'"', b","])).map(b"".join)
)
def test_any_bytes_as_a_split(tmp_path, data):
    path = tmp_path / "split.csv"
    path.write_bytes(data)
    try:
        found = split_file.read_split_file(path)
    except InputError as error:
        assert str(path) in error.message
        return
    assert set(found.values()) >= {"val", "test"}


@quick
@given(st.text(max_size=40) | st.from_regex(r"[-0-9.:,einfa/ ]{0,15}", fullmatch=True))
def test_any_text_as_an_option(text):
    for parse in (parse_levels, parse_shard, pairing.parse_window):
        try:
            found = parse(text)
        except UsageError as error:
            assert error.message
        else:
            assert all(isinstance(number, (int, float)) and number == number for number in found)


@quick
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_as_a_configuration(tmp_path: Path, data):
    path = tmp_path / "c.toml"
    path.write_bytes(data)
    try:
        read_config(path, {"fuse": FuseSettings})
    except UsageError as error:
        assert "--config" in error.message
