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
    """A sound artifact: three training stays, one validation, one test stay.

    films.npy has six rows, of which row 2 could not be read. Patient 10 has two stays: the first is paired with two
    films, one of them older than the admission. The film of patient 30 is too late to be paired with anything.
    """
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
            "film": np.array([1, -1, -1, -1, 5], np.int32),
            "n_films": np.array([2, 0, 0, 0, 1], np.int32),
            "intime": [INTIME] * 5,
        }
    )
    films = pl.DataFrame(
        {
            "film": np.array([0, 1, 3, 4, 5], np.int32),
            "subject_id": [10, 10, 30, 40, 50],
            "split": ["train", "train", "train", "val", "test"],
            "study_time": at(-3, 4, 100, 100, 1),
        }
    )
    pairs = pl.DataFrame(
        {"stay_id": [1, 1, 5], "film": np.array([0, 1, 5], np.int32), "film_hours": [-3.0, 4.0, 1.0]},
    )
    values = np.random.default_rng(0).normal(50, 9, (10, len(VARIABLES))).astype(np.float32)
    samples.write_parquet(tmp_path / "samples.parquet")
    films.write_parquet(tmp_path / "films.parquet")
    pairs.write_parquet(tmp_path / "pairs.parquet")
    np.save(tmp_path / "values.npy", values)
    write_normaliser(tmp_path, values, np.array(split) == "train")
    return tmp_path


def at(*hours):
    return [INTIME + timedelta(hours=h) for h in hours]


def write_normaliser(folder, values, train, kind="standard"):
    normaliser = Normaliser.fit(values, train, np.full(5, 2), CONTINUOUS, kind=kind)
    (folder / "normaliser.json").write_text(json.dumps(normaliser.to_json()))


def change(folder, name, **columns):
    table = pl.read_parquet(folder / name)
    table = table.with_columns(pl.Series(key, value, dtype=table.schema[key]) for key, value in columns.items())
    table.write_parquet(folder / name)


def refused(folder, match):
    with pytest.raises(LeakError, match=match) as caught:
        guards.check_preprocessed(folder)
    assert "fusionctl preprocess --force" in caught.value.hint


def test_a_sound_artifact_passes(folder):
    guards.check_preprocessed(folder)


def test_a_leak_is_an_input_error_with_its_exit_code():
    assert issubclass(LeakError, InputError) and LeakError("x").exit_code == 3


def test_a_measurement_after_the_prediction_time(folder):
    change(folder, "samples.parquet", last_event_hours=[4.5, 3, 4.25, 1, 2])
    with pytest.raises(LeakError, match=r"2 of 5 stays have a measurement after the time of prediction, by up to 0\.5"):
        guards.check_preprocessed(folder)


def test_a_film_after_the_prediction_time_is_found_from_its_study_time(folder):
    change(folder, "films.parquet", study_time=at(-3, 4.001, 100, 100, 1))
    refused(folder, r"1 of 5 stays have a film after the time of prediction, by up to 0\.001 h")


def test_a_late_film_is_found_where_it_is_not_the_stays_last_by_the_written_time(folder):
    change(folder, "films.parquet", study_time=at(5, 4, 100, 100, 1))  # film 0, written as from -3 h
    refused(folder, r"1 of 5 stays have a film after the time of prediction, by up to 1 h")


def test_a_written_time_after_the_prediction_time(folder):
    change(folder, "pairs.parquet", film_hours=[-3.0, 4.0, 4.5])
    refused(folder, r"1 of 5 stays have a film after the time of prediction, by up to 0\.5 h")


def test_a_sample_with_a_film_time_after_the_prediction_time(folder):
    change(folder, "samples.parquet", film_hours=[4.0, NAN, NAN, NAN, 5.0])
    refused(folder, "1 of 5 stays have a film after the time of prediction")


@pytest.mark.parametrize("hours", [[-2.9, 4.0, 1.0], [-3.0, 4.0, NAN], [-3.0, 4.0, None]])
def test_a_written_time_that_is_not_the_studys(folder, hours):
    change(folder, "pairs.parquet", film_hours=hours)
    refused(folder, "1 of 3 pairs have a film_hours other than the time of the film's study")


def test_a_film_without_a_time_is_paired_with_nothing(folder):
    change(folder, "films.parquet", study_time=[None, *at(4, 100, 100, 1)])
    refused(folder, "1 of 3 pairs have a film_hours other than the time of the film's study; rule: times as recorded")


def test_another_patients_film(folder):
    change(folder, "films.parquet", subject_id=[10, 10, 30, 40, 40], split=["train"] * 3 + ["val"] * 2)
    refused(folder, "1 of 3 pairs give a stay the film of another patient; rule: films of the stay's own patient only")


