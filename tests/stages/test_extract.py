"""The stage from raw files to artifact: content, counts, same bytes, and one clear message for each fault."""

import gzip
import json
import shutil
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_tree import RawTree, rewrite

from fusionctl.data import buckets, lines
from fusionctl.data.cohort import STAY_COLUMNS
from fusionctl.data.events import EVENT_COLUMNS
from fusionctl.data.films import FILM_COLUMNS
from fusionctl.data.variables import INDEX
from fusionctl.errors import InputError
from fusionctl.settings import ExtractSettings, Runtime
from fusionctl.stages import extract
from fusionctl.workdir import Draft

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"
FILES = ["attrition.json", "diagnoses.parquet", "events.parquet", "films.parquet", "stays.parquet"]


def run(root, out, *, cxr=True, jobs=2):
    out.mkdir(parents=True)
    draft = Draft(out)
    inputs = {"mimic_root": root, "cxr_root": root / "cxr" if cxr is True else cxr}
    extract.run(draft, ExtractSettings(), inputs, runtime=Runtime(jobs=jobs))
    return draft


def tables(out):
    return {name: pl.read_parquet(out / f"{name}.parquet") for name in ("stays", "events", "diagnoses", "films")}


def small():
    tree = RawTree()
    tree.film("dicom-a", subject_id=10000001, study_id=50000001)
    tree.add("cxr/mimic-cxr-2.0.0-chexpert", subject_id=10000001, study_id=50000001, Edema="-1.0", Fracture="0.0")
    return tree


def check_attrition(entries):
    for earlier, later in zip(entries, entries[1:], strict=False):
        assert later["table"] != earlier["table"] or later["before"] == earlier["kept"]
    for entry in entries:
        assert entry["kept"] == entry["before"] - entry["dropped"] >= 0 <= entry["dropped"]
        assert set(entry) == {"table", "rule", "unit", "before", "dropped", "kept"}


def last_kept(entries):
    return {entry["table"]: entry["kept"] for entry in entries}


