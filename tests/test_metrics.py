import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from fusionctl.intervals import interval
from fusionctl.metrics import METRICS, TUNED, auprc, auroc, bootstrap, choose_threshold, f1, macro_f1, scores_of


def sample(seed, n=300, levels=None, prevalence=0.3):
    """Labels and scores with signal; `levels` rounds the scores, which makes ties."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < prevalence).astype(float)
    scores = 1 / (1 + np.exp(-(rng.normal(size=n) + labels)))
    return labels, np.round(scores * levels) / levels if levels else scores


def reference(labels, scores, weights=None):
    called = scores >= 0.5
    return [
        roc_auc_score(labels, scores, sample_weight=weights),
        average_precision_score(labels, scores, sample_weight=weights),
        f1_score(labels, called, average="macro", sample_weight=weights),
        f1_score(labels, called, sample_weight=weights),
    ]


@pytest.mark.parametrize("levels", [None, 50, 5, 2])
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_scikit_learn(seed, levels):
    labels, scores = sample(seed, levels=levels)
    got = [f(labels, scores) for f in (auroc, auprc, macro_f1, f1)]
    np.testing.assert_allclose(got, reference(labels, scores), rtol=0, atol=1e-12)


@pytest.mark.parametrize("levels", [None, 5])
@pytest.mark.parametrize("dtype", [np.int32, float])
def test_weights_are_repeated_rows(levels, dtype):
    labels, scores = sample(3, levels=levels)
    weights = np.random.default_rng(4).poisson(1, (5, len(labels))).astype(dtype)
    weights[0, scores == scores.max()] = 0
    got = scores_of(labels, scores, weights)
    for row, weight in zip(got, weights, strict=True):
        times = weight.astype(int)
        np.testing.assert_allclose(row, reference(labels.repeat(times), scores.repeat(times)), rtol=0, atol=1e-12)
        np.testing.assert_allclose(row, reference(labels, scores, weight), rtol=0, atol=1e-12)


def test_threshold_is_inclusive_and_moves_f1_only():
    labels, scores = np.array([0, 0, 1, 1.0]), np.array([0.1, 0.4, 0.4, 0.8])
    assert f1(labels, scores, threshold=0.4) == pytest.approx(0.8)
    assert f1(labels, scores, threshold=0.41) == pytest.approx(2 / 3)
    assert auroc(labels, scores) == pytest.approx(0.875)


def test_constant_predictor_is_chance():
    labels = np.array([0, 0, 0, 1.0])
    assert scores_of(labels, np.full(4, 0.2)) == pytest.approx([0.5, 0.25, 3 / 7, 0.0])
    result = bootstrap(labels[:, None], np.full((4, 1), 0.2), np.arange(4), resamples=50)
    assert result.interval(0)["auroc"] == {"value": 0.5, "low": 0.5, "high": 0.5}


def test_one_class_and_empty_are_nan_without_warning(recwarn):
    for labels in (np.zeros(5), np.ones(5), np.full(5, np.nan), np.empty(0)):
        assert np.isnan(scores_of(labels, np.linspace(0, 1, len(labels)))).all()
        summary = bootstrap(labels[:, None], np.zeros((len(labels), 1)), np.arange(len(labels)), resamples=9)
        assert np.isnan([list(v.values()) for v in summary.interval(0).values()]).all()
        assert np.isnan(summary.difference(0, 0)["auroc"]["p"])
    assert not recwarn.list


def test_resample_with_one_class_is_left_out_and_counted():
    labels = np.array([1.0] + [0.0] * 9)[:, None]
    result = bootstrap(labels, np.linspace(1, 0, 10)[:, None], np.arange(10), resamples=400, seed=1)
    assert 0.25 * 400 < result.undefined(0, 0) < 0.45 * 400  # (1 - 1/10)^10 = 0.35
    assert result.interval(0)["auroc"]["low"] == 1.0


def test_unknown_labels_drop_rows_of_that_label_only():
    labels, scores = sample(5)
    both = np.stack([labels, labels], axis=1)
    both[:100, 1] = np.nan
    result = bootstrap(both, np.stack([scores, scores], axis=1), np.arange(len(labels)), resamples=20)
    np.testing.assert_allclose(result.values[0, 0], reference(labels, scores), atol=1e-12)
    np.testing.assert_allclose(result.values[0, 1], reference(labels[100:], scores[100:]), atol=1e-12)


def test_missing_prediction_makes_the_model_nan_unless_the_label_is_unknown():
    labels, scores = sample(6)
    gap = scores.copy()
    gap[0] = np.nan
    result = bootstrap(labels[:, None], np.stack([scores, gap])[..., None], np.arange(300), resamples=20)
    assert not np.isnan(result.values[0]).any()
    assert np.isnan(result.values[1]).all() and np.isnan(result.draws[:, 1]).all()
    labels[0] = np.nan
    result = bootstrap(labels[:, None], gap[:, None], np.arange(300), resamples=20)
    assert not np.isnan(result.values).any()


def test_every_resample_equals_its_repeated_rows():
    labels, scores = sample(7, n=120, levels=20)
    patients = np.random.default_rng(8).integers(0, 60, 120)
    result = bootstrap(labels[:, None], scores[:, None], patients, resamples=6, seed=9)
    people, column = np.unique(patients, return_inverse=True)
    rng = np.random.default_rng(9)
    for draw in result.draws[:, 0, 0]:
        times = np.bincount(rng.integers(0, len(people), len(people)), minlength=len(people))[column]
        np.testing.assert_allclose(draw, reference(labels.repeat(times), scores.repeat(times)), atol=1e-12)


def test_rows_of_a_patient_move_together():
    """Copies of every row under the same patient change nothing; as patients of their own they narrow the interval."""
    labels, scores = sample(10, n=150)
    four, four_scores = np.tile(labels, 4)[:, None], np.tile(scores, 4)[:, None]
    single = bootstrap(labels[:, None], scores[:, None], np.arange(150), seed=3)
    together = bootstrap(four, four_scores, np.tile(np.arange(150), 4), seed=3)
    apart = bootstrap(four, four_scores, np.arange(600), seed=3)
    np.testing.assert_allclose(together.draws, single.draws, atol=1e-12)

    def width(result):
        return result.interval(0)["auroc"]["high"] - result.interval(0)["auroc"]["low"]

    assert width(apart) == pytest.approx(width(single) / 2, rel=0.15)


def test_interval_of_a_known_case():
    """Hanley and McNeil's standard error of an AUROC (Radiology 1982) gives the same width."""
    labels, scores = sample(11, n=1000)
    got = bootstrap(labels[:, None], scores[:, None], np.arange(1000), resamples=2000, seed=1).interval(0)["auroc"]
    a, p, n = got["value"], labels.sum(), (1 - labels).sum()
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    se = np.sqrt((a * (1 - a) + (p - 1) * (q1 - a * a) + (n - 1) * (q2 - a * a)) / (p * n))
    assert got["high"] - got["low"] == pytest.approx(2 * 1.96 * se, rel=0.1)
    assert got["low"] < a < got["high"]


