"""What every task must keep, run over all of TASKS."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from fusionctl.data import series, splits
from fusionctl.data.phenotypes import phenotypes
from fusionctl.tasks import TASKS

INTIME = datetime(2150, 1, 1)
NORMAL = np.zeros(17, np.float32)
PROTOCOLS = ("paper", "legacy")
RENAL = "Acute and unspecified renal failure"


def stays(hours=(47.0, 48.0, 72.0, 100.0), died=(True, False, True, None), subjects=None):
    n = len(hours)
    return pl.DataFrame(
        {
            "subject_id": list(subjects or range(10, 10 + n)),
            "hadm_id": list(range(100, 100 + n)),
            "stay_id": list(range(1000, 1000 + n)),
            "intime": [INTIME] * n,
            "outtime": [INTIME + timedelta(hours=h) for h in hours],
            "los_hours": list(map(float, hours)),
            "died_in_hospital": pl.Series(list(died), dtype=pl.Boolean),
        }
    )


def diagnoses(*rows):
    """(hadm_id, icd_code, icd_version); the first two stays' admissions are coded"""
    schema = {"hadm_id": pl.Int64, "icd_code": pl.String, "icd_version": pl.Int8}
    return pl.DataFrame(list(rows) or [(100, "N179", 10), (101, "5849", 9)], schema=schema, orient="row")


def make(task, table, coded=None, protocol="paper", **options):
    return task.samples(table, diagnoses() if coded is None else coded, protocol=protocol, **options)


@pytest.fixture(params=TASKS)
def task(request):
    return TASKS[request.param]


def test_names(task):
    assert TASKS[task.name] is task
    assert task.labels and len(set(task.labels)) == len(task.labels)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_table(task, protocol):
    samples, left_out = make(task, stays(), protocol=protocol)
    assert samples.columns == ["stay_id", "window_hours", *task.labels]
    assert samples["stay_id"].is_sorted() and samples["stay_id"].n_unique() == len(samples)
    assert samples["window_hours"].dtype == pl.Float64
    assert all(samples[name].dtype == pl.Float32 for name in task.labels)
    assert len(samples) + sum(left_out.values()) == len(stays())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_labels_are_0_1_or_nan(task, protocol):
    samples, _ = make(task, stays(), protocol=protocol)
    for name in task.labels:
        assert set(samples[name].fill_nan(-1).to_list()) <= {0.0, 1.0, -1.0}
        assert samples[name].null_count() == 0


def test_the_window_ends_inside_the_stay(task):
    table = stays(hours=np.linspace(1, 200, 50), died=[False] * 50)
    joined = make(task, table)[0].join(table, on="stay_id")
    assert (joined["window_hours"] <= joined["los_hours"] + 1e-6).all()


@pytest.mark.parametrize("hours", [1.5, 6.0, 60.0, 1000.0])
def test_window_hours_end_the_input_earlier(task, hours):
    table = stays(hours=np.linspace(1, 200, 50), died=[False] * 50)
    samples, left_out = make(task, table, window_hours=hours)
    joined = samples.join(table, on="stay_id")
    assert (joined["window_hours"] <= hours).all()
    assert (joined["window_hours"] <= joined["los_hours"] + 1e-6).all()
    assert len(samples) + sum(left_out.values()) == 50
    own, _ = make(task, table, window_hours=0.0)
    assert own.equals(make(task, table)[0], null_equal=True)


def test_order_of_the_diagnoses_does_not_matter(task):
    coded = diagnoses((101, "5849", 9), (102, "R6521", 10), (101, "I10", 10), (100, "I10", 10), (101, "5849", 9))
    found = [make(task, stays(), each)[0] for each in (coded, coded.reverse(), coded.unique())]
    assert found[0].equals(found[1], null_equal=True) and found[0].equals(found[2], null_equal=True)


def test_order_of_the_stays_does_not_matter(task):
    assert make(task, stays())[0].equals(make(task, stays().reverse())[0], null_equal=True)


def test_no_stays(task):
    samples, left_out = make(task, stays().clear())
    assert len(samples) == 0 and sum(left_out.values()) == 0


