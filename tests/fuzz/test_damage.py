"""Broken trees: an error with file and place, a warning with a count, a counted loss, or the same result.

This runs a fixed sample of the corpus. `benchmarks/fuzz.py` runs every kind on every table that it fits, and pairs.
"""

import random
import shutil

import pytest
from broken_tree import write_good
from corpus import DAMAGES, one_of_each, sample
from outcome import Error, Good, Same, check_output

EVERY = 4  # of the kinds: what a minute and a half allow


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    return Good(write_good(folder / "good"), folder)


def forget(run):
    shutil.rmtree(run.work.parent, ignore_errors=True)


def test_the_corpus_is_large_and_every_family_is_tried():
    assert len(DAMAGES) >= 200
    assert {case.damage.family for case in sample(EVERY)} == {kind.family for kind in DAMAGES.values()}


def test_a_tree_without_damage_gives_the_same_again(good):
    run = good.try_out()
    check_output(run, good)
    Same().check(run, good, "")
    forget(run)


@pytest.mark.parametrize("case", sample(EVERY), ids=lambda case: case.name)
def test_damage(good, case):
    run = good.try_out(case.do)
    check_output(run, good)
    case.damage.outcome.check(run, good, case.table)
    forget(run)


@pytest.mark.parametrize("seed", range(4))
def test_two_damages_at_once(good, seed):
    """No outcome is known for two: but where the first is an error the run ends with one, and never as by a bug."""
    pair = random.Random(seed).sample([case for case in one_of_each() if case.damage.family not in ("bomb", "tree")], 2)
    run = good.try_out(*(case.do for case in pair))
    check_output(run, good)
    if isinstance(pair[0].damage.outcome, Error) and pair[0].table and pair[1].table not in ("", pair[0].table):
        assert run.code == 3, [case.name for case in pair]
    forget(run)