def test_interval_of_the_mean_over_labels_is_narrower_than_the_mean_of_intervals():
    pairs = [sample(seed, n=400) for seed in range(20, 36)]
    labels, scores = (np.stack(columns, axis=1) for columns in zip(*pairs, strict=True))
    result = bootstrap(labels, scores, np.arange(400), resamples=300)
    widths = [result.interval(0, k)["auroc"]["high"] - result.interval(0, k)["auroc"]["low"] for k in range(16)]
    mean = result.interval(0)["auroc"]
    assert mean["value"] == pytest.approx(np.mean([auroc(*pair) for pair in pairs]))
    assert mean["high"] - mean["low"] == pytest.approx(np.mean(widths) / 4, rel=0.25)  # 16 independent labels


def test_mean_ignores_a_label_with_one_class():
    labels, scores = sample(12)
    both = np.stack([labels, np.zeros_like(labels)], axis=1)
    result = bootstrap(both, np.stack([scores, scores], axis=1), np.arange(300), resamples=10)
    np.testing.assert_allclose(result.values[0, -1], result.values[0, 0])
    assert np.isnan(result.values[0, 1]).all()


def test_models_share_resamples_and_the_paired_difference():
    labels, scores = sample(13)
    rng = np.random.default_rng(0)
    worse = scores + rng.normal(0, 0.02, 300) - 0.15 * labels
    stack = np.stack([scores, scores, worse])[..., None]
    result = bootstrap(labels[:, None], stack, np.arange(300), resamples=500)
    assert (result.draws[:, 0] == result.draws[:, 1]).all()
    same = result.difference(1, 0)["auroc"]
    assert same == {"value": 0.0, "low": 0.0, "high": 0.0, "p": 1.0}
    lower = result.difference(2, 0)["auroc"]
    assert lower["value"] == pytest.approx(auroc(labels, worse) - auroc(labels, scores))
    assert lower["high"] < 0 and lower["p"] == pytest.approx(2 / 501)
    alone = result.interval(2)["auroc"]
    assert lower["high"] - lower["low"] < 0.5 * (alone["high"] - alone["low"])


def test_tuned_thresholds_add_two_metrics():
    pairs = [sample(seed) for seed in (30, 31)]
    labels, scores = (np.stack(columns, axis=1) for columns in zip(*pairs, strict=True))
    chosen = np.array([[0.3, 0.7]])
    plain = bootstrap(labels, scores, np.arange(300), resamples=20)
    result = bootstrap(labels, scores, np.arange(300), resamples=20, tuned=chosen)
    assert result.metrics == METRICS + TUNED and plain.metrics == METRICS
    np.testing.assert_array_equal(result.draws[..., :4], plain.draws)
    for k in range(2):
        want = [f(labels[:, k], scores[:, k], threshold=chosen[0, k]) for f in (macro_f1, f1)]
        np.testing.assert_allclose(result.values[0, k, 4:], want, atol=1e-12)
    assert set(result.interval(0)) == {*METRICS, *TUNED}
    assert result.interval(0)["binary_f1_tuned"]["value"] == pytest.approx(result.values[0, :2, 5].mean())


