"""Reading plain and compressed files piece by piece, and what damaged ones say."""

import errno
import gzip
import os
import sys
from pathlib import Path

import pytest

from fusionctl.data import lines
from fusionctl.data.lines import chunks, read_header
from fusionctl.errors import InputError


@pytest.fixture(params=["zlib", "isal"])
def inflater(request, monkeypatch):
    """Both inflaters: Python's own, and python-isal where it is installed."""
    if request.param == "isal":
        pytest.importorskip("isal")
    else:
        monkeypatch.setitem(sys.modules, "isal", None)


@pytest.mark.parametrize("piece", [3, 7, 1 << 20])
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_pieces_are_cut_at_ends_of_records(tmp_path, monkeypatch, inflater, piece, suffix):
    monkeypatch.setattr(lines, "_PIECE", piece)
    body = b'1,"a\nb, ""c"""\n2,x\n3,"\n\n"\n4,'
    path = tmp_path / f"t{suffix}"
    path.write_bytes(gzip.compress(b"n,text\n" + body) if suffix.endswith("gz") else b"n,text\n" + body)
    found = list(chunks(path))
    assert b"".join(c.text for c in found) == body + b"\n"
    for i, chunk in enumerate(found):
        assert chunk.line == 2 + sum(c.text.count(b"\n") for c in found[:i])
        assert chunk.text.count(b'"') % 2 == 0
    assert len(found) > 1


def test_empty_lines_at_the_end_and_no_rows(tmp_path, monkeypatch):
    path = tmp_path / "t.csv"
    for piece in (1, 2, 3, 5, 100):
        monkeypatch.setattr(lines, "_PIECE", piece)
        path.write_bytes(b"a,b\r\n1,2\r\n\r\n\r\n")
        assert [c.text for c in chunks(path)] == [b"1,2\r\n"]
        path.write_bytes(b"a,b\n1,2\n\n3,4\n")
        assert b"".join(c.text for c in chunks(path)) == b"1,2\n\n3,4\n"
    path.write_bytes(b"a,b\n")
    assert list(chunks(path)) == []
    path.write_bytes(b"a,b")
    assert list(chunks(path)) == []
    assert read_header(path) == ["a", "b"]


def test_several_gzip_members_are_one_file(tmp_path, inflater):
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n1,2\n") + gzip.compress(b"3,4\n"))
    assert b"".join(c.text for c in chunks(path)) == b"1,2\n3,4\n"


def test_header_with_byte_order_mark_blanks_and_quotes(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b'\xef\xbb\xbf"Subject_ID", b \r\n1,2\r\n')
    assert read_header(path) == ["Subject_ID", "b"]


def test_progress_is_in_bytes_of_the_file(tmp_path, monkeypatch, inflater):
    monkeypatch.setattr(lines, "_PIECE", 1000)
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"a\n" + os.urandom(100_000).hex().encode() + b"\n"))
    seen: list[int] = []
    list(chunks(path, seen.append))
    assert seen == sorted(seen) and seen[-1] == path.stat().st_size


def fault(path):
    with pytest.raises(InputError) as caught:
        read_header(path)
        list(chunks(path))
    assert str(path) in caught.value.message and caught.value.hint
    return caught.value.message


def test_truncated_and_corrupted_gzip(tmp_path, inflater):
    path = tmp_path / "t.csv.gz"
    whole = gzip.compress(b"a,b\n" + b"".join(b"%d,%d\n" % (i, i * i % 997) for i in range(300_000)))
    path.write_bytes(whole[: len(whole) * 2 // 3])
    message = fault(path)
    assert "ends in the middle of its compressed data, somewhere after line " in message
    assert int(message.rpartition(" ")[2]) > 1000
    damaged = bytearray(whole)
    damaged[-5] ^= 0xFF  # the checksum
    path.write_bytes(damaged)
    assert "cannot be read" in fault(path)
    path.write_bytes(b"a,b\n1,2\n")
    assert "named .gz but is not gzip-compressed" in fault(path)


def test_other_faults_of_files(tmp_path):
    path = tmp_path / "t.csv"
    assert "No such file" in fault(path)
    path.mkdir()
    assert "directory" in fault(path)
    path = tmp_path / "empty.csv.gz"
    path.write_bytes(b"")
    assert "is empty" in fault(path)
    path.write_bytes(gzip.compress(b""))
    assert "is empty" in fault(path)
    path = tmp_path / "wide.csv"
    path.write_bytes("subject_id,x\n1,2\n".encode("utf-16"))
    assert "line 1: the header is not UTF-8" in fault(path)


def test_unreadable_file(tmp_path, monkeypatch):
    def refuse(self, mode):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    path = tmp_path / "t.csv"
    path.write_text("a\n1\n")
    monkeypatch.setattr(Path, "open", refuse)  # root, who often runs tests, may read everything
    assert fault(path) == f"{path}: Permission denied"


def test_a_quote_that_never_closes_does_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "_PIECE", 100)
    monkeypatch.setattr(lines, "_LONGEST_RECORD", 1000)
    path = tmp_path / "t.csv"
    path.write_bytes(b'a,b\n1,2\n3,5" tube\n' + b"4,5\n" * 5000)
    assert "line 3: a quote opens here and is never closed" in fault(path)


def test_a_stray_quote_among_quoted_fields_does_not_take_long(tmp_path):
    """Its line is found at once, not by going back from the end line by line."""
    path = tmp_path / "t.csv"
    path.write_bytes(b'a,b\n1,2\n3,"8"2"\n' + b'"4","five"\n' * 2_000_000)
    assert "line 3: a quote opens here and is never closed" in fault(path)


def test_many_empty_lines_do_not_take_long(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b"a,b\n1,2\n" + b"\n" * 3_000_000 + b"3,4\n")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(lines, "_LONGEST_RECORD", 1 << 20)
        assert "line 3 is empty" in fault(path)
    assert b"".join(c.text for c in chunks(path)).endswith(b"\n\n3,4\n"), "records.py names the empty line"


def test_headers_that_are_none(tmp_path):
    path = tmp_path / "t.csv"
    for data, said in (
        (b"a,b\r1,2\r3,4\r", "line 1: carriage returns alone end its lines"),
        (b"x" * 3_000_000 + b"\n1\n", "line 1: the header has more than a megabyte"),
        (b"x" * 200_000 + b"\n1\n", "line 1: the header is no CSV"),
    ):
        path.write_bytes(data)
        assert said in fault(path)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "t.csv")
    assert "not a file but a pipe or a device" in fault(tmp_path / "t.csv")


def test_a_record_without_an_end_names_its_line(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "_PIECE", 100)
    monkeypatch.setattr(lines, "_LONGEST_RECORD", 1 << 20)
    path = tmp_path / "t.csv"
    path.write_bytes(b"a,b\n1,2\n" + b"x" * 3_000_000)
    assert "line 3 is longer than 1 MiB" in fault(path)
