import numpy as np
import pytest

from fusionctl.corruption_areas import above_chance, area, areas, named, relative

SCORES = np.array([[0.8, 0.5], [0.6, 0.5], [0.4, 0.25]])  # above chance


def test_relative_performance():
    np.testing.assert_allclose(relative(SCORES), [[1, 1], [0.75, 1], [0.5, 0.5]])
    both = np.stack([SCORES, 2 * SCORES])
    np.testing.assert_allclose(relative(both)[1], relative(SCORES))
    undefined = relative(np.array([[0.0, np.nan, -0.1], [0.5, 0.5, 0.5]]))
    assert np.isnan(undefined).all()


def test_a_share_is_of_what_is_above_guessing():
    """AUROC from 0.7 to 0.5 keeps nothing, and no share is told of a model that guesses to begin with."""
    noise = np.random.default_rng(0).normal(0, 0.02, (500, 1, 1))
    nan = np.nan
    scores = np.array([[0.7, 0.4, nan, nan], [0.6, 0.3, nan, nan], [0.5, 0.2, nan, nan]])
    chance, drawn_chance = np.array([0.5, 0.2, nan, nan]), np.tile([0.5, 0.2, nan, nan], (500, 1))
    above, drawn = above_chance(scores, scores + noise, chance, drawn_chance)
    np.testing.assert_allclose(relative(above)[:, :2], [[1, 1], [0.5, 0.5], [0, 0]], atol=1e-9)
    assert np.isnan(above[:, 2:]).all() and drawn.shape == (500, 3, 4)
    near = np.array([[0.53, 0.4, nan, nan]] * 3)  # 0.49 to 0.57
    above, drawn = above_chance(near, near + noise, chance, drawn_chance)
    assert np.isnan(above[:, 0]).all() and np.isnan(drawn[:, :, 0]).all() and not np.isnan(above[:, 1]).any()


def test_the_area_is_the_mean_height_of_the_curve():
    assert area((0.0, 0.1, 0.6), np.ones((3, 2))).tolist() == [1, 1]
    # by hand: ((1 + 0.75) / 2 * 0.1 + (0.75 + 0.5) / 2 * 0.5) / 0.6
    assert area((0.0, 0.1, 0.6), SCORES)[0] == pytest.approx(0.4 / 0.6)
    assert np.isnan(area((0.0,), SCORES[:1])).all()
    lost = SCORES.copy()
    lost[2, 0] = np.nan
    assert np.isnan(area((0.0, 0.1, 0.6), lost)).tolist() == [True, False]


def test_intervals_by_name():
    entry = {"value": 0.5, "low": 0.1, "high": 0.9}
    assert named(entry, "relative") == {"relative": 0.5, "relative_low": 0.1, "relative_high": 0.9}


def found(models, subset="all", corruption="noise", metric="auroc", seed=0):
    rng = np.random.default_rng(seed)
    shared = rng.normal(0, 0.1, 1000)
    rest = ("clean", corruption, "", "both", subset, metric)
    return {(m, *rest): (v, v + shared + rng.normal(0, 0.001, 1000)) for m, v in models.items()}


def test_models_are_compared_in_pairs_on_the_same_resamples():
    records, differences = areas(found({"a": 0.9, "b": 0.85, "c": 0.9}))
    assert [r["model"] for r in records] == ["a", "b", "c"]
    assert records[0] | {"low": 0, "high": 0} == {
        **{"model": "a", "trained": "clean", "corruption": "noise", "kind": "", "modality": "both"},
        **{"subset": "all", "metric": "auroc", "value": 0.9, "low": 0, "high": 0},
    }
    assert records[0]["high"] - records[0]["low"] > 0.3  # unpaired nothing could be told
    by_pair = {(d["a"], d["b"]): d for d in differences}
    assert set(by_pair) == {("a", "b"), ("a", "c"), ("b", "c")}
    assert by_pair["a", "b"]["value"] == pytest.approx(0.05) and by_pair["a", "b"]["p"] < 0.01
    assert by_pair["a", "b"]["low"] > 0.04 and by_pair["a", "c"]["p"] > 0.1


def test_holm_counts_all_differences_of_a_metric_and_subset():
    one = found({"a": 0.9, "b": 0.85})
    more = one | found({"a": 0.9, "b": 0.9}, corruption="gap", seed=1) | found({"a": 0.9, "b": 0.9}, subset="paired")
    alone, together = areas(one)[1][0], areas(more)[1][0]
    assert alone["p_holm"] == alone["p"] == together["p"]
    assert together["p_holm"] == pytest.approx(2 * alone["p"])


def test_an_area_without_a_value_has_no_test():
    given = found({"a": 0.9, "b": np.nan})
    difference = areas(given)[1][0]
    assert all(np.isnan(difference[name]) for name in ("value", "low", "high", "p", "p_holm"))
