"""What every task must keep, run over all of TASKS."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from fusionctl.data import series, splits
from fusionctl.tasks import TASKS

INTIME = datetime(2150, 1, 1)
NORMAL = np.zeros(17, np.float32)


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


@pytest.fixture(params=TASKS)
def task(request):
    return TASKS[request.param]


def test_names(task):
    assert TASKS[task.name] is task
    assert task.labels and len(set(task.labels)) == len(task.labels)


def test_table(task):
    samples, left_out = task.samples(stays())
    assert samples.columns == ["stay_id", "window_hours", *task.labels]
    assert samples["stay_id"].is_sorted() and samples["stay_id"].n_unique() == len(samples)
    assert samples["window_hours"].dtype == pl.Float64
    assert all(samples[name].dtype == pl.Float32 for name in task.labels)
    assert len(samples) + sum(left_out.values()) == len(stays())


def test_labels_are_0_1_or_nan(task):
    samples, _ = task.samples(stays())
    for name in task.labels:
        assert set(samples[name].fill_nan(-1).to_list()) <= {0.0, 1.0, -1.0}
        assert samples[name].null_count() == 0


def test_the_window_ends_inside_the_stay(task):
    table = stays(hours=np.linspace(1, 200, 50), died=[False] * 50)
    joined = task.samples(table)[0].join(table, on="stay_id")
    assert (joined["window_hours"] <= joined["los_hours"] + 1e-6).all()


def test_order_of_the_stays_does_not_matter(task):
    assert task.samples(stays())[0].equals(task.samples(stays().reverse())[0], null_equal=True)


def test_no_stays(task):
    samples, left_out = task.samples(stays().clear())
    assert len(samples) == 0 and sum(left_out.values()) == 0


def test_later_events_change_no_input(task, tmp_path):
    table = stays()
    samples, _ = task.samples(table)
    early = pl.DataFrame({"stay_id": table["stay_id"], "hours": 5.0, "variable": np.uint8(8), "value": np.float32(80)})
    late = early.join(samples, on="stay_id").select(
        "stay_id", hours=pl.col("window_hours") + 1e-4, variable="variable", value=pl.col("value") + 1
    )
    inputs = []
    for name, events in (("early", early), ("both", pl.concat([early, late]))):
        (tmp_path / name).mkdir()
        events.sort("stay_id", "hours").write_parquet(tmp_path / "events.parquet")
        series.write_grid(
            tmp_path / "events.parquet",
            tmp_path / name,
            samples["stay_id"].to_numpy(),
            samples["window_hours"].to_numpy(),
            timestep=2.0,
            normal=NORMAL,
        )
        inputs.append([(tmp_path / name / f).read_bytes() for f in ("values.npy", "observed.npy")])
    assert len(late) and inputs[0] == inputs[1]


def test_no_patient_in_two_splits(task):
    subjects = np.repeat(np.arange(40), 3)
    table = stays(hours=[60.0] * 120, died=[False] * 120, subjects=subjects.tolist())
    samples = task.samples(table)[0].join(table, on="stay_id")
    split = splits.assign(samples["subject_id"].to_numpy())
    splits.check(samples["subject_id"], split)
    assert len(set(split)) == 3


def test_mortality_takes_stays_of_48_hours_and_leaves_an_unknown_outcome_nan():
    table = stays(hours=(47.999, 48.0 - 5e-7, 48.0, 100.0, 60.0), died=(True, True, False, None, True))
    samples, left_out = TASKS["mortality"].samples(table)
    assert samples["stay_id"].to_list() == [1001, 1002, 1003, 1004]
    assert samples["window_hours"].to_list() == [48.0] * 4
    np.testing.assert_array_equal(samples["mortality"], [1, 0, np.nan, 1])
    assert left_out == {"ICU length of stay below 48 h": 1}
