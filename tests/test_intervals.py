import numpy as np
import pytest
from scipy import stats

from fusionctl import metrics
from fusionctl.intervals import Bootstrap, interval, method_of, two_sided_p

METHODS = ("percentile", "shifted", "basic", "bca")


def skewed(n=40, seed=3):
    return np.random.default_rng(seed).exponential(size=n)


def ends(value, draws, method="percentile", left_out=None, **options):
    found = interval(value, draws, method, left_out, **options)
    return found["low"], found["high"]


def without_each(data, statistic):
    return np.array([statistic(np.delete(data, i)) for i in range(len(data))])


@pytest.mark.parametrize("statistic", [np.mean, np.std])
def test_bca_equals_scipy(statistic):
    data = skewed()
    result = stats.bootstrap((data,), statistic, n_resamples=999, method="BCa", vectorized=False, random_state=1)
    got = ends(statistic(data), result.bootstrap_distribution, "bca", without_each(data, statistic))
    assert got == pytest.approx(tuple(result.confidence_interval), abs=1e-12)
    assert got != pytest.approx(ends(statistic(data), result.bootstrap_distribution), abs=1e-3)


def test_bca_without_bias_and_skew_is_the_percentile_interval():
    draws = np.linspace(-1, 1, 1001)
    assert ends(0.0, draws, "bca", np.array([-1.0, 1.0])) == pytest.approx(ends(0.0, draws))
    assert ends(0.0, draws) == pytest.approx((-0.95, 0.95))


def test_limits_stay_finite_in_extremes():
    draws = np.linspace(0, 1, 101)
    for value in (-5.0, 5.0):  # all draws on one side
        low, high = ends(value, draws, "bca", skewed())
        assert 0 <= low <= high <= 1
        assert 0 < two_sided_p(value, draws - 0.5, "bca", skewed()) <= 1
    spike = np.r_[np.zeros(30), 1.0]
    assert ends(0.5, draws, "bca", spike) != ends(0.5, draws, "bca", -spike)
    for method in METHODS:
        assert ends(1.0, np.ones(9), method, np.ones(4)) == (1.0, 1.0)  # nothing varies
    assert ends(0.5, draws, "bca", np.full(3, np.nan)) == ends(0.5, draws, "bca", np.ones(3))


def test_where_each_method_puts_the_interval():
    draws = np.linspace(0.3, 0.7, 1001)  # of a value of 0.4: the bias is 0.1
    assert ends(0.4, draws) == pytest.approx((0.31, 0.69))
    assert ends(0.4, draws, "basic") == pytest.approx((0.11, 0.49))
    assert ends(0.4, draws, "shifted") == pytest.approx((0.11, 0.49))
    skew = np.r_[np.full(500, 0.4), draws[500:]]
    basic, shifted = ends(0.4, skew, "basic"), ends(0.4, skew, "shifted")
    assert 0.4 - basic[0] > basic[1] - 0.4 and shifted[1] - shifted[0] == pytest.approx(basic[1] - basic[0])
    assert ends(0.4, draws, "basic", bounds=(0.2, 0.45)) == (0.2, 0.45)


def test_auto_is_shifted_for_an_auprc_and_percentile_for_all_else():
    assert [method_of("auto", m) for m in (*metrics.METRICS, "brier")] == ["percentile", "shifted"] + ["percentile"] * 3
    assert method_of("auto", "auprc", difference=True) == "percentile" and method_of("bca", "auprc") == "bca"


@pytest.mark.parametrize("method", METHODS)
def test_p_is_below_5_per_cent_where_the_interval_leaves_0_out(method):
    rng, clear = np.random.default_rng(5), 0
    for _ in range(150):
        data = rng.exponential(size=30) - rng.choice([0.5, 0.65, 1.0, 1.5, 1.9])
        draws = data[rng.integers(0, 30, (400, 30))].mean(axis=1)
        left_out = without_each(data, np.mean)
        low, high = ends(data.mean(), draws, method, left_out)
        p = two_sided_p(data.mean(), draws, method, left_out)
        clear += p < 0.05
        # An end lies between two draws, a p at the outer one.
        assert (low > 0 or high < 0) if p < 0.05 else (low <= 0 <= high or p < 0.07)
        assert 2 / 401 <= p <= 1
    assert 30 < clear < 120


def rare_labels(rng, n):
    """25 labels of 2 to 20 % of the stays, that come together in sick patients, and a model's scores of them."""
    sick = rng.normal(size=(n, 1))
    risk = 0.55 * sick + 0.835 * rng.normal(size=(n, 25))
    labels = (risk > np.linspace(2.05, 0.84, 25)).astype(float)
    return labels, 1 / (1 + np.exp(-risk - rng.normal(size=risk.shape)))


def test_the_interval_of_a_mean_auprc_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    labels, scores = rare_labels(rng, 50_000)
    truth = np.mean([metrics.auprc(labels[:, k], scores[:, k]) for k in range(25)])
    held = dict.fromkeys(("auto", "percentile"), 0)
    for seed in range(30):
        sample = rare_labels(rng, 300)
        boot = metrics.bootstrap(*sample, np.arange(300), resamples=150, seed=seed, threads=1)
        for method in held:
            found = boot.interval(0, method=method)["auprc"]
            held[method] += found["low"] <= truth <= found["high"]
    assert held["auto"] >= 25 and held["percentile"] <= 18


def test_nan_draws_are_left_out():
    draws = np.r_[np.nan, np.linspace(-1, 1, 1001)]
    assert ends(0.0, draws) == pytest.approx((-0.95, 0.95))
    for method in METHODS:
        assert np.isnan(ends(0.0, np.array([np.nan]), method)).all()
        assert np.isnan(two_sided_p(0.0, np.array([np.nan]), method))


def test_p_is_twice_the_smaller_tail_and_never_zero():
    assert two_sided_p(50.0, np.arange(1, 100.0)) == pytest.approx(2 / 100)
    assert two_sided_p(50.0, np.r_[-1.0, np.arange(1, 99.0)]) == pytest.approx(4 / 100)
    assert two_sided_p(0.0, np.zeros(99)) == 1.0


def toy(asked):
    """Three models, one label and the mean, two metrics, drawn from a skewed sample."""
    rng = np.random.default_rng(0)
    data = rng.exponential(0.1, size=(50, 3, 2, 2))
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
    assert bca_paired["one"]["low"] != paired["one"]["low"] and bca_paired["one"]["p"] != paired["one"]["p"]


def test_the_difference_uses_the_jackknife_of_the_difference():
    result = toy([])
    got = result.difference(1, 0, 0, method="bca")["two"]
    value, draws, left_out = (
        x[..., 1, 0, 1] - x[..., 0, 0, 1] for x in (result.values, result.draws, result.left_out())
    )
    assert (got["low"], got["high"]) == ends(float(value), draws, "bca", left_out)
    assert got["p"] == two_sided_p(float(value), draws, "bca", left_out)


@pytest.mark.parametrize("method", METHODS)
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
