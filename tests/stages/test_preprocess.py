"""Preprocess on hand-made tables: what comes out is written down number by number."""

import json
import logging
import os
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from fusionctl.data import guards, splits
from fusionctl.data.phenotypes import phenotypes
from fusionctl.data.variables import CHEXPERT_LABELS, INDEX, VARIABLES
from fusionctl.errors import InputError, LeakError, UsageError
from fusionctl.settings import PreprocessSettings, Runtime
from fusionctl.stages import preprocess
from fusionctl.workdir import Artifact, Draft

INTIME = datetime(2150, 3, 1, 12)
HEART_RATE, GLUCOSE, EYES = INDEX["Heart Rate"], INDEX["Glucose"], INDEX["Glascow coma scale eye opening"]
# By the frozen hash: training patients 1, 2, 3, 5, ..., validation 24, ..., test 4, 7, ...
TRAIN = [i for i in range(1, 60) if splits.assign([i])[0] == "train"]
VAL = [i for i in range(1, 60) if splits.assign([i])[0] == "val"]
TEST = [i for i in range(1, 60) if splits.assign([i])[0] == "test"]


def stay(stay_id, subject_id, hours=60.0, died=False):
    return {
        "subject_id": subject_id, "hadm_id": stay_id + 50, "stay_id": stay_id, "intime": INTIME,
        "outtime": INTIME + timedelta(hours=hours), "admittime": INTIME, "dischtime": INTIME + timedelta(days=9),
        "los_hours": hours, "age": 70.0, "sex": "F", "race": "UNKNOWN", "care_unit": "MICU",
        "died_in_hospital": died, "death_time": None,
    }  # fmt: skip


def event(stay_id, hours, variable, value):
    return {"stay_id": stay_id, "hours": hours, "variable": variable, "value": value, "stored_hours": hours + 1}


def film(subject_id, hours, view="AP", name="a", labels=float("nan")):
    study = 1000 + subject_id
    return {
        "subject_id": subject_id, "study_id": study, "dicom_id": name,
        "path": f"files/p{subject_id}/s{study}/{name}{hours}.jpg",
        "view": view, "study_time": INTIME + timedelta(hours=hours), "labelled_by": "chexpert",
        **dict.fromkeys(CHEXPERT_LABELS, labels),
    }  # fmt: skip


STAYS = [
    stay(101, TRAIN[0], died=True),
    stay(102, TRAIN[1]),
    stay(103, VAL[0]),
    stay(104, TEST[0], died=True),
    stay(105, TRAIN[2], hours=47.9),
    stay(106, TRAIN[3]),  # its only event is too late
    stay(107, TEST[1]),
]
EVENTS = [
    event(101, -3.0, HEART_RATE, 200.0),
    event(101, 1.0, HEART_RATE, 80.0),
    event(101, 3.5, HEART_RATE, 90.0),
    event(101, 3.9, HEART_RATE, 100.0),
    event(101, 47.0, EYES, 4.0),
    event(101, 48.5, HEART_RATE, 0.0),
    event(102, 48.0, GLUCOSE, 300.0),
    event(103, 0.5, HEART_RATE, 60.0),
    event(104, 10.0, HEART_RATE, 61.0),
    event(105, 10.0, HEART_RATE, 62.0),
    event(106, 49.0, HEART_RATE, 63.0),
    event(107, 20.0, HEART_RATE, 64.0),
]
FILMS = [  # in the order of extract: by patient, then time
    film(TRAIN[0], 10),  # row 0: in the window, but not the last
    film(TRAIN[0], 40, labels=1.0),  # row 1: paired with 101
    film(TRAIN[0], 50),  # row 2: after the window
    film(TRAIN[1], 5, view="LATERAL"),  # row 3
    film(TEST[0], -1),  # row 4: before the stay
    film(TEST[1], 48),  # row 5: paired with 107
    film(VAL[0], 47),  # row 6: paired with 103
    film(VAL[0], 90),  # row 7
    film(TRAIN[-1], 0, view="PA"),  # row 8: of a patient without a stay
]
DIAGNOSES = [(151, "N179", 10), (151, "I10", 10), (152, "5849", 9), (153, "Z3800", 10), (154, "R6521", 10)]
RENAL, HYPERTENSION = "Acute and unspecified renal failure", "Essential hypertension"
SIDE = 16