@pytest.mark.parametrize("column", [{"film": [0, 2, 5]}, {"stay_id": [1, 1, 6]}])
def test_a_pair_of_an_unreadable_film_or_an_unknown_stay(folder, column):
    change(folder, "pairs.parquet", **column)
    refused(folder, r"1 of 3 pairs name no stay of samples\.parquet or no film of films\.parquet")


@pytest.mark.parametrize(
    "columns",
    [
        {"film": [3, -1, -1, -1, 5]},  # taken at 100 h, of another patient
        {"film": [0, -1, -1, -1, 5]},  # not the last one
        {"film": [1, -1, -1, 4, 5]},
        {"film": [-1, -1, -1, -1, 5]},
        {"n_films": [1, 0, 0, 0, 1]},
        {"film_hours": [3.0, NAN, NAN, NAN, 1.0]},
        {"film_hours": [NAN, NAN, NAN, NAN, 1.0]},
    ],
)
def test_samples_that_name_other_films_than_the_pairs(folder, columns):
    change(folder, "samples.parquet", **columns)
    refused(folder, r"1 of 5 stays have another last film, film_hours or n_films than in pairs\.parquet")


def test_no_films_at_all(folder):
    for name in ("films.parquet", "pairs.parquet"):
        pl.read_parquet(folder / name).clear().write_parquet(folder / name)
    change(folder, "samples.parquet", film=[-1] * 5, n_films=[0] * 5, film_hours=[NAN] * 5)
    guards.check_preprocessed(folder)


def test_a_patient_in_two_splits(folder):
    change(folder, "samples.parquet", split=["train", "test", "train", "val", "test"])
    with pytest.raises(LeakError, match="1 of 4 patients are in more than one split"):
        guards.check_preprocessed(folder)


def test_films_and_stays_of_a_patient_must_agree(folder):
    change(folder, "films.parquet", split=["train", "train", "train", "train", "test"])  # patient 40's stay is val
    refused(folder, "1 of 4 patients are in more than one split")


def test_films_of_validation_and_test_patients_may_be_there(folder):
    assert set(pl.read_parquet(folder / "films.parquet")["split"]) == {"train", "val", "test"}
    guards.check_preprocessed(folder)
    with pytest.raises(LeakError, match="2 of 5 films for pretraining belong to validation or test patients"):
        guards.check_pretraining_films(pl.read_parquet(folder / "films.parquet")["split"].to_numpy())


def test_statistics_of_all_rows(folder):
    values = np.load(folder / "values.npy")
    write_normaliser(folder, values, np.ones(5, bool))
    with pytest.raises(LeakError, match=r"computed from 5 stays, 3 are in the training split"):
        guards.check_preprocessed(folder)
    forged = json.loads((folder / "normaliser.json").read_text()) | {"n_stays": 3}
    (folder / "normaliser.json").write_text(json.dumps(forged))
    with pytest.raises(LeakError, match="Diastolic blood pressure has mean .* rule: statistics from training rows"):
        guards.check_preprocessed(folder)


@pytest.mark.parametrize("kind", ["standard", "robust"])
@pytest.mark.parametrize("key", ["mean", "sd"])
def test_one_statistic_off_by_a_thousandth(folder, key, kind):
    write_normaliser(folder, np.load(folder / "values.npy"), np.array([True, True, True, False, False]), kind)
    guards.check_preprocessed(folder)
    forged = json.loads((folder / "normaliser.json").read_text())
    forged[key][HEART_RATE] *= 1.001
    (folder / "normaliser.json").write_text(json.dumps(forged))
    refused(folder, f"Heart Rate has {'mean' if kind == 'standard' else 'median'}")


def test_robust_statistics_of_all_rows(folder):
    write_normaliser(folder, np.load(folder / "values.npy"), np.ones(5, bool), "robust")
    forged = json.loads((folder / "normaliser.json").read_text()) | {"n_stays": 3}
    (folder / "normaliser.json").write_text(json.dumps(forged))
    refused(
        folder, r"Diastolic blood pressure has median .* and interquartile range / 1\.349 .*; rule: statistics from"
    )


def test_statistics_of_another_kind_than_they_say(folder):
    genuine = json.loads((folder / "normaliser.json").read_text())
    assert genuine.pop("kind") == "standard"
    (folder / "normaliser.json").write_text(json.dumps(genuine))
    guards.check_preprocessed(folder)  # an artifact from before there was a choice
    (folder / "normaliser.json").write_text(json.dumps(genuine | {"kind": "robust"}))
    refused(folder, "Diastolic blood pressure has median")
    (folder / "normaliser.json").write_text(json.dumps(genuine | {"kind": "minmax"}))
    refused(folder, r"normaliser\.json: kind is not one of standard, robust")


def test_a_constant_column_is_proved_too(folder):
    values = np.load(folder / "values.npy")
    values[:, HEART_RATE] = 86
    np.save(folder / "values.npy", values)
    for kind in ("standard", "robust"):
        write_normaliser(folder, values, np.array([True, True, True, False, False]), kind)
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
