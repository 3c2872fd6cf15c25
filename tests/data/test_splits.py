import numpy as np
import pytest

from fusionctl.data import splits
from fusionctl.errors import LeakError

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