def write_extract(folder, stays=STAYS, events=EVENTS, films=FILMS, diagnoses=DIAGNOSES):
    folder.mkdir(parents=True, exist_ok=True)
    columns = {"events": {"variable": pl.UInt8, "value": pl.Float32}, "stays": {"death_time": pl.Datetime("us")}}
    columns["films"] = dict.fromkeys(CHEXPERT_LABELS, pl.Float32)
    order = {"stays": ["stay_id"], "events": ["stay_id", "hours"], "films": ["subject_id", "study_time", "dicom_id"]}
    for name, rows in (("stays", stays), ("events", events), ("films", films)):
        example = {"stays": STAYS, "events": EVENTS, "films": FILMS}[name]
        table = pl.DataFrame([*rows, *example], schema_overrides=columns[name])[: len(rows)]
        table.sort(order[name]).write_parquet(folder / f"{name}.parquet")
    schema = {"hadm_id": pl.Int64, "icd_code": pl.String, "icd_version": pl.Int8}
    pl.DataFrame(diagnoses, schema=schema, orient="row").write_parquet(folder / "diagnoses.parquet")
    return Artifact("extract", "e0", folder, {"settings": {}, "inputs": {}})


def write_cache(folder, n=9, unreadable=()):
    """A cache as the stage `films` makes it: row i is all i + 1; an unreadable film's row is black."""
    folder.mkdir(parents=True, exist_ok=True)
    readable = np.array([i not in unreadable for i in range(n)], dtype=bool)
    pixels = np.arange(1, n + 1, dtype=np.uint8) * readable
    np.save(folder / "films.npy", np.broadcast_to(pixels[:, None, None], (n, SIDE, SIDE)))
    pl.DataFrame({"film": np.arange(n, dtype=np.int32), "readable": readable}).write_parquet(folder / "films.parquet")
    return Artifact("films", "f0", folder, {"settings": {}, "inputs": {}})


def run(folder, *, cache=True, split_file=None, unreadable=(), **settings):
    """The stage on the tables above, or on changed ones."""
    tables = {k: settings.pop(k) for k in ("stays", "events", "films", "diagnoses") if k in settings}
    extract = write_extract(folder / "extract", **tables)
    n = len(tables.get("films", FILMS))
    films = write_cache(folder / "films", n, unreadable) if cache is True else cache
    (folder / "draft").mkdir(parents=True)
    draft = Draft(folder / "draft")
    inputs = {"extract": extract, "films": films, "split_file": split_file}
    preprocess.run(draft, PreprocessSettings(**settings), inputs, runtime=Runtime())
    guards.check_preprocessed(draft.path)
    return draft


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    return run(tmp_path_factory.mktemp("preprocess"))


def table(draft, name="samples"):
    return pl.read_parquet(draft.file(f"{name}.parquet"), glob=False)


def values(draft):
    return np.load(draft.file("values.npy"))


def test_samples(done):
    samples = table(done)
    assert samples["stay_id"].to_list() == [101, 102, 103, 104, 107]
    assert samples["subject_id"].to_list() == [TRAIN[0], TRAIN[1], VAL[0], TEST[0], TEST[1]]
    assert samples["hadm_id"].to_list() == [151, 152, 153, 154, 157]
    assert samples["split"].to_list() == ["train", "train", "val", "test", "test"]
    assert samples["mortality"].to_list() == [1, 0, 0, 1, 0]
    assert samples["first_row"].to_list() == [0, 24, 48, 72, 96]
    assert samples["n_rows"].to_list() == [24] * 5
    assert samples["window_hours"].to_list() == [48.0] * 5
    assert samples["last_event_hours"].to_list() == [47.0, 48.0, 0.5, 10.0, 20.0]
    assert samples["film"].to_list() == [1, -1, 6, -1, 5]
    np.testing.assert_array_equal(samples["film_hours"], [40, np.nan, 47, np.nan, 48])
    assert samples["n_films"].to_list() == [1, 0, 1, 0, 1]
    expected = {"first_row": pl.Int64, "n_rows": pl.Int32, "film": pl.Int32, "mortality": pl.Float32, "age": pl.Float64}
    expected |= {"n_films": pl.Int32, "film_hours": pl.Float64}
    assert {name: samples.schema[name] for name in expected} == expected
    assert {"sex", "race", "care_unit", "intime"} <= set(samples.columns)


