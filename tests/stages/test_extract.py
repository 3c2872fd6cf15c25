"""The stage from raw files to artifact: content, counts, same bytes, and one clear message for each fault."""

import gzip
import json
import logging
import random
import shutil
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_tree import LAYOUTS, RawTree, at, rewrite

from fusionctl.data import buckets, lines, synth
from fusionctl.data.cohort import STAY_COLUMNS
from fusionctl.data.events import EVENT_COLUMNS
from fusionctl.data.films import FILM_COLUMNS
from fusionctl.data.variables import INDEX
from fusionctl.errors import InputError
from fusionctl.settings import ExtractSettings, Runtime
from fusionctl.stages import extract
from fusionctl.workdir import Draft

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"
FILES = ["attrition.json", "diagnoses.parquet", "events.parquet", "films.parquet", "stays.parquet", "tables.json"]


def run(root, out, *, cxr=True, jobs=2, **options):
    out.mkdir(parents=True)
    draft = Draft(out)
    inputs = {"mimic_root": root, "cxr_root": root / "cxr" if cxr is True else cxr}
    extract.run(draft, ExtractSettings(**options), inputs, runtime=Runtime(jobs=jobs))
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


def check_sums(entries, found):
    """What is kept of the raw tables is what the artifact holds, by protocol paper."""
    check_attrition(entries)
    kept = last_kept(entries)
    totals = found["events"].filter(pl.col("variable") == INDEX["Glascow coma scale total"]).height
    assert kept["chartevents"] + kept["labevents"] + totals == found["events"].height
    assert kept["icustays"] == found["stays"].height and kept["diagnoses_icd"] == found["diagnoses"].height
    assert kept.get("films", 0) == found["films"].height


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
    assert last_kept(entries) == {
        "icustays": 1,
        "chartevents": 1,
        "labevents": 0,
        "diagnoses_icd": 1,
        "films": 1,
        "chexpert": 1,
    }
    assert draft.rows == {"stays": 1, "events": 1, "coma_totals": 0, "diagnoses": 1, "films": 1}
    assert draft.facts["layout"] == "v2/v3" and draft.facts["sensitivity"] == "credentialed"
    shown = json.loads((tmp_path / "out/tables.json").read_text())
    assert [table["title"] for table in shown] == ["What each rule left out"]


def test_no_films_without_a_film_root(tmp_path):
    root = small().write(tmp_path / "raw")
    run(root, tmp_path / "out", cxr=None)
    films = tables(tmp_path / "out")["films"]
    assert films.height == 0 and films.schema == pl.Schema(FILM_COLUMNS)


SAID = {"v1.0": "v1", "v2.0": "v2", "v2.2": "v2/v3", "v3.1": "v3"}


@pytest.mark.parametrize("suffix", [".csv.gz", ".csv"])
@pytest.mark.parametrize("release", LAYOUTS)
def test_every_layout_gives_the_same_rows_and_says_which_it_is(tmp_path, caplog, release, suffix):
    tree = many(5)
    run(tree.write(tmp_path / "usual"), tmp_path / "first")
    caplog.clear()
    with caplog.at_level(logging.INFO, "fusionctl"):
        draft = run(tree.write(tmp_path / "raw", layout=release, suffix=suffix), tmp_path / "out")
    assert draft.facts["layout"] == SAID[release]
    evidence = draft.facts["layout_evidence"]
    assert ("core/" in evidence) == ("ethnicity" in evidence) == (release == "v1.0")
    assert ("without caregiver_id" in evidence) == (release in ("v1.0", "v2.0"))
    assert f"extract: MIMIC-IV {SAID[release]} ({evidence}), credentialed data" in caplog.text
    for name in FILES:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "out" / name).read_bytes(), name
    assert tables(tmp_path / "out")["events"].height > 100


