import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionctl.data.normaliser import Normaliser
from fusionctl.errors import InputError

VALUES = np.array([[1, 5], [3, 6], [100, 7], [200, 8], [5, 9]], dtype=np.float32)
TRAIN, N_ROWS, CONTINUOUS = np.array([True, False, True]), np.array([2, 2, 1]), np.array([True, False])


def test_training_rows_only():
    found = Normaliser.fit(VALUES, TRAIN, N_ROWS, CONTINUOUS)
    assert found.mean == [3.0, 0.0]
    assert found.sd == pytest.approx([np.sqrt(8 / 3), 1.0])
    assert found.n_stays == 2
    assert found.to_json()["train_rows_only"] is True and found.to_json()["kind"] == "standard"


def test_robust_is_median_and_interquartile_range_of_training_rows():
    found = Normaliser.fit(VALUES, TRAIN, N_ROWS, CONTINUOUS, kind="robust")
    assert found.mean == [3.0, 0.0]
    assert found.sd == pytest.approx([2 / 1.349, 1.0])  # quartiles of 1, 3, 5 are 2 and 4
    assert found.to_json()["kind"] == "robust"


def test_both_kinds_agree_on_a_normal_distribution_but_not_on_outliers():
    values = np.random.default_rng(0).normal(80, 12, (200_000, 1)).astype(np.float32)
    where = np.array([True]), np.array([len(values)]), np.array([True])
    standard, robust = (Normaliser.fit(values, *where, kind=kind) for kind in ("standard", "robust"))
    assert robust.mean == pytest.approx(standard.mean, rel=0.002)
    assert robust.sd == pytest.approx(standard.sd, rel=0.01)
    values[:200] = 1e6  # a thousandth of the rows
    again, robbed = (Normaliser.fit(values, *where, kind=kind) for kind in ("robust", "standard"))
    assert again.sd == pytest.approx(robust.sd, rel=0.01) and robbed.sd[0] > 1000 * robust.sd[0]


@pytest.mark.parametrize("kind", ["standard", "robust"])
def test_a_constant_variable_is_not_blown_up(kind):
    values = np.full((1000, 1), 0.21, dtype=np.float32)
    found = Normaliser.fit(values, np.array([True]), np.array([1000]), np.array([True]), kind=kind)
    assert found.sd == [1.0]


def test_robust_scales_a_variable_that_is_nearly_always_imputed_by_its_sd():
    values = np.full((100, 1), 170, dtype=np.float32)
    values[:20] = 150
    found = Normaliser.fit(values, np.array([True]), np.array([100]), np.array([True]), kind="robust")
    assert found.mean == [170.0] and found.sd == pytest.approx([values.std()])


@pytest.mark.parametrize("kind", ["standard", "robust"])
def test_same_rows_same_bits(tmp_path, kind):
    rng = np.random.default_rng(1)
    values = rng.normal(50, 9, (300_000, 2)).astype(np.float32)
    np.save(tmp_path / "values.npy", values)
    mapped = np.load(tmp_path / "values.npy", mmap_mode="r")
    where = np.array([True, False, True]), np.array([100_000, 150_000, 50_000]), np.array([True, True])
    found = Normaliser.fit(values, *where, kind=kind)
    assert found == Normaliser.fit(mapped, *where, kind=kind)
    values[100_000:250_000] = 1e9  # rows of the stay that is not for training
    assert found == Normaliser.fit(values, *where, kind=kind)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=60))
def test_robust_equals_sorting_by_hand(numbers):
    column = sorted(float(np.float32(x)) for x in numbers)

    def quantile(share):
        position = share * (len(column) - 1)
        below, above = column[int(position)], column[min(int(position) + 1, len(column) - 1)]
        return below + (above - below) * (position - int(position))

    values = np.array(numbers, dtype=np.float32)[:, None]
    found = Normaliser.fit(values, np.array([True]), np.array([len(values)]), np.array([True]), kind="robust")
    spread = (quantile(0.75) - quantile(0.25)) / 1.349
    assert found.mean[0] == pytest.approx(quantile(0.5), rel=1e-9, abs=1e-9)
    spread = spread if spread > 1e-6 else float(values.astype(np.float64).std())
    assert found.sd[0] == pytest.approx(spread if spread > 1e-6 else 1.0, rel=1e-6, abs=1e-9)


def test_a_file_from_before_there_was_a_choice():
    old = Normaliser.fit(VALUES, TRAIN, N_ROWS, CONTINUOUS).to_json()
    del old["kind"]
    assert Normaliser(**json.loads(json.dumps(old))).kind == "standard"


def test_no_training_stay_is_an_error():
    with pytest.raises(InputError, match="none of 1 stays is in the training split"):
        Normaliser.fit(np.zeros((1, 1), np.float32), np.array([False]), np.array([1]), np.array([True]))