def test_series(done):
    found, observed = values(done), np.load(done.file("observed.npy"))
    assert found.shape == observed.shape == (5 * 24, 17)
    assert (found.dtype, observed.dtype) == (np.float32, np.bool_)
    assert found[:24, HEART_RATE].tolist() == [80] + [100] * 23
    assert np.flatnonzero(observed[:24, HEART_RATE]).tolist() == [0, 1]
    spontaneously = VARIABLES[EYES].categories.index("Spontaneously")
    assert found[:24, EYES].tolist() == [spontaneously] * 23 + [4]
    assert found[24:48, GLUCOSE].tolist() == [128] * 23 + [300]
    assert observed.sum() == 2 + 1 + 1 + 1 + 1 + 1


def test_normaliser_is_that_of_the_48_training_rows(done):
    found = json.loads(done.file("normaliser.json").read_text())
    heart_rate = np.array([80.0] + [100.0] * 23 + [86.0] * 24)
    assert found["mean"][HEART_RATE] == pytest.approx(heart_rate.mean(), abs=1e-12)
    assert found["sd"][HEART_RATE] == pytest.approx(heart_rate.std(), abs=1e-12)
    assert (found["mean"][EYES], found["sd"][EYES]) == (0, 1)
    assert (found["mean"][INDEX["Weight"]], found["sd"][INDEX["Weight"]]) == (81, 1)
    assert (found["n_stays"], found["split"], found["train_rows_only"]) == (2, "train", True)
    assert found["kind"] == "standard"


def test_films_of_all_patients_with_their_split(done):
    films = table(done, "films")
    assert films["film"].to_list() == list(range(9)) and films.schema["film"] == pl.Int32
    assert films["subject_id"].to_list() == [row["subject_id"] for row in FILMS]
    assert films["split"].to_list() == ["train"] * 4 + ["test"] * 2 + ["val"] * 2 + ["train"]
    assert films["Edema"].to_list()[1] == 1 and np.isnan(films["Edema"][0])
    first = ["film", "subject_id", "study_id", "split", "view", "study_time", "labelled_by"]
    assert films.columns == [*first, *CHEXPERT_LABELS]


@pytest.mark.parametrize("name", ["w[1]", "w?", "w*", "[w"])
def test_a_work_directory_may_have_the_name_of_a_pattern(done, tmp_path, name):
    """The files of another that the pattern fits are not read."""
    run(tmp_path / "w1", stays=STAYS[1:], films=FILMS[1:], events=EVENTS[1:])
    odd = run(tmp_path / name)
    assert all(table(odd, what).equals(table(done, what)) for what in ("samples", "films", "pairs"))
    assert odd.file("values.npy").read_bytes() == done.file("values.npy").read_bytes()


def test_the_cache_and_films_npy_are_one_file(done, tmp_path, monkeypatch):
    cache = done.path.parent / "films/films.npy"
    assert os.path.samefile(done.file("films.npy"), cache) and np.load(cache)[5, 0, 0] == 6

    def across_disks(*paths):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(preprocess.os, "link", across_disks)
    copied = run(tmp_path)
    assert not os.path.samefile(copied.file("films.npy"), tmp_path / "films/films.npy")
    assert copied.file("films.npy").read_bytes() == cache.read_bytes()


def test_pairs(done):
    pairs = table(done, "pairs")
    assert pairs.rows() == [(101, 1, 40.0), (103, 6, 47.0), (107, 5, 48.0)]
    assert dict(pairs.schema) == {"stay_id": pl.Int64, "film": pl.Int32, "film_hours": pl.Float64}