def test_a_label_without_a_threshold_has_no_tuned_metric_and_the_mean_stays_comparable():
    pairs = [sample(seed) for seed in (30, 31)]
    labels, scores = (np.stack(columns, axis=1) for columns in zip(*pairs, strict=True))
    chosen = np.array([[np.nan, 0.4], [np.nan, 0.5], [0.4, 0.4]])
    both = bootstrap(labels, np.stack([scores] * 2), np.arange(300), resamples=9, tuned=chosen[:2])
    assert np.isnan(both.values[:, 0, 4:]).all() and not np.isnan(both.values[:, 0, :4]).any()
    np.testing.assert_allclose(both.values[:, -1, 4:], both.values[:, 1, 4:])
    three = bootstrap(labels, np.stack([scores] * 3), np.arange(300), resamples=9, tuned=chosen)
    # The third has a threshold for both labels: means over one label are not set beside its.
    assert np.isnan(three.values[:2, -1, 4:]).all() and not np.isnan(three.values[2, -1, 4:]).any()
    assert not np.isnan(three.values[:, -1, :4]).any()


@pytest.mark.parametrize("levels", [None, 8])
def test_the_chosen_threshold_has_the_greatest_f1(levels):
    labels, scores = sample(16, levels=levels)
    chosen = choose_threshold(labels, scores)
    by_score = {t: f1(labels, scores, threshold=t) for t in np.unique(scores)}
    assert chosen not in by_score  # nobody's probability
    assert f1(labels, scores, threshold=chosen) == pytest.approx(max(by_score.values()), abs=1e-12)


def test_of_equally_good_thresholds_the_largest_is_chosen():
    assert choose_threshold([1, 0, 0, 1], [0.9, 0.6, 0.5, 0.4]) == 0.75  # F1 of 2/3 up to 0.9 and up to 0.4
    assert choose_threshold([1, np.nan, 0, 1], [0.9, 0.8, 0.1, np.nan]) == 0.5


def test_a_threshold_below_all_scores_and_between_neighbours():
    assert choose_threshold([1, 0, 1], [0.9, 0.6, 0.5]) == 0.25  # all are called
    above = np.nextafter(0.5, 1)
    assert choose_threshold([1, 0], [above, 0.5]) == above and choose_threshold([1, 0], [0.5, 0.0]) == 0.25
    assert choose_threshold([1, 0, 1], [0.9, 0.5, 0.0]) == 0.0


def test_no_threshold_with_one_class():
    for labels in ([0, 0], [1, 1], [np.nan, 1], []):
        assert np.isnan(choose_threshold(labels, np.linspace(0, 1, len(labels))))
    assert np.isnan(choose_threshold([0, 1], [0.5, np.nan]))


def test_threads_change_nothing_and_progress_comes_in_order():
    pairs = [sample(seed) for seed in range(5)]
    labels, scores = (np.stack(columns, axis=1) for columns in zip(*pairs, strict=True))
    seen = []
    one, three = (
        bootstrap(
            labels,
            scores,
            np.arange(300),
            resamples=70,
            threads=n,
            progress=lambda done, total: seen.append((done, total)),
        )
        for n in (1, 3)
    )
    np.testing.assert_array_equal(one.draws, three.draws)
    assert seen == [(done, 5) for done in range(1, 6)] * 2


def test_left_out_is_every_patient_in_turn():
    labels, scores = sample(17, n=90, levels=9)
    other = np.where(np.arange(90) < 40, np.nan, labels)
    patients = np.random.default_rng(1).permutation(np.arange(90) % 70)
    stack = np.stack([scores, scores**2])[..., None].repeat(2, axis=2)
    result = bootstrap(np.stack([labels, other], axis=1), stack, patients, resamples=5, tuned=np.full((2, 2), 0.6))
    left_out = result.left_out()
    assert left_out.shape == (70, 2, 3, 6)
    for patient in (0, 33, 69):
        rest = patients != patient
        without = bootstrap(
            np.stack([labels, other], axis=1)[rest],
            stack[:, rest],
            patients[rest],
            resamples=0,
            tuned=np.full((2, 2), 0.6),
        )
        np.testing.assert_allclose(left_out[patient], without.values, atol=1e-12)


def test_bca_of_the_mean_over_labels_uses_the_jackknife_of_the_mean():
    pairs = [sample(seed, n=80) for seed in (40, 41)]
    labels, scores = (np.stack(columns, axis=1) for columns in zip(*pairs, strict=True))
    result = bootstrap(labels, scores, np.arange(80), resamples=500)
    got = result.interval(0, method="bca")["auprc"]
    jackknife = [
        np.mean([auprc(np.delete(labels[:, k], i), np.delete(scores[:, k], i)) for k in range(2)]) for i in range(80)
    ]
    want = interval(result.values[0, -1, 1], result.draws[:, 0, -1, 1], "bca", np.array(jackknife))
    assert got == pytest.approx(want, abs=1e-9)
    assert got["value"] == result.interval(0)["auprc"]["value"] and got["low"] != result.interval(0)["auprc"]["low"]