@pytest.mark.parametrize("window_hours", [0.0, 30.0])
@pytest.mark.parametrize("available_at", ["charttime", "storetime"])
def test_later_events_change_no_input(task, tmp_path, available_at, window_hours):
    table = stays()
    samples, _ = make(task, table, window_hours=window_hours)
    early = pl.DataFrame(
        {
            **{"stay_id": table["stay_id"], "hours": 5.0, "variable": np.uint8(8), "value": np.float32(80)},
            "stored_hours": 6.0,
        }
    )
    end = pl.col("window_hours")
    late = early.join(samples, on="stay_id").select(
        "stay_id", hours=end + 1e-4, variable="variable", value=pl.col("value") + 1, stored_hours=end + 1
    )
    if available_at == "storetime":  # charted in time, known too late
        late = pl.concat([late, late.with_columns(hours=pl.lit(5.0))])
    inputs = []
    for name, events in (
        ("early", early),
        ("changed", pl.concat([early, late])),
        ("others", pl.concat([early, late, late])),
    ):
        (tmp_path / name).mkdir()
        events.sort("stay_id", "hours", "stored_hours").write_parquet(tmp_path / "events.parquet")
        grid = series.write_grid(
            tmp_path / "events.parquet",
            tmp_path / name,
            samples["stay_id"].to_numpy(),
            samples["window_hours"].to_numpy(),
            timestep=2.0,
            fill=NORMAL,
            available_at=available_at,
        )
        assert (grid.last_event_hours == (6.0 if available_at == "storetime" else 5.0)).all()
        inputs.append([(tmp_path / name / f).read_bytes() for f in ("values.npy", "observed.npy")])
    assert len(late) and inputs[0] == inputs[1] == inputs[2]


def test_no_patient_in_two_splits(task):
    subjects = np.repeat(np.arange(40), 3)
    table = stays(hours=[60.0] * 120, died=[False] * 120, subjects=subjects.tolist())
    samples = make(task, table)[0].join(table, on="stay_id")
    split = splits.assign(samples["subject_id"].to_numpy())
    splits.check(samples["subject_id"], split)
    assert len(set(split)) == 3


def test_mortality_takes_stays_of_48_hours_and_leaves_an_unknown_outcome_nan():
    table = stays(hours=(47.999, 48.0 - 5e-7, 48.0, 100.0, 60.0), died=(True, True, False, None, True))
    samples, left_out = make(TASKS["mortality"], table)
    assert samples["stay_id"].to_list() == [1001, 1002, 1003, 1004]
    assert samples["window_hours"].to_list() == [48.0] * 4
    np.testing.assert_array_equal(samples["mortality"], [1, 0, np.nan, 1])
    assert left_out == {"ICU length of stay below 48 h": 1}


def test_mortality_at_another_hour_takes_the_stays_that_last_as_long():
    table = stays(hours=(20.0, 24.0, 47.0, 72.0), died=(True, False, True, None))
    samples, left_out = make(TASKS["mortality"], table, window_hours=24.0)
    assert samples["stay_id"].to_list() == [1001, 1002, 1003] and set(samples["window_hours"]) == {24.0}
    assert left_out == {"ICU length of stay below 24 h": 1}


def test_mortality_needs_no_diagnoses():
    coded, none = (make(TASKS["mortality"], stays(), d)[0] for d in (diagnoses(), diagnoses().clear()))
    assert coded.equals(none, null_equal=True)


def test_phenotyping_reads_the_whole_stay_and_all_its_diagnoses():
    table = stays(hours=(0.0, 0.5, 47.0, 250.0), died=(None, True, False, True))
    coded = diagnoses((101, "N179", 10), (102, "Z3800", 10))
    samples, left_out = make(TASKS["phenotyping"], table, coded)
    assert TASKS["phenotyping"].labels == tuple(p.name for p in phenotypes())
    assert samples["stay_id"].to_list() == [1001, 1002, 1003] and samples["window_hours"].to_list() == [0.5, 47, 250]
    assert left_out == {"ICU length of stay is zero": 1}
    np.testing.assert_array_equal(samples[RENAL], [1, 0, np.nan])  # the last was never coded
    legacy, _ = make(TASKS["phenotyping"], table, coded, "legacy")
    np.testing.assert_array_equal(legacy[RENAL], [1, 0, 0])


def test_phenotyping_of_the_first_hours():
    samples, left_out = make(TASKS["phenotyping"], stays(hours=(5.0, 24.0, 60.0, 0.0)), window_hours=24.0)
    assert samples["window_hours"].to_list() == [5, 24, 24]
    assert left_out == {"ICU length of stay is zero": 1}
    assert (
        make(TASKS["phenotyping"], stays(), window_hours=24.0)[0]
        .drop("window_hours")
        .equals(make(TASKS["phenotyping"], stays())[0].drop("window_hours"), null_equal=True)
    )
