import json
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from fusionctl.data import guards
from fusionctl.data.normaliser import Normaliser
from fusionctl.data.variables import VARIABLES
from fusionctl.errors import InputError, LeakError

NAN = np.nan
INTIME = datetime(2150, 1, 1)
CONTINUOUS = np.array([not v.is_categorical for v in VARIABLES])
HEART_RATE = [v.name for v in VARIABLES].index("Heart Rate")


@pytest.fixture
def folder(tmp_path):
    """A sound artifact: three training stays, one validation, one test stay; films of the first and the last."""
    split = ["train", "train", "train", "val", "test"]
    samples = pl.DataFrame(
        {
            "stay_id": [1, 2, 3, 4, 5],
            "subject_id": [10, 10, 30, 40, 50],
            "split": split,
            "n_rows": np.full(5, 2, np.int32),
            "window_hours": np.full(5, 4.0),
            "last_event_hours": [4.0, 3.0, 0.0, 1.0, 2.0],
            "film_hours": [4.0, np.nan, np.nan, np.nan, 1.0],
            "film": np.array([0, -1, -1, -1, 2], np.int32),
            "intime": [INTIME] * 5,
        }
    )
    films = pl.DataFrame(
        {
            "subject_id": [10, 30, 50],
            "split": ["train", "train", "test"],
            "study_time": [INTIME + timedelta(hours=h) for h in (4, 100, 1)],
        }
    )
    values = np.random.default_rng(0).normal(50, 9, (10, len(VARIABLES))).astype(np.float32)
    samples.write_parquet(tmp_path / "samples.parquet")
    films.write_parquet(tmp_path / "films.parquet")
    np.save(tmp_path / "values.npy", values)
    write_normaliser(tmp_path, values, np.array(split) == "train")
    return tmp_path


def write_normaliser(folder, values, train):
    normaliser = Normaliser.fit(values, train, np.full(5, 2), CONTINUOUS)
    (folder / "normaliser.json").write_text(json.dumps(normaliser.to_json()))


def change(folder, name, **columns):
    table = pl.read_parquet(folder / name)
    table = table.with_columns(pl.Series(key, value, dtype=table.schema[key]) for key, value in columns.items())
    table.write_parquet(folder / name)


def test_a_sound_artifact_passes(folder):
    guards.check_preprocessed(folder)


def test_a_leak_is_an_input_error_with_its_exit_code():
    assert issubclass(LeakError, InputError) and LeakError("x").exit_code == 3


def test_a_measurement_after_the_prediction_time(folder):
    change(folder, "samples.parquet", last_event_hours=[4.5, 3, 4.25, 1, 2])
    with pytest.raises(LeakError, match=r"2 of 5 stays have a measurement after the time of prediction, by up to 0\.5"):
        guards.check_preprocessed(folder)


def test_a_film_after_the_prediction_time_is_found_from_its_study_time(folder):
    change(folder, "films.parquet", study_time=[INTIME + timedelta(hours=h) for h in (4.001, 100, 1)])
    with pytest.raises(LeakError, match=r"1 of 5 stays have a film after the time of prediction, by up to 0\.001 h"):
        guards.check_preprocessed(folder)


def test_the_wrong_film_in_a_samples_row_is_found(folder):
    change(folder, "samples.parquet", film=[1, -1, -1, -1, 2])  # row 1 was taken at 100 h
    with pytest.raises(LeakError, match="have a film after the time of prediction"):
        guards.check_preprocessed(folder)


def test_a_patient_in_two_splits(folder):
    change(folder, "samples.parquet", split=["train", "test", "train", "val", "test"])
    with pytest.raises(LeakError, match="1 of 4 patients are in more than one split"):
        guards.check_preprocessed(folder)


def test_films_and_stays_of_a_patient_must_agree(folder):
    change(folder, "films.parquet", subject_id=[10, 40, 50])  # a film of the validation patient, said to be train
    with pytest.raises(LeakError, match="1 of 4 patients are in more than one split"):
        guards.check_preprocessed(folder)


def test_an_unpaired_film_of_a_test_patient_has_no_business_in_the_cache(folder):
    change(folder, "films.parquet", subject_id=[10, 50, 50], split=["train", "test", "test"])
    with pytest.raises(LeakError, match="1 of 1 films for pretraining belong to validation or test patients"):
        guards.check_preprocessed(folder)


def test_statistics_of_all_rows(folder):
    values = np.load(folder / "values.npy")
    write_normaliser(folder, values, np.ones(5, bool))
    with pytest.raises(LeakError, match=r"computed from 5 stays, 3 are in the training split"):
        guards.check_preprocessed(folder)
    forged = json.loads((folder / "normaliser.json").read_text()) | {"n_stays": 3}
    (folder / "normaliser.json").write_text(json.dumps(forged))
    with pytest.raises(LeakError, match="Diastolic blood pressure has mean .* rule: statistics from training rows"):
        guards.check_preprocessed(folder)


@pytest.mark.parametrize("key", ["mean", "sd"])
def test_one_statistic_off_by_a_thousandth(folder, key):
    forged = json.loads((folder / "normaliser.json").read_text())
    forged[key][HEART_RATE] *= 1.001
    (folder / "normaliser.json").write_text(json.dumps(forged))
    with pytest.raises(LeakError, match="Heart Rate has mean"):
        guards.check_preprocessed(folder)


def test_values_changed_after_the_statistics(folder):
    values = np.load(folder / "values.npy")
    values[0, HEART_RATE] += 1
    np.save(folder / "values.npy", values)
    with pytest.raises(LeakError, match="Heart Rate"):
        guards.check_preprocessed(folder)
    values[0, HEART_RATE] -= 1
    values[9, HEART_RATE] += 1000  # a test row: does not count
    np.save(folder / "values.npy", values)
    guards.check_preprocessed(folder)


def test_no_future_bounds():
    guards.check_no_future([48.0, 48.0 + 5e-7], [48.0, NAN], [48.0, 48.0])
    with pytest.raises(LeakError, match="1 of 2 stays have a measurement"):
        guards.check_no_future([48.0, 48.0 + 5e-6], [NAN, NAN], [48.0, 48.0])
    with pytest.raises(LeakError, match="1 of 2 stays have a film"):
        guards.check_no_future([1.0, 1.0], [NAN, 48.1], [48.0, 48.0])


def test_pretraining_films():
    guards.check_pretraining_films(np.array(["train", "train"]))
    guards.check_pretraining_films(np.array([], dtype=str))
    with pytest.raises(LeakError, match="2 of 3 films for pretraining belong to validation or test patients"):
        guards.check_pretraining_films(np.array(["train", "val", "test"]))


def test_a_recorded_film_time_after_the_prediction_time(folder):
    change(folder, "samples.parquet", film_hours=[4.0, np.nan, np.nan, np.nan, 5.0])
    with pytest.raises(LeakError, match="1 of 5 stays have a film after the time of prediction"):
        guards.check_preprocessed(folder)