def test_pairing_attrition_and_the_tables_for_the_terminal(done):
    pairing = json.loads(done.file("pairing.json").read_text())
    assert (pairing["all"]["stays"], pairing["all"]["paired"], pairing["all"]["mean"]) == (5, 3, 3.0)
    assert [pairing[s]["paired"] for s in ("train", "val", "test")] == [1, 1, 1]
    rows = json.loads(done.file("attrition.json").read_text())
    assert [(r["table"], r["unit"], r["before"], r["dropped"], r["kept"]) for r in rows] == [
        ("stays", "stays", 7, 1, 6),
        ("stays", "stays", 6, 1, 5),
        ("films", "rows", 9, 0, 9),
    ]
    assert done.rows == {"values": 120, "films": 9, "pairs": 3, "samples": 5}
    shown = json.loads(done.file("tables.json").read_text())
    assert [t["title"] for t in shown] == ["What each rule left out", "Hours from the film to the end of the input"]
    assert all(len(row) == len(t["header"]) for t in shown for row in t["rows"])


def test_same_input_same_bytes(done, tmp_path):
    again = run(tmp_path)
    names = sorted(p.name for p in done.path.iterdir())
    assert names == sorted(p.name for p in again.path.iterdir())
    assert names == sorted(
        ["samples.parquet", "values.npy", "observed.npy", "films.npy", "films.parquet", "pairs.parquet"]
        + ["normaliser.json", "pairing.json", "attrition.json", "tables.json"]
    )
    assert [done.file(n).read_bytes() == again.file(n).read_bytes() for n in names] == [True] * len(names)


def test_a_later_event_or_film_changes_no_input(done, tmp_path):
    later = [event(s["stay_id"], 48.01, HEART_RATE, 250.0) for s in STAYS if s["stay_id"] != 106]
    films = [*FILMS, *(film(s["subject_id"], 48.01, name="z") for s in STAYS)]
    again = run(tmp_path, events=EVENTS + later, films=films)
    for name in ("values.npy", "observed.npy", "normaliser.json", "pairing.json"):
        assert again.file(name).read_bytes() == done.file(name).read_bytes(), name
    assert table(again).drop("film").equals(table(done).drop("film"), null_equal=True)
    studies = [
        table(d, "pairs").join(table(d, "films"), on="film").select("stay_id", "study_time") for d in (done, again)
    ]
    assert studies[0].equals(studies[1])


# --- options


def test_timestep(tmp_path):
    other = run(tmp_path, timestep=12.0)
    assert table(other)["n_rows"].to_list() == [4] * 5
    assert values(other)[:4, HEART_RATE].tolist() == [100] * 4


@pytest.mark.parametrize(("impute", "rate", "eye"), [("normal", 86, "Spontaneously"), ("zero", 0, None)])
def test_impute(done, tmp_path, impute, rate, eye):
    other = run(tmp_path, impute=impute)
    category = -1 if eye is None else VARIABLES[EYES].categories.index(eye)
    assert values(other)[:24, HEART_RATE].tolist() == [80, 100] + [rate] * 22  # nothing is carried on
    assert values(other)[:24, EYES].tolist() == [category] * 23 + [4]
    assert values(other)[24:48, GLUCOSE].tolist() == [128 if impute == "normal" else 0] * 23 + [300]
    assert other.file("observed.npy").read_bytes() == done.file("observed.npy").read_bytes()


def test_available_at_storetime(tmp_path, caplog):
    never = {**event(103, 0.7, HEART_RATE, 61.0), "stored_hours": None}
    with caplog.at_level(logging.INFO, "fusionctl"):
        other = run(tmp_path, available_at="storetime", events=[*EVENTS, never])
    samples = table(other)
    assert samples["stay_id"].to_list() == [101, 103, 104, 107]  # the glucose of 102 was stored at 49 h
    assert samples["last_event_hours"].to_list() == [48.0, 1.5, 11.0, 21.0]
    assert values(other)[:24, HEART_RATE].tolist() == [80, 80] + [100] * 22  # charted at 3.5 and 3.9, known at 4.5
    assert values(other)[24:48, HEART_RATE].tolist() == [60] * 24
    assert (other.rows["events_stored_late"], other.rows["events_never_stored"]) == (1, 1)
    said = "1 events of the windows left out because stored only later, 1 without a time of storing"
    assert f"preprocess: {said}" in caplog.messages
    assert "events_stored_late" not in run(tmp_path / "usual").rows


