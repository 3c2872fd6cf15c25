"""Preprocess on hand-made tables: what comes out is written down number by number."""

import json
import logging
from datetime import datetime, timedelta

import cv2
import numpy as np
import polars as pl
import pytest

from fusionctl.data import guards, images, splits
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
        "view": view, "study_time": INTIME + timedelta(hours=hours), **dict.fromkeys(CHEXPERT_LABELS, labels),
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
FILMS = [
    film(TRAIN[0], 10),  # row 0: in the window, but not the last
    film(TRAIN[0], 40, labels=1.0),  # row 1: paired with 101
    film(TRAIN[0], 50),  # row 2: after the window, still for pretraining
    film(TRAIN[1], 5, view="LATERAL"),  # row 3: for pretraining
    film(VAL[0], 47),  # row 5: paired with 103
    film(VAL[0], 90),  # of a validation patient and unpaired: not cached
    film(TEST[0], -1),  # before the stay: not cached
    film(TEST[1], 48),  # row 4: paired with 107
    film(TRAIN[-1], 0),  # row 6: of a training patient without a stay
]


def write_extract(folder, stays=STAYS, events=EVENTS, films=FILMS):
    folder.mkdir(parents=True, exist_ok=True)
    columns = {"events": {"variable": pl.UInt8, "value": pl.Float32}, "stays": {"death_time": pl.Datetime("us")}}
    columns["films"] = dict.fromkeys(CHEXPERT_LABELS, pl.Float32)
    order = {"stays": ["stay_id"], "events": ["stay_id", "hours"], "films": ["subject_id", "study_time", "dicom_id"]}
    for name, rows in (("stays", stays), ("events", events), ("films", films)):
        example = {"stays": STAYS, "events": EVENTS, "films": FILMS}[name]
        table = pl.DataFrame([*rows, *example], schema_overrides=columns[name])[: len(rows)]
        table.sort(order[name]).write_parquet(folder / f"{name}.parquet")
    return Artifact("extract", "e0", folder, {"settings": {}, "inputs": {}})


@pytest.fixture(scope="module")
def cxr_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("odd 'films")
    for i, row in enumerate(FILMS):
        write_film(root, row, grey=20 * i + 10)
    return root


def write_film(root, row, grey):
    path = root / row["path"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".jpg", np.full((70, 80), grey, np.uint8))[1].tobytes())


def run(folder, extract, cxr_root, *, jobs=1, **settings):
    folder.mkdir(parents=True)
    draft = Draft(folder)
    options = PreprocessSettings(film_size=32, **settings)
    preprocess.run(draft, options, {"extract": extract, "cxr_root": cxr_root}, runtime=Runtime(jobs=jobs))
    return draft


@pytest.fixture(scope="module")
def done(tmp_path_factory, cxr_root):
    folder = tmp_path_factory.mktemp("preprocess")
    return run(folder / "draft", write_extract(folder / "extract"), cxr_root)


def table(draft, name="samples"):
    return pl.read_parquet(draft.file(f"{name}.parquet"))


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
    assert samples["film"].to_list() == [1, -1, 5, -1, 4]
    np.testing.assert_array_equal(samples["film_hours"], [40, np.nan, 47, np.nan, 48])
    expected = {"first_row": pl.Int64, "n_rows": pl.Int32, "film": pl.Int32, "mortality": pl.Float32, "age": pl.Float64}
    assert {name: samples.schema[name] for name in expected} == expected
    assert {"sex", "race", "care_unit", "intime"} <= set(samples.columns)


def test_series(done):
    values, observed = np.load(done.file("values.npy")), np.load(done.file("observed.npy"))
    assert values.shape == observed.shape == (5 * 24, 17)
    assert (values.dtype, observed.dtype) == (np.float32, np.bool_)
    assert values[:24, HEART_RATE].tolist() == [80] + [100] * 23
    assert np.flatnonzero(observed[:24, HEART_RATE]).tolist() == [0, 1]
    spontaneously = VARIABLES[EYES].categories.index("Spontaneously")
    assert values[:24, EYES].tolist() == [spontaneously] * 23 + [4]
    assert values[24:48, GLUCOSE].tolist() == [128] * 23 + [300]
    assert observed.sum() == 2 + 1 + 1 + 1 + 1 + 1


