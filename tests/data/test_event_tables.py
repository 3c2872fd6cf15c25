"""Both tables of events into the buckets, by one process or several."""

import gzip

import polars as pl
import pytest

from fusionctl.data import event_tables, lines, mimic, tables
from fusionctl.data.buckets import Buckets
from fusionctl.data.cohort import STAY_COLUMNS
from fusionctl.data.event_tables import LARGE_BYTES, read_events
from fusionctl.data.events import EVENT_COLUMNS
from fusionctl.errors import InputError

CHART = "subject_id,hadm_id,stay_id,charttime,storetime,itemid,value,valuenum,valueuom,warning"
LAB = "subject_id,hadm_id,itemid,charttime,storetime,value,valuenum"


def stays(n=6):
    ids = range(n)
    columns = {
        **{"subject_id": [1 + i for i in ids], "hadm_id": [100 + i for i in ids], "stay_id": [1000 + i for i in ids]},
        **dict.fromkeys(("intime", "admittime"), ["2150-01-01 00:00:00"] * n),
        **dict.fromkeys(("outtime", "dischtime"), ["2150-01-05 00:00:00"] * n),
    }
    frame = pl.DataFrame(columns).with_columns(pl.selectors.string().str.to_datetime())
    missing = [pl.lit(None, kind).alias(name) for name, kind in STAY_COLUMNS.items() if name not in frame.columns]
    return frame.with_columns(missing).select(list(STAY_COLUMNS))


def chart_rows(n=3000):
    time = "2150-01-01 {:02}:00:00"
    return [
        f"{1 + i % 6},{100 + i % 6},{1000 + i % 6},{time.format(i % 24)},,{220045 if i % 3 else 5},{i},{i % 300},bpm,0"
        for i in range(n)
    ]


def write(folder, chart, n_lab=500):
    lab = [f"{1 + i % 6},{100 + i % 6},50931,2150-01-02 00:00:00,,{i},{100 + i}" for i in range(n_lab)]
    opened = []
    for name, header, rows, source in (("chartevents", CHART, chart, "chart"), ("labevents", LAB, lab, "lab")):
        path = folder / f"{name}.csv.gz"
        path.write_bytes(gzip.compress("\n".join([header, *rows, ""]).encode()))
        opened.append((tables.open_table(path, mimic.COLUMNS[name]), source))
    return opened


def read(opened, folder, *, jobs=1):
    folder.mkdir()
    seen = []
    counted = read_events(
        opened, stays(), folder, protocol="paper", jobs=jobs, progress=lambda *state: seen.append(state)
    )
    events = pl.concat(Buckets(folder, stays()["stay_id"], EVENT_COLUMNS).drain()).sort(list(EVENT_COLUMNS))
    assert not list(folder.iterdir())
    return events, [entry for table in counted for entry in table.rows()], seen


def test_several_processes_give_what_one_gives(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "_PIECE", 4000)
    opened = write(tmp_path, chart_rows())
    alone = read(opened, tmp_path / "one")
    assert alone[0].height == 2000 + 500 and alone[1][0]["before"] == 3000
    monkeypatch.setattr(event_tables, "LARGE_BYTES", 0)
    monkeypatch.setattr(event_tables, "THREADS_OF_SHARE", 1)
    shared = read(opened, tmp_path / "two", jobs=2)
    assert shared[0].equals(alone[0]) and shared[1] == alone[1]


def test_shares_of_a_file_are_its_chunks_once_each(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "_PIECE", 700)
    path = write(tmp_path, [*chart_rows(200), '1,100,1000,,,5,"a\nb",,,0', *chart_rows(100)])[0][0].path
    whole = {(c.line, c.text) for c in lines.chunks(path)}
    shares = [{(c.line, c.text) for c in lines.chunks(path, share=(i, 3))} for i in range(3)]
    assert set.union(*shares) == whole and sum(map(len, shares)) == len(whole) > 20


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_fault_is_named_with_its_line(tmp_path, monkeypatch, jobs):
    monkeypatch.setattr(lines, "_PIECE", 4000)
    if jobs > 1:
        monkeypatch.setattr(event_tables, "LARGE_BYTES", 0)
        monkeypatch.setattr(event_tables, "THREADS_OF_SHARE", 1)
    rows = chart_rows()
    rows[1234] += ",extra"
    with pytest.raises(InputError, match=r"chartevents.csv.gz: line 1236 has 11 fields, the header names 10") as caught:
        read(write(tmp_path, rows), tmp_path / "work", jobs=jobs)
    assert "SHA256SUMS" in caught.value.hint


def test_progress_ends_at_the_size_of_both_files(tmp_path):
    opened = write(tmp_path, chart_rows())
    *_, seen = read(opened, tmp_path / "work")
    total = sum(table.path.stat().st_size for table, _ in opened)
    assert seen[-1] == ("chartevents and labevents", total, total) and total < LARGE_BYTES