@pytest.mark.parametrize("suffix", [".csv.gz", ".csv"])
def test_the_smallest_tree(tmp_path, suffix):
    root = small().write(tmp_path / "raw", suffix=suffix)
    draft = run(root, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == FILES
    found = tables(tmp_path / "out")
    stay = found["stays"].row(0, named=True)
    assert stay == {
        **{"subject_id": 10000001, "hadm_id": 20000001, "stay_id": 30000001},
        **{"intime": datetime(2150, 3, 1, 2), "outtime": datetime(2150, 3, 3, 14)},
        **{"admittime": datetime(2150, 3, 1), "dischtime": datetime(2150, 3, 6), "los_hours": 60.0},
        **{"age": 60.0, "sex": "F", "race": "OTHER", "care_unit": "MICU"},
        **{"died_in_hospital": False, "death_time": None},
    }
    assert found["events"].rows() == [(30000001, 1.0, INDEX["Heart Rate"], 80.0, 1.0)]
    assert found["diagnoses"].rows() == [(20000001, "I10", 10)]
    film = found["films"].row(0, named=True)
    assert film["path"] == "files/p10/p10000001/s50000001/dicom-a.jpg" and film["Edema"] == -1
    assert film["study_time"] == datetime(2150, 3, 1, 5, 30, 0, 323000)
    for name, schema in (("stays", STAY_COLUMNS), ("events", EVENT_COLUMNS), ("films", FILM_COLUMNS)):
        assert found[name].schema == pl.Schema(schema)
    entries = json.loads((tmp_path / "out/attrition.json").read_text())
    check_attrition(entries)
    assert last_kept(entries) == {"icustays": 1, "chartevents": 1, "labevents": 0, "diagnoses_icd": 1, "films": 1}
    assert draft.rows == {"stays": 1, "events": 1, "coma_totals": 0, "diagnoses": 1, "films": 1}
    assert draft.facts["layout"] == "v2/v3" and draft.facts["sensitivity"] == "credentialed"


def test_no_films_without_a_film_root(tmp_path):
    root = small().write(tmp_path / "raw")
    run(root, tmp_path / "out", cxr=None)
    films = tables(tmp_path / "out")["films"]
    assert films.height == 0 and films.schema == pl.Schema(FILM_COLUMNS)


def test_layout_v1(tmp_path):
    root = small().write(tmp_path / "raw")
    (root / "core").mkdir()
    for table in ("patients", "admissions"):
        shutil.move(root / f"hosp/{table}.csv.gz", root / f"core/{table}.csv.gz")
    rewrite(root / "core/admissions.csv.gz", lambda text: text.replace(",race,", ",ethnicity,"))
    draft = run(root, tmp_path / "out")
    assert draft.facts["layout"] == "v1"
    assert tables(tmp_path / "out")["stays"]["race"].to_list() == ["OTHER"]


def test_v3_and_synthetic_are_said(tmp_path):
    tree = small()
    tree.rows["hosp/patients"][0]["anchor_year_group"] = "2020 - 2022"
    root = tree.write(tmp_path / "raw")
    for folder in (root, root / "cxr"):
        (folder / "SYNTHETIC.txt").write_text("")
    facts = run(root, tmp_path / "out").facts
    assert (facts["layout"], facts["sensitivity"]) == ("v3", "synthetic")
    assert set(facts["sources"].values()) == {"synthetic"}


def test_stays_without_events_leave_with_their_diagnoses(tmp_path):
    tree = small()
    tree.add_stay(2)
    tree.add("hosp/diagnoses_icd", subject_id=10000002, hadm_id=20000002, seq_num=1, icd_code="E11", icd_version=10)
    tree.chart(2, 220045, 400, hour=3)  # implausible: nothing is left of the stay
    run(tree.write(tmp_path / "raw"), tmp_path / "out")
    found = tables(tmp_path / "out")
    assert found["stays"]["stay_id"].to_list() == [30000001]
    assert found["diagnoses"]["hadm_id"].to_list() == [20000001]
    entries = json.loads((tmp_path / "out/attrition.json").read_text())
    assert {e["rule"]: e["dropped"] for e in entries if e["table"] == "icustays"}["nothing was measured"] == 1


def many(n, seed=0):
    """A tree of n stays with a few hundred rows each kind, in a scrambled order."""
    import random

    rng = random.Random(seed)
    tree = small()
    for i in range(2, n + 1):
        tree.add_stay(i)
        for _ in range(20):
            tree.chart(i, rng.choice([220045, 223761, 1]), rng.randint(40, 200), hour=rng.randint(0, 80))
            tree.chart(i, rng.choice([220739, 223900, 223901]), rng.choice(["None", "Oriented", "x, y"]), hour=4)
            tree.lab(i, 50931, rng.randint(30, 300), hour=rng.randint(0, 130), hadm_id=rng.choice(["", 20000000 + i]))
    for rows in tree.rows.values():
        rng.shuffle(rows)
    return tree


def test_same_input_same_bytes_however_it_is_cut(tmp_path, monkeypatch):
    root = many(30).write(tmp_path / "raw")
    run(root, tmp_path / "first")
    monkeypatch.setattr(lines, "_PIECE", 5000)
    monkeypatch.setattr("fusionctl.data.tables._BATCH_PIECES", 3)
    monkeypatch.setattr(buckets, "_HELD", 100)
    run(root, tmp_path / "second", jobs=1)
    for name in FILES:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes(), name


def test_many_buckets_have_the_events_of_one(tmp_path, monkeypatch):
    root = many(30).write(tmp_path / "raw")
    run(root, tmp_path / "one")
    monkeypatch.setattr(buckets, "STAYS_PER_BUCKET", 7)
    run(root, tmp_path / "many")
    one, some = (tables(tmp_path / name)["events"] for name in ("one", "many"))
    assert one.equals(some) and one.height > 500
    assert one.equals(one.sort("stay_id", "hours", "variable", "stored_hours", "value"))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_counts_add_up_on_random_trees(tmp_path_factory, seed):
    tmp_path = tmp_path_factory.mktemp("tree")
    tree = many(4, seed)
    run(tree.write(tmp_path / "raw"), tmp_path / "out")
    entries = json.loads((tmp_path / "out/attrition.json").read_text())
    check_attrition(entries)
    kept = last_kept(entries)
    found = tables(tmp_path / "out")
    totals = found["events"].filter(pl.col("variable") == INDEX["Glascow coma scale total"]).height
    assert kept["chartevents"] + kept["labevents"] + totals == found["events"].height
    assert kept["icustays"] == found["stays"].height and kept["diagnoses_icd"] == found["diagnoses"].height
    first = {e["table"]: e["before"] for e in reversed(entries)}
    assert first["chartevents"] == len(tree.rows["icu/chartevents"])
    assert first["labevents"] == len(tree.rows["hosp/labevents"])


def test_progress_ends_at_the_size_of_the_files(tmp_path):
    root = many(5).write(tmp_path / "raw")
    seen = []
    (tmp_path / "out").mkdir()
    runtime = Runtime(progress=lambda label, done, total: seen.append((label, done, total)))
    extract.run(Draft(tmp_path / "out"), ExtractSettings(), {"mimic_root": root, "cxr_root": None}, runtime=runtime)
    size = sum((root / name).stat().st_size for name in ("icu/chartevents.csv.gz", "hosp/labevents.csv.gz"))
    assert seen[-1] == ("chartevents and labevents", size, size)


def fault(root, tmp_path, *, cxr=True):
    with pytest.raises(InputError) as caught:
        run(root, tmp_path / "faulty", cxr=cxr)
    assert caught.value.exit_code == 3 and caught.value.hint
    for identifier in ("10000001", "20000001", "30000001"):
        assert identifier not in str(caught.value)
    return caught.value.message


def cell(table, line, column, value):
    """Put another value into one field of a table."""

    def change(text):
        rows = [line.split(",") for line in text.split("\n")]
        rows[line - 1][rows[0].index(column)] = value
        return "\n".join(map(",".join, rows))

    return table, change


def renamed(table, old, new):
    return table, lambda text: text.replace(old, new, 1)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cell("icu/icustays", 2, "intime", "noon"), "line 2: column 'intime' must be a time"),
        (cell("icu/icustays", 2, "stay_id", ""), "line 2: column 'stay_id' must be a whole number; got nothing"),
        (cell("hosp/patients", 2, "anchor_age", "old"), "line 2: column 'anchor_age' must be a number; got 'old'"),
        (cell("hosp/patients", 2, "dod", "2150"), "line 2: column 'dod' must be a date"),
        (cell("hosp/admissions", 2, "deathtime", "?"), "line 2: column 'deathtime' must be a time"),
        (cell("icu/chartevents", 3, "charttime", "2150-13-01 00:00:00"), "line 3: column 'charttime' must be a time"),
        (cell("icu/chartevents", 3, "valuenum", "high"), "line 3: column 'valuenum' must be a number; got 'high'"),
        (cell("icu/chartevents", 3, "hadm_id", "abc"), "line 3: column 'hadm_id' must be a whole number"),
        (cell("icu/chartevents", 3, "itemid", "heart"), "line 3: column 'itemid' must be a whole number; got 'heart'"),
        (cell("icu/chartevents", 3, "storetime", "soon"), "line 3: column 'storetime' must be a time"),
        (cell("hosp/labevents", 3, "subject_id", "x"), "line 3: column 'subject_id' must be a whole number"),
        (cell("hosp/diagnoses_icd", 2, "icd_version", "X"), "column 'icd_version' must be a whole number; got 'X'"),
        (cell("cxr/mimic-cxr-2.0.0-metadata", 2, "StudyTime", "dawn"), "line 2: column 'StudyTime' must be a number"),
        (cell("cxr/mimic-cxr-2.0.0-chexpert", 2, "Edema", "yes"), "line 2: column 'Edema' must be a number; got 'yes'"),
        (renamed("icu/icustays", "stay_id", "stayid"), "column 'stay_id' is missing; like it: 'stayid'"),
        (
            renamed("icu/chartevents", "valuenum", "valuenumber"),
            "'valuenum' is missing; like it: 'valueuom', 'valuenumber'",
        ),
        (renamed("hosp/labevents", "charttime", "storetime"), "column 'charttime' is missing"),
        (renamed("hosp/labevents", "specimen_id", "itemid"), "column 'itemid' is there 2 times"),
        (("icu/chartevents", lambda text: text + "10000001,20000001\n"), "line 4 has 2 fields, the header names 11"),
        (("icu/icustays", lambda text: text.partition("\n")[0] + "\n"), "the table has a header but no rows"),
        (("icu/icustays", lambda text: ""), "the file is empty"),
        (("icu/icustays", lambda text: text + text.split("\n")[1] + "\n"), "line 3: stay_id must be unique"),
        (("hosp/admissions", lambda text: text + text.split("\n")[1] + "\n"), "line 3: hadm_id must be unique"),
        (("hosp/patients", lambda text: text + text.split("\n")[1] + "\n"), "line 3: subject_id must be unique"),
        (
            ("icu/chartevents", lambda text: text.replace(",80,80,", ",80,80,\xb0").encode("latin-1")),
            "line 2: not UTF-8",
        ),
        (("icu/chartevents", lambda text: text.encode("utf-16")), "line 1: the header is not UTF-8"),
        (("hosp/admissions", lambda text: text.replace("OTHER", "\xc9").encode("latin-1")), "line 2: not UTF-8"),
    ],
)
def test_faults_in_the_tables(tmp_path, damage, message):
    tree = small()
    tree.chart(1, 220045, 81, hour=4)
    tree.lab(1, 50931, 100, hour=4)
    root = tree.write(tmp_path / "raw")
    table, change = damage
    rewrite(root / f"{table}.csv.gz", change)
    found = fault(root, tmp_path)
    assert message in found and found.startswith(str(root / f"{table}.csv.gz"))


