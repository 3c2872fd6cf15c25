"""Records are counted, checked and picked exactly, whatever is quoted."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fusionctl.data import records
from fusionctl.data.records import Chunk, field_ends, pick
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
        (b'a,1,x\nb,1,5" tube\nc,1,z\n', "line 6: a quote in the middle of a field"),
        (b'a,1,x\nb,1,"5 tube\nc,1,z\n', "line 6: a quote opens here and is never closed"),
        (b'a,1,x\nb,1,5" tube\nc,1,"z,1\n', "line 6: a quote in the middle of a field"),
        (b'a,1,x\nb,1,"5\ntube",1\n', "line 6: a quote opens that closes in line 7; it has 4 fields"),
        (b"a,1,x\nb,1e0,y\n", "line 6: column 'item' must be a whole number; got '1e0'"),
        (b"a,1,x\nb,220045.0,y\n", "line 6: column 'item' must be a whole number; got '220045.0'"),
        (
            b"a,1,x\nb,10014729,y\nc,p10014729,y\n",
            "line 7: column 'item' must be a whole number; got a text like 'p00000000'",
        ),
        (b"a,1,x\nb,2,y\nc,1,\xb0F\n", "line 7: not UTF-8 text (byte 0xb0)"),
    ],
)
def test_faults_name_the_line(text, message):
    with pytest.raises(InputError) as caught:
        pick(Chunk(PATH, text, 5), 3, wanted(1), 1, "item")
    assert str(caught.value).startswith(f"{PATH}: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'a,1,5" x 3"\n', "line 5: a quote in the middle of a field"),
        (b'a,1,x\nb,1,"y" \n', "line 6: a quote in the middle of a field"),
        (b'a,1,x\nb,1,"y\nz" w\n', "line 6: a quote opens that closes in line 7, in the middle of a field"),
        (b'a,1,"x \\"y\\" z"\n', "line 5: a quote in the middle of a field"),
        # As many fields as there should be, if what is between the two is text.
        (b"a,2,6'1\"\nb,1,x\nc,2,5'7\"\n", "line 5: a quote in the middle of a field"),
        (b'a,5" wide, 7" long\nb,1,x\n', "line 5: a quote in the middle of a field"),
    ],
)
def test_a_quote_opens_and_closes_where_a_field_does(text, message):
    with pytest.raises(InputError, match=message):
        pick(Chunk(PATH, text, 5), 3, wanted(1), 1, "item")
    with pytest.raises(InputError, match=message):
        pick(Chunk(PATH, text, 5), 3, None)


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


# --- against a splitter that looks at every character

WANTED = wanted(7, 42, 220045, 220046)


def split(text: bytes, n_fields: int, column: int) -> tuple[bytes, list[int], int] | None:
    """Text and lines of the wanted records and how many there are, or None where a record is faulty."""
    records, fields, start, field, line, inside = [], [], 0, 0, 2, False
    for i, byte in enumerate(text):
        if byte == ord('"'):
            before, after = text[max(i - 1, 0) : i], text[i + 1 : i + 3]
            good = (
                after[:1] in (b",", b"\n", b'"') or after == b"\r\n" if inside else before in (b"", b",", b"\n", b'"')
            )
            if not good:
                return None
            inside = not inside
        if not inside and byte in b",\n":
            fields.append(text[field:i])
            field = i + 1
        if not inside and byte == ord("\n"):
            records.append((text[start : i + 1], fields, line))
            line += text.count(b"\n", start, i + 1)
            start, fields = i + 1, []
    if inside or any(len(fields) != n_fields for _, fields, _ in records):
        return None
    texts = [fields[column] for _, fields, _ in records]
    texts = [t[1:-1] if len(t) >= 2 and t.endswith(b'"') else t for t in texts]
    if not all(t == b"" or (t.isdigit() and len(t) <= 8) for t in texts):
        return None
    hits = [int(t or 0) < len(WANTED) and WANTED[int(t or 0)] for t in texts]
    kept = [(record, line) for (record, _, line), hit in zip(records, hits, strict=True) if hit]
    return b"".join(record for record, _ in kept), [line for _, line in kept], len(records)


@pytest.fixture(autouse=True, scope="module", params=["compiled", "numpy"])
def _both_ways(request):
    """Every test runs with the compiled loop, where there is one, and without."""
    if records._scan is None and request.param == "compiled":
        pytest.skip("there was no C compiler at installation")
    patch = pytest.MonkeyPatch()
    if request.param == "numpy":
        patch.setattr(records, "_scan", None)
    yield
    patch.undo()


def agrees(text: bytes, n_fields: int, column: int) -> None:
    expected = split(text, n_fields, column)
    if expected is None:
        with pytest.raises(InputError, match=r"some/table.csv: line \d+"):
            pick(Chunk(PATH, text, 2), n_fields, WANTED, column, "item")
    else:
        picked = pick(Chunk(PATH, text, 2), n_fields, WANTED, column, "item")
        assert (picked.text, picked.lines.tolist(), picked.seen) == expected


def events(n: int = 100, **changes: bytes) -> bytes:
    """Records of five fields as in chartevents, the item third; r50=... is another record 50."""
    items = (b"220045", b"226512", b"7")
    rows = [b"%d,%d,%s,2150-01-01,x" % (10_000_000 + i, 30_000_000 + i, items[i % 3]) for i in range(n)]
    for name, row in changes.items():
        rows[int(name[1:])] = row
    return b"".join(row + b"\n" for row in rows)


@pytest.mark.parametrize(
    "row",
    [
        b"1,2,7,3,4",
        b"1,2,12345678,3,4",
        b"1,2,,3,4",
        b'1,2,"220045",3,4',
        b'1,2,"",3,4',
        b",,220045,,",
        b'"10,000",2,220045,3,4',
        b'1,2,220045,3,"a ""b"" c"',
        b'1,2,220045,3,"220045,1,2\n3,4,220046,5,6\n7"',  # the middle line looks like a record
        b'1,2,220045,3,"\n1,2,220045,3,4\n"',
        b"1,2,220045,3,\r",
        "1,2,220045,3,\u00e4\u00b5".encode(),
        "\u00e4\u00e4\u00e4,2,220045,3,4".encode(),
    ],
)
def test_a_few_other_records_among_many_of_one_width(row):
    assert split(events(r0=row, r40=row, r99=row), 5, 2) is not None
    agrees(events(r0=row, r40=row, r99=row), 5, 2)


@pytest.mark.parametrize(
    "item",
    [b"22O045", b"2200 5", b"-22004", b"+22004", b"2e0045", b"220045.0", b"123456789", b" 7", "22004\u00b5".encode()],
)
def test_what_is_no_number_is_named(item):
    text = events(r98=b"1,2,%s,3,4" % item)
    with pytest.raises(InputError, match=r"line 100: column 'item' must be a whole number; got (a text like )?'"):
        pick(Chunk(PATH, text, 2), 5, WANTED, 2, "item")


@pytest.mark.parametrize("place", [0, 3, 5])
def test_every_byte_that_is_no_digit_is_noticed(place):
    for byte in {*range(256)} - {*b"0123456789"}:
        item = bytearray(b"220045")
        item[place] = byte
        with pytest.raises(InputError):
            pick(Chunk(PATH, events(r98=b"1,2,%s,3,4" % bytes(item)), 2), 5, WANTED, 2, "item")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"r50": b"1,2,7,3", "r51": b"1,2,7,3,4,5"}, "line 52 has 4 fields, the header names 5"),
        ({"r20": b"1,2,7,3,4,5", "r80": b"2,7,3,4"}, "line 22 has 6 fields"),  # far apart, the long one first
        ({"r50": b"12,7,x,3,5"}, "line 52: column 'item' must be a whole number; got 'x'"),  # a comma moved
        ({"r50": b""}, "line 52 is empty"),
        ({"r50": b"1,2,7,3,4" + b"," * 256}, "line 52 has 261 fields"),
    ],
)
def test_short_and_long_records_that_make_up_for_each_other(changes, message):
    with pytest.raises(InputError, match=message):
        pick(Chunk(PATH, events(**changes), 2), 5, WANTED, 2, "item")


def test_line_ends_of_windows_and_a_number_at_the_very_end():
    agrees(events().replace(b"\n", b"\r\n"), 5, 2)
    agrees(b"a,7\nb,42\nc,220045\n", 2, 1)
    agrees(b"7,\n,\n", 2, 0)


FIELDS = st.one_of(
    st.sampled_from(["220045", "7", "42", "123456", "", "a", "10000001", "2150-01-01 00:00:00"]),
    st.text(st.sampled_from('ab,"\n1 \u00e9'), max_size=6),
)


@st.composite
def tables(draw):
    """CSV text as a writer makes it: quoting where it must be or everywhere, line ends of either kind."""
    n_fields = draw(st.integers(2, 6))
    column = draw(st.integers(0, n_fields - 1))
    regular = [f"{i}" * (i + 1) for i in range(n_fields)]
    rows = []
    for _ in range(draw(st.integers(1, 40))):
        unlike = draw(st.integers(0, 5)) == 0
        row = [draw(FIELDS) for _ in range(n_fields)] if unlike else list(regular)
        row[column] = draw(
            st.sampled_from(["220045", "226512", "7", "", "99999999"] if unlike else ["220045", "226512"])
        )
        rows.append(row)
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    out = io.StringIO()
    csv.writer(out, lineterminator=draw(st.sampled_from(["\n", "\r\n"])), quoting=quoting).writerows(rows)
    return out.getvalue().encode(), n_fields, column, rows


@settings(max_examples=200, deadline=None)
@given(tables())
def test_any_well_formed_table(made):
    text, n_fields, column, rows = made
    agrees(text, n_fields, column)
    if column < n_fields - 1:  # in the last column the \r of a line end belongs to the field
        expected = [row for row in rows if row[column] in ("220045", "7")]
        picked = pick(Chunk(PATH, text, 2), n_fields, WANTED, column, "item")
        assert list(csv.reader(io.StringIO(picked.text.decode(), newline=""))) == expected


PARTS = ["220045,", "7,", "1,2,", '"', '""', ",", "\n", "x", "\r\n", "1,220045,x\n", '"a\nb"', "\u00e9"]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(PARTS), max_size=60), st.integers(2, 5))
@example(["1,220045,x\n"] * 30 + ['"', "1,220045,x\n", '"'], 3)
def test_any_damaged_text(parts, n_fields):
    text = ("".join(parts) + "\n").encode()
    for column in range(n_fields):
        agrees(text, n_fields, column)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 3000), st.sampled_from(list(b'\n,"x5\r')), st.integers(0, 4))
def test_one_changed_byte_in_a_regular_table(place, byte, column):
    text = bytearray(events())
    text[place % (len(text) - 1)] = byte
    agrees(bytes(text), 5, column)


def test_a_nul_byte_names_the_line_of_its_record():
    text = b'1,220045,x\n1,7,"a\nb"\n1,220045,y\0\n'
    with pytest.raises(InputError, match="line 5: a NUL byte"):
        pick(Chunk(PATH, text, 2), 3, WANTED, 1, "item")
    assert pick(Chunk(PATH, text.replace(b"220045,y", b"9,y"), 2), 3, WANTED, 1, "item").seen == 3
