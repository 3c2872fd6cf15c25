import numpy as np
import pytest

from fusionctl.ranking import LANES
from fusionctl.resampling import leave_one_out, resample


@pytest.mark.parametrize("resamples", [0, 1, LANES - 1, LANES, 3 * LANES])
def test_the_data_comes_first_then_each_resample_in_the_order_of_the_generator(resamples):
    n = 23
    blocks = resample(n, resamples, (5, 1))
    lanes = blocks.transpose(0, 2, 1).reshape(-1, n)
    assert (lanes[0] == 1).all() and not lanes[1 + resamples :].any()
    rng = np.random.default_rng((5, 1))
    for drawn in lanes[1 : 1 + resamples]:
        np.testing.assert_array_equal(drawn, np.bincount(rng.integers(0, n, n), minlength=n))


def test_no_patient_at_all():
    assert resample(0, 100, 0).shape == (2, 0, LANES)
    assert list(leave_one_out(0)) == []


@pytest.mark.parametrize("n", [1, LANES, LANES + 3])
def test_one_patient_is_left_out_in_turn(n):
    lanes = np.concatenate([block[0].T for block in leave_one_out(n)])[:n]
    np.testing.assert_array_equal(lanes, 1 - np.eye(n, dtype=np.uint8))