def test_faults_of_files(tmp_path):
    root = small().write(tmp_path / "raw")
    path = root / "icu/chartevents.csv.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert f"{path}: the file ends in the middle of its compressed data" in fault(root, tmp_path)
    path.unlink()
    path.mkdir()
    shutil.rmtree(tmp_path / "faulty")
    assert f"{path}: Is a directory" in fault(root, tmp_path)
    path.rmdir()
    shutil.rmtree(tmp_path / "faulty")
    assert "table chartevents is missing" in fault(root, tmp_path)
    path.write_bytes(gzip.decompress(whole))
    shutil.rmtree(tmp_path / "faulty")
    assert "is not gzip-compressed" in fault(root, tmp_path)
    path.write_bytes(whole)
    shutil.rmtree(tmp_path / "faulty")
    assert "mimic-cxr-2.0.0-metadata.csv.gz is missing" in fault(root, tmp_path, cxr=root)


def test_a_fault_deep_in_a_large_table_is_found_on_the_way(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "_PIECE", 3000)
    tree = many(30)
    tree.rows["icu/chartevents"][700]["charttime"] = "never"
    tree.rows["icu/chartevents"][700]["itemid"] = 220045
    assert "line 702: column 'charttime' must be a time" in fault(tree.write(tmp_path / "raw"), tmp_path)