def test_window_hours(tmp_path):
    other = run(tmp_path, window_hours=10.0)
    samples = table(other)
    assert samples["stay_id"].to_list() == [101, 103, 104, 105]  # 47.9 h are long enough, the others have no event
    assert samples["window_hours"].to_list() == [10.0] * 4 and samples["n_rows"].to_list() == [5] * 4
    assert samples["film"].to_list() == [0, -1, -1, -1]  # the one of hour 10
    rules = [r["rule"] for r in json.loads(other.file("attrition.json").read_text())]
    assert rules[0] == "ICU length of stay below 10 h"


def test_robust_normaliser(tmp_path):
    found = json.loads(run(tmp_path, normaliser="robust").file("normaliser.json").read_text())
    heart_rate = np.array([80.0] + [100.0] * 23 + [86.0] * 24)
    low, median, high = np.percentile(heart_rate, [25, 50, 75])
    assert (found["kind"], found["mean"][HEART_RATE]) == ("robust", median)
    assert found["sd"][HEART_RATE] == pytest.approx((high - low) / 1.349)


def split_lists(folder, test, val):
    folder.mkdir()
    for name, ids in (("testset", test), ("valset", val)):
        (folder / f"{name}.csv").write_text("".join(f"{i},1\n" for i in ids))
    return folder


def test_split_file(tmp_path, caplog):
    lists = split_lists(tmp_path / "lists", [TRAIN[0], TEST[1]], [TRAIN[1]])
    other = run(tmp_path / "run", split_file=lists)
    assert table(other)["split"].to_list() == ["test", "val", "train", "train", "test"]
    assert dict(table(other, "films").select("subject_id", "split").rows()) == {
        **{TRAIN[0]: "test", TRAIN[1]: "val", TEST[1]: "test"},
        **{TEST[0]: "train", VAL[0]: "train", TRAIN[-1]: "train"},
    }
    warned = [m for m in caplog.messages if "patients stand on no list" in m]
    assert warned and warned[0].startswith(f"preprocess: 2 of 5 patients stand on no list of {lists} and are all for")
    found = json.loads(other.file("normaliser.json").read_text())
    assert found["n_stays"] == 2
    table_form = tmp_path / "split.csv"
    everyone = {r["subject_id"]: "train" for r in [*STAYS, *FILMS]} | {TRAIN[0]: "test", TRAIN[1]: "val"}
    table_form.write_text("subject_id,split\n" + "".join(f"{i},{s}\n" for i, s in everyone.items()))
    caplog.clear()
    other = run(tmp_path / "table", split_file=table_form)
    assert table(other)["split"].to_list() == ["test", "val", "train", "train", "train"]
    assert not [m for m in caplog.messages if "stand on no list" in m]


