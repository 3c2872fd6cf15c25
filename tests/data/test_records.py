"""Records are counted, checked and picked exactly, whatever is quoted."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionctl.data.records import Chunk, bare_quote, field_ends, pick
from fusionctl.errors import InputError

PATH = Path("some/table.csv")


def wanted(*items: int) -> np.ndarray:
    flags = np.zeros(max(items) + 1, bool)
    flags[list(items)] = True
    return flags


def test_picks_the_records_of_wanted_items_with_their_lines():
    chunk = Chunk(PATH, b"a,7,x\nb,8,y\nc,77,z\nd,8,\n,,\n", 10)
    picked = pick(chunk, 3, wanted(8), 1)
    assert picked.text == b"b,8,y\nd,8,\n"
    assert picked.lines.tolist() == [11, 13] and picked.seen == 5


def test_first_and_last_column_and_quoted_numbers():
    chunk = Chunk(PATH, b'"8",a\n9,b\n8,c\n', 2)
    assert pick(chunk, 2, wanted(8)).lines.tolist() == [2, 4]
    chunk = Chunk(PATH, b'a,"8"\nb,9\nc,8\n', 2)
    assert pick(chunk, 2, wanted(8), 1).lines.tolist() == [2, 4]


def test_separators_inside_quotes_do_not_count():
    chunk = Chunk(PATH, b'"a, ""b"", c",8,"x\ny"\nd,8,"z,"\n', 2)
    picked = pick(chunk, 3, wanted(8), 1)
    assert picked.text == chunk.text and picked.lines.tolist() == [2, 4]


def test_everything_where_nothing_is_asked_for():
    picked = pick(Chunk(PATH, b"a,b\n\xc3\xa9,d\n", 2), 2, None)
    assert picked.seen == 2 and picked.lines.tolist() == [2, 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"a,1,x\nb,1\nc,1,z\n", "line 6 has 2 fields, the header names 3"),
        (b"a,1,x\nb,1,y,\nc,1,z\n", "line 6 has 4 fields, the header names 3"),
        (b"a,1\nb,1,y,z\n", "line 5 has 2 fields"),  # the sum is right
        (b"a,1,x\n\nb,1,y\n", "line 6 is empty"),
        (b'a,1,x\nb,1,5" tube\nc,1,z\n', "line 6: a quote opens here and is never closed"),
        (b'a,1,x\nb,1,5" tube\nc,1,"z,1\n', "line 6: a quote opens that closes in line 7; it has 4 fields"),
        (b"a,1,x\nb,1e0,y\n", "line 6: column 'item' must be a whole number; got '1e0'"),
        (b"a,1,x\nb,220045.0,y\n", "line 6: column 'item' must be a whole number; got '220045.0'"),
        (b"a,1,x\nb,2,y\nc,1,\xb0F\n", "line 7: not UTF-8 text (byte 0xb0)"),
    ],
)
def test_faults_name_the_line(text, message):
    with pytest.raises(InputError) as caught:
        pick(Chunk(PATH, text, 5), 3, wanted(1), 1, "item")
    assert str(caught.value).startswith(f"{PATH}: ")
    assert message in str(caught.value)


def test_a_quote_inside_an_unquoted_field_is_found():
    assert bare_quote(b'a,"b, ""c""",d\n1,5" x 3",2\n') == 1
    assert bare_quote(b'a,"b\n\n",d\r\n"x",,"y"\r\n5" tube\n') == 2
    assert bare_quote(b'a,"b",d\r\n"x",,"y"\r\n') is None


field = st.text(st.sampled_from('ab,"\n8 é'), max_size=6)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(field, st.sampled_from(["", "8", "9", "88"]), field), min_size=1, max_size=8))
def test_agrees_with_python_csv(rows):
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    text = out.getvalue().encode()
    chunk = Chunk(PATH, text, 2)
    assert field_ends(chunk, 3).shape == (len(rows), 3)
    picked = pick(chunk, 3, wanted(8), 1)
    read = [tuple(row) for row in csv.reader(io.StringIO(picked.text.decode(), newline=""))]
    assert read == [row for row in rows if row[1] == "8"]