@pytest.mark.parametrize(("layout", "said"), [("v1", "v1"), ("v2", "v2/v3"), ("v3", "v3")])
def test_synthetic_trees_of_every_layout(tmp_path, caplog, layout, said):
    synth.write_tree(tmp_path / "raw", stays=30, layout=layout, seed=1, films=False)
    draft = run(tmp_path / "raw/mimic-iv", tmp_path / "out", cxr=None)
    assert (draft.facts["layout"], draft.facts["sensitivity"]) == (said, "synthetic")
    found = tables(tmp_path / "out")
    assert found["stays"].height >= 10 and found["events"]["variable"].n_unique() >= 16
    assert set(found["stays"]["race"]) - {""}
    entries = json.loads((tmp_path / "out/attrition.json").read_text())
    check_sums(entries, found)
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]  # it has d_labitems


def warnings_of(caplog):
    """What was warned of, whatever level an earlier test left the logger at."""
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def test_v3_without_the_names_of_lab_items_is_warned_of(tmp_path, caplog):
    run(small().write(tmp_path / "v3", layout="v3.1"), tmp_path / "a")
    nothing = "extract: none of 1 rows of labevents is kept; attrition.json has the reasons"
    without = "extract: without hosp/d_labitems v3.0, whose lab item ids are wrong, cannot be told from v3.1"
    assert warnings_of(caplog) == [without, nothing]
    caplog.clear()
    tree = small()
    tree.lab_items()
    run(tree.write(tmp_path / "named", layout="v3.1"), tmp_path / "b")
    run(small().write(tmp_path / "v2", layout="v2.2"), tmp_path / "c")
    assert warnings_of(caplog) == [nothing, nothing]


def test_v3_0_is_refused_by_its_lab_items_and_by_its_list_of_changes(tmp_path):
    tree = small()
    tree.lab_items()
    tree.rows["hosp/d_labitems"][3] |= {"label": "Bilirubin"}
    root = tree.write(tmp_path / "raw", layout="v3.1")
    assert f"{root}/hosp/d_labitems.csv.gz: line 5: item 50931 must be glucose in blood; it is bilirubin in blood" in (
        found := fault(root, tmp_path)
    )
    assert "MIMIC-IV v3.0 has wrong item ids in labevents" in found
    shutil.rmtree(tmp_path / "faulty")
    listed = small().write(tmp_path / "listed", layout="v3.1")
    (listed / "CHANGELOG.txt").write_text("MIMIC-IV v3.0\n\nMIMIC-IV v2.2\n")
    assert "its list of changes ends with v3.0" in fault(listed, tmp_path)


def test_labels_of_the_other_labeller_and_of_the_radiologists(tmp_path):
    tree = small()
    tree.film("dicom-b", subject_id=10000001, study_id=50000002, StudyTime=60000.0)
    root = tree.write(tmp_path / "raw")
    path = root / "cxr/mimic-cxr-2.0.0-negbio.csv.gz"
    shutil.copy(root / "cxr/mimic-cxr-2.0.0-chexpert.csv.gz", path)
    rewrite(path, lambda text: text.replace("-1.0", "1.0"))
    run(root, tmp_path / "a", labels="negbio")
    films = tables(tmp_path / "a")["films"]
    assert films["labelled_by"].to_list() == ["negbio", ""] and films["Edema"][0] == 1
    names = tree.text("cxr/mimic-cxr-2.0.0-chexpert").splitlines()[0].split(",")[2:]
    header = ",".join(["study_id", *names]).replace("Lung Opacity", "Airspace Opacity")
    row = ",".join(["50000002", *("1.0" if n == "Lung Opacity" else "" for n in names)])
    (root / "cxr/mimic-cxr-2.1.0-test-set-labeled.csv").write_text(f"{header}\n{row}\n")
    run(root, tmp_path / "b")
    films = tables(tmp_path / "b")["films"]
    assert films["labelled_by"].to_list() == ["chexpert", "radiologist"]
    assert films["Edema"].fill_nan(None).to_list() == [-1, None]
    assert films["Lung Opacity"].fill_nan(None).to_list() == [None, 1]


