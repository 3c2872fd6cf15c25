"""The tree baseline: summaries of measured cells only."""

import numpy as np
import pytest

from fusionctl import trees
from fusionctl.data.variables import GCS_TOTAL, INDEX, VARIABLES


@pytest.fixture
def grid():
    rng = np.random.default_rng(0)
    n_rows = np.array([4, 1, 6], dtype=np.int32)
    values = np.stack([rng.integers(0, len(v.categories) or 90, 11) for v in VARIABLES], axis=1).astype(np.float32)
    return values, rng.random(values.shape) < 0.5, np.array([0, 4, 5]), n_rows


def test_summaries_against_a_plain_reading(grid):
    values, observed, first, n = grid
    got = dict(zip(trees.feature_names(), trees.summarise(*grid).T, strict=True))
    for stay in range(3):
        rows = slice(first[stay], first[stay] + n[stay])
        for i, variable in enumerate(VARIABLES):
            x = values[rows, i][observed[rows, i]].astype(float)
            x = np.array([variable.scores[int(k)] for k in x], dtype=float) if variable.scores else x
            some = len(x) > 0
            expected = {
                "mean": x.mean() if some else np.nan,
                "min": x.min() if some else np.nan,
                "max": x.max() if some else np.nan,
                "first": x[0] if some else np.nan,
                "last": x[-1] if some else np.nan,
                "sd": x.std() if some else np.nan,
                "count": len(x),
            }
            for summary, value in expected.items():
                np.testing.assert_allclose(got[f"{summary} {variable.name}"][stay], value, rtol=1e-9, err_msg=summary)


def test_an_imputed_value_changes_nothing(grid):
    values, observed, first, n = grid
    other = np.where(observed, values, (values + 1) % 2)
    np.testing.assert_array_equal(
        trees.summarise(values, observed, first, n), trees.summarise(other, observed, first, n)
    )


def test_a_category_of_minus_one_is_not_measured(grid):
    values, observed, first, n = grid
    categorical = np.array([v.is_categorical for v in VARIABLES])
    gone = np.zeros_like(observed)
    gone[[0, 2, 4, 7]] = categorical
    expected = trees.summarise(values, observed & ~gone, first, n)
    for mask in (observed, observed & ~gone):  # even where something says that it was measured
        np.testing.assert_array_equal(trees.summarise(np.where(gone, -1, values), mask, first, n), expected)
    assert observed[gone].any()


def test_blocks_change_nothing(grid, monkeypatch):
    whole = trees.summarise(*grid)
    monkeypatch.setattr(trees, "_BLOCK_STAYS", 2)
    np.testing.assert_array_equal(trees.summarise(*grid), whole)


def test_coma_points_not_indices(grid):
    values, observed, first, n = grid
    observed[:, GCS_TOTAL] = True
    values[:, GCS_TOTAL] = VARIABLES[GCS_TOTAL].categories.index("15")
    column = trees.feature_names().index("max Glascow coma scale total")
    assert (trees.summarise(*grid)[:, column] == 15).all()
    assert INDEX["Glascow coma scale total"] == GCS_TOTAL


def test_trees_learn_and_bear_missing_columns_and_labels():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 4))
    labels = np.stack([features[:, 0] > 0, np.ones(300), features[:, 1] > 0], axis=1).astype(np.float32)
    features[:, 3] = np.nan
    features[::7, 0] = np.nan
    labels[:20, 2] = np.nan
    train = np.arange(200)
    got = trees.fit_predict(features, labels, train, seed=0)
    assert got.shape == (300, 3) and ((got > 0) & (got < 1)).all()
    assert ((got[200:, 0] > 0.5) == (labels[200:, 0] > 0)).mean() > 0.85
    assert (got[:, 1] > 0.99).all()
    np.testing.assert_array_equal(got, trees.fit_predict(features, labels, train, seed=0))


def test_labels_of_other_rows_do_not_reach_the_trees():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(120, 3)), (rng.random((120, 1)) < 0.5).astype(np.float32)
    changed = labels.copy()
    changed[80:] = 1 - changed[80:]
    first, second = (trees.fit_predict(features, y, np.arange(80), seed=0) for y in (labels, changed))
    np.testing.assert_array_equal(first, second)