def test_tables_that_do_not_belong_together(tmp_path):
    tree = small()
    for row in tree.rows["icu/chartevents"]:
        row["hadm_id"] = 29999999
    assert "no ICU stay is left" in fault(tree.write(tmp_path / "raw"), tmp_path)


@pytest.mark.skipif(not SHARED.is_dir(), reason="shared data are not here")
def test_the_open_demo_has_the_stays_and_labels_of_the_reference(tmp_path):
    run(SHARED / "mimic-iv-demo/mimic-iv", tmp_path / "out", cxr=None)
    stays = tables(tmp_path / "out")["stays"]
    truth = SHARED / "mimic-iv-demo/truth"
    samples = pl.read_csv(truth / "in-hospital-mortality_samples.csv")
    long = stays.filter(pl.col("los_hours") >= 48)
    mine = dict(long.select("stay_id", pl.col("died_in_hospital").cast(pl.Int64)).rows())
    assert mine == dict(samples.select("stay_id", "y_true").rows())
    whole = pl.read_csv(truth / "phenotyping_samples.csv")
    assert set(whole["stay_id"]) == set(stays["stay_id"])
    periods = whole.join(stays, on="stay_id").select((pl.col("period_hours") - pl.col("los_hours")).abs().max())
    assert periods.item() < 1e-6