def test_legacy_from_raw_rows_to_events(tmp_path):
    """The quirks that need the whole stage: who wins at one time, which stay, which labs, nothing derived."""
    tree = small()
    tree.add_stay(2, subject=1, intime=at(0, 10), outtime=at(60, 10))
    tree.rows["hosp/admissions"][1] |= {"admittime": at(0, 10), "dischtime": at(100, 10)}
    tree.chart(1, 220045, 100, hour=5, stored=7)
    tree.chart(1, 220045, 98, hour=5, stored=6)
    tree.chart(1, 226707, 70, hour=5)
    tree.chart(1, 220045, 999, hour=6)
    for item, text in ((220739, "None"), (223900, "Oriented"), (223901, "Obeys Commands"), (223951, "Brisk")):
        tree.chart(1, item, text, hour=8)
    tree.lab(1, 51478, 250, hour=9)
    tree.lab(1, 50931, 130, hour=9, hadm_id="")
    tree.lab(1, 50931, 131, hour=9 * 24 + 10)  # of admission 1, drawn during the second stay
    root = tree.write(tmp_path / "raw")
    found = {}
    for protocol in ("paper", "legacy"):
        draft = run(root, tmp_path / protocol, protocol=protocol)
        events = tables(tmp_path / protocol)["events"]
        assert events.schema == pl.Schema(EVENT_COLUMNS) and draft.rows["events"] == events.height
        assert draft.rows["coma_totals"] == (protocol == "paper")
        found[protocol] = [(s - 30000000, h, int(v), value) for s, h, v, value, _ in events.rows()]
    rate, glucose, height = (INDEX[name] for name in ("Heart Rate", "Glucose", "Height"))
    assert [e for e in found["paper"] if e[2] == rate] == [(1, 1, rate, 80), (1, 3, rate, 98), (1, 3, rate, 100)]
    assert [e[3] for e in found["legacy"] if e[2] == rate] == [80, 100, 98, 999]
    assert [e[3] for e in found["paper"] if e[2] == height] == [pytest.approx(177.8)]
    assert [e[3] for e in found["legacy"] if e[2] == height] == [70]
    assert [e for e in found["paper"] if e[2] == glucose] == [(1, 7, glucose, 130), (2, 10, glucose, 131)]
    assert [e for e in found["legacy"] if e[2] == glucose] == [
        *((1, 7, glucose, 250), (1, 224, glucose, 131), (2, 10, glucose, 131))
    ]
    refill = INDEX["Capillary refill rate"]
    assert [len([e for e in found[p] if e[2] == refill]) for p in ("paper", "legacy")] == [1, 0]
    eyes = INDEX["Glascow coma scale eye opening"]
    assert [e[3] for e in found["legacy"] if e[2] == eyes] == [e[3] for e in found["paper"] if e[2] == eyes] == [4]


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


