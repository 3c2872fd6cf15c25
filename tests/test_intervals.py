import numpy as np
import pytest
from scipy import stats

from fusionctl.intervals import Bootstrap, limits, two_sided_p


def skewed(n=40, seed=3):
    return np.random.default_rng(seed).exponential(size=n)


def without_each(data, statistic):
    return np.array([statistic(np.delete(data, i)) for i in range(len(data))])


@pytest.mark.parametrize("statistic", [np.mean, np.std])
def test_bca_equals_scipy(statistic):
    data = skewed()
    result = stats.bootstrap((data,), statistic, n_resamples=999, method="BCa", vectorized=False, random_state=1)
    got = limits(statistic(data), result.bootstrap_distribution, without_each(data, statistic))
    assert got == pytest.approx(tuple(result.confidence_interval), abs=1e-12)
    assert got != pytest.approx(limits(statistic(data), result.bootstrap_distribution), abs=1e-3)


def test_bca_without_bias_and_skew_is_the_percentile_interval():
    draws = np.linspace(-1, 1, 1001)
    assert limits(0.0, draws, np.array([-1.0, 1.0])) == pytest.approx(limits(0.0, draws))
    assert limits(0.0, draws) == pytest.approx((-0.95, 0.95))


def test_limits_stay_finite_in_extremes():
    draws = np.linspace(0, 1, 101)
    for value in (-5.0, 5.0):  # all draws on one side
        low, high = limits(value, draws, skewed())
        assert 0 <= low <= high <= 1
    spike = np.r_[np.zeros(30), 1.0]
    assert limits(0.5, draws, spike) != limits(0.5, draws, -spike)
    assert limits(1.0, np.ones(9), np.ones(4)) == (1.0, 1.0)  # nothing varies
    assert limits(0.5, draws, np.full(3, np.nan)) == limits(0.5, draws, np.ones(3))


def test_nan_draws_are_left_out():
    draws = np.r_[np.nan, np.linspace(-1, 1, 1001)]
    assert limits(0.0, draws) == pytest.approx((-0.95, 0.95))
    assert np.isnan(limits(0.0, np.array([np.nan]))).all() and np.isnan(two_sided_p(np.array([np.nan])))


def test_p_is_twice_the_smaller_tail_and_never_zero():
    assert two_sided_p(np.arange(1, 100.0)) == pytest.approx(2 / 100)
    assert two_sided_p(np.r_[-1.0, np.arange(1, 99.0)]) == pytest.approx(4 / 100)
    assert two_sided_p(np.zeros(99)) == 1.0


def toy(asked):
    """Three models, one label and the mean, two metrics, drawn from a skewed sample."""
    rng = np.random.default_rng(0)
    data = rng.exponential(size=(50, 3, 2, 2))
    draws = np.stack([data[rng.integers(0, 50, 50)].mean(axis=0) for _ in range(400)])

    def left_out():
        asked.append(1)
        return (data.sum(axis=0) - data) / 49

    return Bootstrap(data.mean(axis=0), draws, ("one", "two"), left_out)


def test_the_jackknife_is_made_only_when_asked_for():
    asked = []
    result = toy(asked)
    percentile, paired = result.interval(0), result.difference(1, 0)
    assert not asked
    bca, bca_paired = result.interval(0, method="bca"), result.difference(1, 0, method="bca")
    assert asked
    assert bca["two"]["low"] > percentile["two"]["low"] and bca["two"]["value"] == percentile["two"]["value"]
    assert bca_paired["one"]["low"] != paired["one"]["low"] and bca_paired["one"]["p"] == paired["one"]["p"]


def test_the_difference_uses_the_jackknife_of_the_difference():
    result = toy([])
    got = result.difference(1, 0, 0, method="bca")["two"]
    value, draws, left_out = (
        x[..., 1, 0, 1] - x[..., 0, 0, 1] for x in (result.values, result.draws, result.left_out())
    )
    assert (got["low"], got["high"]) == limits(float(value), draws, left_out)


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_a_group_is_the_mean_of_its_models(method):
    result = toy([])
    groups = result.grouped([[0, 2], [1]])
    assert groups.metrics == result.metrics and groups.values.shape == (2, 2, 2)
    np.testing.assert_allclose(groups.draws[:, 0], result.draws[:, [0, 2]].mean(axis=1))
    assert groups.interval(1, method=method) == result.interval(1, method=method)
    mean = groups.interval(0, method=method)["one"]
    assert mean["value"] == pytest.approx((result.values[0, -1, 0] + result.values[2, -1, 0]) / 2)
    single = result.interval(0, method=method)["one"]
    assert mean["high"] - mean["low"] < single["high"] - single["low"]  # seeds that err independently


def test_a_group_with_a_model_without_value_has_none():
    result = toy([])
    result.values[0, 0] = result.draws[:, 0, 0] = np.nan
    group = result.grouped([[0, 1]])
    assert np.isnan(group.interval(0, 0)["one"]["value"]) and not np.isnan(group.interval(0)["one"]["value"])
    assert group.undefined(0, 0) == 400