def test_normaliser_is_that_of_the_48_training_rows(done):
    found = json.loads(done.file("normaliser.json").read_text())
    heart_rate = np.array([80.0] + [100.0] * 23 + [86.0] * 24)
    assert found["mean"][HEART_RATE] == pytest.approx(heart_rate.mean(), abs=1e-12)
    assert found["sd"][HEART_RATE] == pytest.approx(heart_rate.std(), abs=1e-12)
    assert (found["mean"][EYES], found["sd"][EYES]) == (0, 1)
    assert (found["mean"][INDEX["Weight"]], found["sd"][INDEX["Weight"]]) == (81, 1)
    assert (found["n_stays"], found["split"], found["train_rows_only"]) == (2, "train", True)


def test_films(done):
    films = table(done, "films")
    assert films["film"].to_list() == list(range(7))
    assert films["subject_id"].to_list() == [TRAIN[0]] * 3 + [TRAIN[1], TEST[1], VAL[0], TRAIN[-1]]
    assert films["split"].to_list() == ["train"] * 4 + ["test", "val", "train"]
    assert films["Edema"].to_list()[1] == 1 and np.isnan(films["Edema"][0])
    assert films.columns == ["film", "subject_id", "study_id", "split", "view", "study_time", *CHEXPERT_LABELS]
    pixels = np.load(done.file("films.npy"))
    assert pixels.shape == (7, 32, 32) and pixels.dtype == np.uint8
    assert np.abs(pixels.mean(axis=(1, 2)) - [10, 30, 50, 70, 150, 90, 170]).max() < 2


def test_pairing_and_attrition(done):
    pairing = json.loads(done.file("pairing.json").read_text())
    assert (pairing["all"]["stays"], pairing["all"]["paired"], pairing["all"]["mean"]) == (5, 3, 3.0)
    assert [pairing[s]["paired"] for s in ("train", "val", "test")] == [1, 1, 1]
    rows = json.loads(done.file("attrition.json").read_text())
    assert [(r["table"], r["unit"], r["before"], r["dropped"], r["kept"]) for r in rows] == [
        ("stays", "stays", 7, 1, 6),
        ("stays", "stays", 6, 1, 5),
        ("films", "rows", 9, 2, 7),
        ("films", "rows", 7, 0, 7),
    ]
    assert done.rows == {"values": 120, "films": 7, "samples": 5}


def test_every_guard_passes_on_the_result(done):
    guards.check_preprocessed(done.path)


def test_same_input_same_bytes_with_any_number_of_processes(done, cxr_root, tmp_path, monkeypatch):
    monkeypatch.setattr(images, "BLOCK_FILMS", 2)
    monkeypatch.setattr(images, "PROCESSES_FROM_SECONDS", 0)
    again = run(tmp_path / "again", write_extract(tmp_path / "extract"), cxr_root, jobs=2)
    names = sorted(p.name for p in done.path.iterdir())
    assert names == sorted(p.name for p in again.path.iterdir())
    assert [done.file(n).read_bytes() == again.file(n).read_bytes() for n in names] == [True] * len(names)


def test_a_later_event_or_film_changes_no_input(done, cxr_root, tmp_path):
    later = [event(s["stay_id"], 48.01, HEART_RATE, 250.0) for s in STAYS if s["stay_id"] != 106]
    extract = write_extract(tmp_path / "extract", events=EVENTS + later)
    again = run(tmp_path / "again", extract, cxr_root)
    for name in ("values.npy", "observed.npy", "films.npy", "samples.parquet", "normaliser.json"):
        assert again.file(name).read_bytes() == done.file(name).read_bytes(), name


def test_clahe_and_timestep_are_options(done, cxr_root, tmp_path):
    extract = write_extract(tmp_path / "extract")
    other = run(tmp_path / "other", extract, cxr_root, clahe=True, timestep=12.0)
    assert table(other)["n_rows"].to_list() == [4] * 5
    assert np.load(other.file("values.npy"))[:4, HEART_RATE].tolist() == [100] * 4
    plain = images.read_film(cxr_root, FILMS[0]["path"], size=32, clahe=False)
    np.testing.assert_array_equal(np.load(other.file("films.npy"))[0], cv2.createCLAHE(2.0, (8, 8)).apply(plain))


def test_without_films(tmp_path):
    draft = run(tmp_path / "draft", write_extract(tmp_path / "extract", films=[]), None)
    assert table(draft)["film"].to_list() == [-1] * 5
    assert np.isnan(table(draft)["film_hours"].to_numpy()).all()
    assert np.load(draft.file("films.npy")).shape == (0, 32, 32)
    assert table(draft, "films").schema["study_time"] == pl.Datetime("us")


