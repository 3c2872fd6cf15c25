import numpy as np
import pytest

from fusionctl.decision import net_benefit, treat_all


def test_net_benefit_of_a_case_by_hand():
    labels, scores = [1, 1, 0, 0, 0], [0.9, 0.3, 0.6, 0.2, 0.1]
    got = net_benefit(labels, scores, [0.2, 0.5, 0.95])
    # From 0.2 four are called, two rightly; from 0.5 two, one rightly; from 0.95 nobody.
    assert got == pytest.approx([(2 - 2 * 0.25) / 5, (1 - 1 * 1.0) / 5, 0.0])
    assert treat_all(labels, [0.2, 0.5]) == pytest.approx([(2 - 3 * 0.25) / 5, -1 / 5])


def test_calling_everyone_is_treating_all_and_a_perfect_model_reaches_the_prevalence():
    labels = (np.random.default_rng(0).random(200) < 0.2).astype(float)
    thresholds = np.linspace(0.01, 0.99, 50)
    np.testing.assert_allclose(net_benefit(labels, np.ones(200), thresholds), treat_all(labels, thresholds))
    np.testing.assert_allclose(net_benefit(labels, labels, thresholds), labels.mean())
    np.testing.assert_array_equal(net_benefit(labels, np.zeros(200), thresholds), 0)


def test_equals_the_definition_at_every_threshold():
    rng = np.random.default_rng(1)
    labels, scores = rng.integers(0, 2, 300).astype(float), np.round(rng.random(300), 1)
    thresholds = np.arange(1, 10) / 10
    want = [np.mean((scores >= t) * np.where(labels == 1, 1, -t / (1 - t))) for t in thresholds]
    np.testing.assert_allclose(net_benefit(labels, scores, thresholds), want, atol=1e-12)


def test_rows_without_label_or_prediction_are_left_out(recwarn):
    labels, scores = np.array([1, 0, np.nan, 1]), np.array([0.8, 0.1, 0.9, np.nan])
    assert net_benefit(labels, scores, [0.5]) == pytest.approx([0.5])
    assert treat_all(labels, [0.5]) == pytest.approx([1 / 3])
    assert np.isnan(net_benefit([], [], [0.1, 0.2])).all() and np.isnan(treat_all([np.nan], [0.1])).all()
    assert not recwarn.list


@pytest.mark.parametrize("threshold", [0.0, 1.0, -0.1, np.nan])
def test_thresholds_must_be_chances(threshold):
    with pytest.raises(ValueError, match="thresholds must lie between 0 and 1, both left out; got"):
        net_benefit([0, 1], [0.1, 0.9], [threshold])
