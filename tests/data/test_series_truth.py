"""The grid against the tensors that the reference's own code makes of the open MIMIC-IV demo."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fusionctl.data import series

DEMO = Path(__file__).parents[3] / "shared" / "data" / "mimic-iv-demo"
HEART_RATE = 220045  # one item, one unit: nothing of what the reference does otherwise touches it
NORMAL = np.array([86.0], dtype=np.float32)

pytestmark = pytest.mark.skipif(not DEMO.is_dir(), reason="the MIMIC-IV demo is not here")


@pytest.mark.parametrize("timestep", [1, 2])
def test_heart_rate_equals_the_reference_cell_by_cell(tmp_path, timestep):
    icu = DEMO / "mimic-iv" / "icu"
    time = pl.selectors.by_name("charttime", "intime", require_all=False).str.to_datetime()
    stays = pl.read_csv(icu / "icustays.csv.gz").select("stay_id", "intime").with_columns(time)
    rows = pl.read_csv(icu / "chartevents.csv.gz", schema_overrides={"value": pl.String})
    events = rows.filter(pl.col("itemid") == HEART_RATE).with_columns(time).join(stays, on="stay_id")
    hours = (pl.col("charttime") - pl.col("intime")).dt.total_seconds() / 3600
    events.select("stay_id", hours=hours, variable=pl.lit(0, pl.UInt8), value=pl.col("valuenum").cast(pl.Float32)).sort(
        "stay_id", "hours", "value"
    ).write_parquet(tmp_path / "events.parquet")
    truth = np.load(DEMO / "truth" / f"in-hospital-mortality_h{timestep}.npz")
    wanted = np.sort(np.array(truth.files, dtype=np.int64))
    found = series.write_grid(
        tmp_path / "events.parquet",
        tmp_path,
        wanted,
        np.full(len(wanted), 48.0),
        timestep=float(timestep),
        fill=NORMAL,
    )
    names = (DEMO / "truth" / "columns.txt").read_text().split("\n")
    columns = [names.index("Heart Rate"), names.index("mask->Heart Rate")]
    expected = np.concatenate([truth[str(stay)][:, columns] for stay in wanted])
    assert found.n_rows.tolist() == [48 // timestep] * len(wanted)
    np.testing.assert_allclose(np.load(tmp_path / "values.npy")[:, 0], expected[:, 0], atol=1e-4)
    np.testing.assert_array_equal(np.load(tmp_path / "observed.npy")[:, 0], expected[:, 1] == 1)