def test_films_without_their_folder_and_a_folder_without_films(cxr_root, tmp_path):
    with pytest.raises(InputError, match="extract/e0 lists 9 films, but their folder was not given"):
        run(tmp_path / "a", write_extract(tmp_path / "extract"), None)
    with pytest.raises(InputError, match="extract/e0 lists no film, though --cxr-root .* was given"):
        run(tmp_path / "b", write_extract(tmp_path / "extract", films=[]), cxr_root)


@pytest.fixture
def broken(tmp_path):
    """A film folder in which the films paired with stays 101 and 107 cannot be read."""
    root = tmp_path / "broken"
    for i, row in enumerate(FILMS):
        write_film(root, row, grey=20 * i + 10)
    (root / FILMS[1]["path"]).write_bytes(b"no film")
    (root / FILMS[7]["path"]).unlink()
    return root


def test_a_bad_film_stops_the_run(broken, tmp_path):
    with pytest.raises(InputError) as caught:
        run(tmp_path / "draft", write_extract(tmp_path / "extract"), broken)
    assert f"{broken / FILMS[1]['path']}: film is not a JPEG image" in caught.value.message


def test_a_tolerated_bad_film_is_absent_and_counted(broken, tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="fusionctl"):
        draft = run(tmp_path / "draft", write_extract(tmp_path / "extract"), broken, max_bad_films=0.3)
    samples = table(draft)
    assert samples["film"].to_list() == [-1, -1, 3, -1, -1]
    assert np.isnan(samples["film_hours"].to_numpy()[[0, 4]]).all()
    assert len(np.load(draft.file("films.npy"))) == len(table(draft, "films")) == 5
    assert json.loads(draft.file("attrition.json").read_text())[-1] | {"rule": ""} == {
        "table": "films", "rule": "", "unit": "rows", "before": 7, "dropped": 2, "kept": 5,
    }  # fmt: skip
    named = [message for message in caplog.messages if message.startswith("film of study")]
    assert [m.split()[3] for m in named] == [f"s{1000 + TRAIN[0]}", f"s{1000 + TEST[1]}"]
    assert not any(f"p{TRAIN[0]}/" in message for message in caplog.messages)


def test_nothing_left(tmp_path):
    extract = write_extract(tmp_path / "extract", stays=[stay(101, TRAIN[0], hours=5.0)], films=[])
    with pytest.raises(
        InputError, match=r"none of 1 stays is left for mortality; rules: ICU length of stay below 48 h"
    ):
        run(tmp_path / "draft", extract, None)


def test_no_training_stay(tmp_path):
    extract = write_extract(tmp_path / "extract", stays=[stay(104, TEST[0])], films=[])
    with pytest.raises(InputError, match="none of 1 stays is in the training split"):
        run(tmp_path / "draft", extract, None)


def test_clahe_size_is_checked(cxr_root, tmp_path):
    with pytest.raises(UsageError, match="--film-size must be a multiple of 8"):
        preprocess.run(
            Draft(tmp_path),
            PreprocessSettings(film_size=36, clahe=True),
            {"extract": write_extract(tmp_path / "extract"), "cxr_root": cxr_root},
            runtime=Runtime(),
        )


@pytest.mark.parametrize(
    ("target", "replacement", "message"),
    [
        # what each guard is for: the mistake is made in the stage, the guard finds it in the files
        ("pairing.pair", "late", "1 of 5 stays have a film after the time of prediction"),
        ("series.write_grid", "late", "1 of 5 stays have a measurement after the time of prediction"),
        ("splits.assign", "by row", "patients are in more than one split"),
        ("Normaliser.fit", "all rows", "normaliser.json: computed from 5 stays, 2 are in the training split"),
    ],
)
def test_the_guards_stop_a_faulty_stage(cxr_root, tmp_path, monkeypatch, target, replacement, message):
    owner, name = target.split(".")
    module = getattr(preprocess, owner)
    genuine = getattr(module, name)

    def late_film(*args, **options):
        found = genuine(*args, **options)
        return found.with_columns(film=pl.Series(found["film"]).replace(1, 2).cast(pl.UInt32))

    def late_event(*args, **options):
        grid = genuine(*args, **options)
        grid.last_event_hours[0] = 48.5
        return grid

    def by_row(ids):
        return np.array(["train", "test", "val"])[np.arange(len(ids)) % 3]

    def all_rows(values, train, n_rows, continuous):
        return genuine(values, np.ones_like(train), n_rows, continuous)

    faults = {"pairing.pair": late_film, "series.write_grid": late_event, "splits.assign": by_row}
    monkeypatch.setattr(module, name, faults.get(target, all_rows))
    with pytest.raises(LeakError, match=message):
        run(tmp_path / "draft", write_extract(tmp_path / "extract"), cxr_root)