def test_folds(tmp_path):
    patients = list(range(1, 21))
    some = {"stays": [stay(100 + p, p) for p in patients], "films": []}
    some["events"] = [event(100 + p, 1.0, HEART_RATE, 80.0) for p in patients]
    tested = []
    for fold in range(3):
        other = run(tmp_path / str(fold), folds=3, fold=fold, cache=None, **some)
        assert table(other)["split"].to_list() == splits.folds(patients, 3, fold).tolist()
        tested += table(other).filter(split="test")["subject_id"].to_list()
    assert sorted(tested) == patients  # each patient is tested once


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 2}, "--folds must be at least 3"),
        ({"folds": 5, "fold": 5}, "--fold must be 0 to 4"),
        ({"film_window": "48:24"}, "--film-window must be FROM:TO"),
    ],
)
def test_wrong_options_are_usage_errors(tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        run(tmp_path, **options)


def test_split_file_and_folds_do_not_go_together(tmp_path):
    lists = split_lists(tmp_path / "lists", [1], [2])
    with pytest.raises(UsageError, match="--split-file and --folds both say who is for testing") as caught:
        run(tmp_path / "run", split_file=lists, folds=5)
    assert caught.value.exit_code == 2 and caught.value.hint
    assert not (tmp_path / "run/draft/values.npy").exists()  # said before the work


@pytest.mark.parametrize(
    ("options", "chosen", "last"),
    [
        ({"film_pick": "first"}, [(101, 0), (103, 6), (107, 5)], [0, -1, 6, -1, 5]),
        ({"film_pick": "nearest-end"}, [(101, 1), (103, 6), (107, 5)], [1, -1, 6, -1, 5]),
        ({"film_pick": "all"}, [(101, 0), (101, 1), (103, 6), (107, 5)], [1, -1, 6, -1, 5]),
        ({"film_view": "any"}, [(101, 1), (102, 3), (103, 6), (107, 5)], [1, 3, 6, -1, 5]),
        ({"film_view": "PA"}, [], [-1] * 5),
        ({"film_window": "-2:20"}, [(101, 0), (104, 4)], [0, -1, -1, 4, -1]),
        (
            {"film_window": "-2:", "film_pick": "all"},
            [(101, 0), (101, 1), (103, 6), (104, 4), (107, 5)],
            [1, -1, 6, 4, 5],
        ),
    ],
)
def test_film_options(tmp_path, options, chosen, last):
    other = run(tmp_path, **options)
    assert table(other, "pairs").select("stay_id", "film").rows() == chosen
    assert table(other)["film"].to_list() == last
    assert table(other)["n_films"].sum() == len(chosen) == other.rows["pairs"]


def test_legacy_imputes_the_benchmarks_normal_categories(tmp_path):
    other = run(tmp_path, protocol="legacy")
    assert values(other)[:24, EYES].tolist() == [VARIABLES[EYES].categories.index("4 Spontaneously")] * 23 + [4]
    assert values(other)[:24, HEART_RATE].tolist() == [80] + [100] * 23


def test_phenotyping(tmp_path):
    other = run(tmp_path, task="phenotyping")
    samples = table(other)
    names = [p.name for p in phenotypes()]
    assert samples["stay_id"].to_list() == list(range(101, 108))
    assert set(names) < set(samples.columns) and {samples.schema[n] for n in names} == {pl.Float32}
    assert samples["window_hours"].to_list() == [60.0] * 4 + [47.9, 60, 60]
    assert samples["n_rows"].to_list() == [30] * 4 + [24, 30, 30]
    np.testing.assert_array_equal(samples[RENAL], [1, 1, 0, 0, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(samples[HYPERTENSION], [1, 0, 0, 0, np.nan, np.nan, np.nan])
    assert samples["film"].to_list() == [2, -1, 6, -1, -1, -1, 5]  # the film of hour 50 is inside now
    records = {r["label"]: r for r in json.loads(other.file("phenotypes.json").read_text())}
    assert records[RENAL]["ICD-9"] == {"diagnoses": 1, "admissions": 1, "positive": 1, "prevalence": 1.0}
    assert records[RENAL]["ICD-10"]["prevalence"] == pytest.approx(1 / 3)
    shown = json.loads(other.file("tables.json").read_text())
    assert shown[-1]["title"] == "Phenotypes by coding era (1 ICD-9, 3 ICD-10 admissions)"
    cut = table(run(tmp_path / "cut", task="phenotyping", window_hours=48.0))
    assert cut["window_hours"].to_list() == [48.0] * 4 + [47.9, 48]
    assert cut["film"].to_list() == [1, -1, 6, -1, -1, 5]


def test_no_identifier_reaches_the_log(tmp_path, caplog):
    stays = [{**s, "stay_id": s["stay_id"] + 30000000, "hadm_id": s["hadm_id"] + 20000000} for s in STAYS]
    events = [{**e, "stay_id": e["stay_id"] + 30000000} for e in EVENTS]
    with caplog.at_level(logging.DEBUG, "fusionctl"):
        run(tmp_path, stays=stays, events=events, available_at="storetime")
    assert "3000010" not in caplog.text and "2000015" not in caplog.text and "train: 1 stays" in caplog.text


# --- films that are not there


def test_without_films(tmp_path):
    draft = run(tmp_path, films=[], cache=None)
    assert table(draft)["film"].to_list() == [-1] * 5
    assert np.isnan(table(draft)["film_hours"].to_numpy()).all() and set(table(draft)["n_films"]) == {0}
    assert len(np.load(draft.file("films.npy"))) == 0
    assert table(draft, "films").schema["study_time"] == pl.Datetime("us")
    assert table(draft, "pairs").height == 0


def test_a_cache_of_no_films(tmp_path):
    draft = run(tmp_path, films=[])
    assert np.load(draft.file("films.npy"), mmap_mode="r").shape == (0, SIDE, SIDE)
    assert table(draft)["film"].to_list() == [-1] * 5


def test_films_without_their_cache(tmp_path):
    with pytest.raises(InputError, match="extract/e0 lists 9 films; their cache is missing") as caught:
        run(tmp_path, cache=None)
    assert "run first: fusionctl films --cxr-root DIR" in caught.value.hint


def test_a_cache_of_another_number_of_films(tmp_path):
    with pytest.raises(InputError, match="films/f0 has 8 films, extract/e0 lists 9; rule: the cache of the films"):
        run(tmp_path, cache=write_cache(tmp_path / "other", 8))
    with pytest.raises(InputError, match="films/f0 has 9 films, extract/e0 lists 0"):
        run(tmp_path / "none", films=[], cache=write_cache(tmp_path / "more"))


def test_an_unreadable_film_is_absent_and_counted(tmp_path):
    draft = run(tmp_path, unreadable=(1, 5))
    assert table(draft)["film"].to_list() == [0, -1, 6, -1, -1]  # the next best film, or none
    assert table(draft, "films")["film"].to_list() == [0, 2, 3, 4, 6, 7, 8]
    assert np.load(draft.file("films.npy")).shape == (9, SIDE, SIDE)
    assert json.loads(draft.file("attrition.json").read_text())[-1] == {
        **{"table": "films", "rule": "unreadable, treated as absent", "unit": "rows"},
        **{"before": 9, "dropped": 2, "kept": 7},
    }


def test_nothing_left(tmp_path):
    with pytest.raises(
        InputError, match=r"none of 1 stays is left for mortality; rules: ICU length of stay below 48 h"
    ):
        run(tmp_path, stays=[stay(101, TRAIN[0], hours=5.0)], films=[], cache=None)


def test_no_training_stay(tmp_path):
    with pytest.raises(InputError, match="none of 1 stays is in the training split"):
        run(tmp_path, stays=[stay(104, TEST[0])], films=[], cache=None)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        # what each guard is for: the mistake is made in the stage, the guard finds it in the files
        ("pairing.pair", "1 of 5 stays have a film after the time of prediction"),
        ("series.write_grid", "1 of 5 stays have a measurement after the time of prediction"),
        ("splits.assign", "patients are in more than one split"),
        ("Normaliser.fit", "normaliser.json: computed from 5 stays, 2 are in the training split"),
    ],
)
def test_the_guards_stop_a_faulty_stage(tmp_path, monkeypatch, target, message):
    owner, name = target.split(".")
    module = getattr(preprocess, owner)
    genuine = getattr(module, name)

    def late_film(*args, **options):
        found = genuine(*args, **options)
        return found.with_columns(film=found["film"].replace(1, 2))

    def late_event(*args, **options):
        grid = genuine(*args, **options)
        grid.last_event_hours[0] = 48.5
        return grid

    def by_row(ids):
        return np.array(["train", "test", "val"])[np.arange(len(ids)) % 3]

    def all_rows(values, train, *args, **options):
        return genuine(values, np.ones_like(train), *args, **options)

    faults = {"pairing.pair": late_film, "series.write_grid": late_event, "splits.assign": by_row}
    monkeypatch.setattr(module, name, faults.get(target, all_rows))
    with pytest.raises(LeakError, match=message):
        run(tmp_path)
