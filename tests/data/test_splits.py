import numpy as np
import pytest

from fusionctl.data import splits
from fusionctl.errors import LeakError, UsageError

IDS = np.arange(10_000_000, 10_100_000)


def test_known_patients_never_move():
    """Frozen: a change of the hash or a salt makes every published number incomparable."""
    initials = "".join(split[1] for split in splits.assign(np.arange(1, 13)))  # t(r)ain, v(a)l, t(e)st
    assert initials == "rrrerrererre"
    assert np.flatnonzero(splits.inner_validation(np.arange(1, 41))).tolist() == [8, 23, 30, 34, 36]


def test_shares_are_70_10_20():
    split = splits.assign(IDS)
    for name, share in zip(splits.SPLITS, splits.SHARES, strict=True):
        # four standard deviations of a binomial share on 100,000 patients
        assert abs((split == name).mean() - share) < 4 * np.sqrt(share * (1 - share) / len(IDS))


def test_a_patients_split_does_not_depend_on_the_other_patients():
    alone = splits.assign(IDS[500:510])
    shuffled = np.random.default_rng(0).permutation(IDS)
    among_others = splits.assign(shuffled)
    assert alone.tolist() == [among_others[np.flatnonzero(shuffled == i)[0]] for i in IDS[500:510]]


def test_neighbouring_ids_are_independent():
    train = splits.assign(IDS) == "train"
    assert abs((train[1:] & train[:-1]).mean() - 0.49) < 0.01


def test_empty():
    assert splits.assign(np.empty(0, np.int64)).tolist() == []


def test_inner_validation_has_its_share_and_is_independent_of_the_split():
    inner = splits.inner_validation(IDS, share=0.1)
    train = splits.assign(IDS) == "train"
    assert abs(inner.mean() - 0.1) < 0.005
    assert abs(inner[train].mean() - inner[~train].mean()) < 0.01


def test_a_larger_inner_share_contains_a_smaller_one():
    small, large = splits.inner_validation(IDS, 0.1), splits.inner_validation(IDS, 0.2)
    assert (large | ~small).all() and large.sum() > small.sum()


def test_a_patient_in_two_splits_is_found():
    splits.check([1, 1, 2, 3], ["train", "train", "val", "test"])
    with pytest.raises(LeakError, match="2 of 3 patients are in more than one split"):
        splits.check([1, 1, 2, 3, 3], ["train", "test", "val", "test", "val"])


def test_check_takes_no_rows():
    splits.check([], [])


def test_known_patients_never_change_their_fold():
    """Frozen, as the splits above are."""
    fold_of = [next(f for f in range(5) if splits.folds([i], 5, f)[0] == "test") for i in range(1, 21)]
    assert fold_of == [0, 0, 0, 4, 2, 3, 4, 1, 3, 0, 0, 2, 1, 4, 2, 0, 2, 3, 2, 0]


@pytest.mark.parametrize("n_folds", [3, 5, 10, 100])
def test_every_patient_is_tested_once_and_validates_once(n_folds):
    found = np.stack([splits.folds(IDS[:20_000], n_folds, fold) for fold in range(n_folds)])
    assert set(np.unique(found)) == {"train", "val", "test"}
    assert ((found == "test").sum(axis=0) == 1).all() and ((found == "val").sum(axis=0) == 1).all()
    # the validation patients of a fold are the test patients of the next one
    np.testing.assert_array_equal(found == "val", np.roll(found == "test", -1, axis=0))


def test_folds_are_even_and_independent_of_the_split():
    test = splits.folds(IDS, 5, 2) == "test"
    train = splits.assign(IDS) == "train"
    assert abs(test.mean() - 0.2) < 4 * np.sqrt(0.2 * 0.8 / len(IDS))
    assert abs(test[train].mean() - test[~train].mean()) < 0.01
    assert abs((test & splits.inner_validation(IDS)).mean() - 0.02) < 0.003


def test_a_patients_fold_does_not_depend_on_the_other_patients():
    shuffled = np.random.default_rng(0).permutation(IDS)
    among_others = dict(zip(shuffled.tolist(), splits.folds(shuffled, 7, 3).tolist(), strict=True))
    assert splits.folds(IDS[:50], 7, 3).tolist() == [among_others[i] for i in IDS[:50].tolist()]


@pytest.mark.parametrize(
    ("n_folds", "fold", "match"),
    [
        (2, 0, "--folds must be at least 3, one fold each for testing, validation and training; got 2"),
        (0, 0, "--folds must be at least 3"),
        (5, 5, "--fold must be 0 to 4, below --folds 5; got 5"),
        (5, -1, "--fold must be 0 to 4, below --folds 5; got -1"),
    ],
)
def test_folds_out_of_range(n_folds, fold, match):
    with pytest.raises(UsageError, match=match):
        splits.folds(IDS[:3], n_folds, fold)


def test_folds_of_nobody():
    assert splits.folds([], 5, 0).tolist() == []