def wild(seed):
    """A small tree in which anything is missing, foreign, twice or out of its range."""
    rng = random.Random(seed)

    def maybe(value, *others, share=0.2):
        return rng.choice(others or ("",)) if rng.random() < share else value

    tree = small()
    for n in range(2, 9):
        same_patient, same_admission = rng.random() < 0.4, rng.random() < 0.3
        subject = rng.randrange(2, n) if same_patient and n > 2 else None
        begin = rng.randint(1, 400)
        times = {"intime": maybe(at(begin)), "outtime": maybe(at(begin + rng.choice([-1, 0, 30, 90])))}
        units = {"last_careunit": maybe("MICU", "SICU", "")}
        tree.add_stay(n, subject=subject, admission=subject if same_admission else None, **times, **units)
    for patient in tree.rows["hosp/patients"][1:]:
        patient |= {"anchor_age": maybe(40, 3, ""), "anchor_year": maybe(2150, 2160, "")}
    for admission in tree.rows["hosp/admissions"][1:]:
        admission |= {"admittime": maybe(at(0)), "dischtime": maybe(at(500)), "deathtime": maybe("", at(50), at(700))}
    items = [220045, 223761, 223835, 226707, 220739, 223900, 223901, 223951, 1]
    texts = [*range(0, 200, 17), "None", "Oriented", "Obeys Commands", "Brisk", "x, y", "", "ERROR"]
    for n in rng.choices(range(1, 10), k=150):
        ids = {"hadm_id": maybe(20000000 + n, "", 20000099), "stay_id": maybe(30000000 + n, "", 30000001)}
        when = {"charttime": maybe(at(rng.randint(0, 500)), "", share=0.1), "storetime": maybe(at(rng.randint(0, 500)))}
        tree.chart(n, rng.choice(items), rng.choice(texts), hour=4, **ids, **(when if rng.random() < 0.7 else {}))
        whose = {"subject_id": maybe(10000000 + n, ""), "hadm_id": maybe(20000000 + n, "", share=0.5)}
        number = maybe(rng.randint(5, 300))
        tree.lab(n, rng.choice([50931, 50820, 51478, 50912]), number, hour=rng.randint(0, 500), **whose)
        code = {"icd_code": maybe("N179"), "icd_version": maybe(10, 9, 11, "")}
        tree.add("hosp/diagnoses_icd", subject_id=1, hadm_id=maybe(20000000 + n, "", 20000099), seq_num=1, **code)
    for n in range(9):
        day = {"StudyDate": maybe(21500301, "", 21501399), "StudyTime": maybe(53000.3, "", 250000)}
        tree.film(f"dicom-{n}", subject_id=10000000 + n, study_id=50000000 + n, **day)
    for rows in tree.rows.values():
        rng.shuffle(rows)
    return tree


@pytest.mark.parametrize("protocol", ["paper", "legacy"])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_nothing_is_lost_without_a_count_on_random_trees(tmp_path_factory, protocol, seed):
    tmp_path = tmp_path_factory.mktemp("tree")
    tree = wild(seed)
    draft = run(tree.write(tmp_path / "raw"), tmp_path / "out", protocol=protocol)
    entries = json.loads((tmp_path / "out/attrition.json").read_text())
    found = tables(tmp_path / "out")
    check_attrition(entries)
    if protocol == "paper":
        check_sums(entries, found)
        assert draft.rows["coma_totals"] == found["events"].filter(pl.col("variable") == 5).height
    else:  # a row may count in two stays, never in none
        kept = last_kept(entries)
        assert kept["chartevents"] + kept["labevents"] <= found["events"].height
        assert kept["icustays"] == found["stays"].height
    assert set(found["events"]["stay_id"]) == set(found["stays"]["stay_id"])
    first = {e["table"]: e["before"] for e in reversed(entries)}
    raw = {name.split("/")[1]: len(rows) for name, rows in tree.rows.items() if not name.startswith("cxr")}
    of = {"icustays", "chartevents", "labevents", "diagnoses_icd"}
    assert {name: first[name] for name in of} == {name: raw[name] for name in of}
    assert first["films"] == len(tree.rows["cxr/mimic-cxr-2.0.0-metadata"])
    shown = json.loads((tmp_path / "out/tables.json").read_text())[0]
    assert [row[0] for row in shown["rows"] if row[0]] == list(dict.fromkeys(e["table"] for e in entries))


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
        (
            cell("icu/icustays", 2, "stay_id", ""),
            "line 2: column 'stay_id' must be a whole number above 0; got nothing",
        ),
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
        (
            cell("cxr/mimic-cxr-2.0.0-chexpert", 2, "Edema", "yes"),
            "line 2: column 'Edema' must be 1, 0, -1 or empty; got 'yes'",
        ),
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
