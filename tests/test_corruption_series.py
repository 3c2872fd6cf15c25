import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionctl.corruption_series import MISTAKES, Gap, Imputation, Units, Variables
from fusionctl.data.event_blocks import Events
from fusionctl.data.series import grid
from fusionctl.data.variables import INDEX, VARIABLES

PREVIOUS = Imputation.of(impute="previous", protocol="paper")
LEVELS = (0.1, 0.3, 0.6, 0.95, 1.0)
RATE, WEIGHT = INDEX["Heart Rate"], INDEX["Weight"]


def stay(rows=24, seed=0, impute=PREVIOUS):
    """A stay's grid as preprocess makes it: (T, 17) values and masks."""
    rng = np.random.default_rng(seed)
    observed = rng.random((rows, 17)) < 0.3
    measured = np.array([v.normal_value for v in VARIABLES]) + rng.integers(0, 2, (rows, 17))
    return impute(measured.astype(np.float32), observed), observed


@pytest.mark.parametrize("impute", ["previous", "normal", "zero"])
def test_imputation_is_that_of_preprocess(impute):
    rng = np.random.default_rng(1)
    rule = Imputation.of(impute=impute, protocol="paper")
    n = 60
    hours = np.sort(rng.uniform(0, 12, n))
    events = Events(
        stay_id=np.zeros(n, np.int64),
        hours=hours,
        variable=rng.integers(0, 17, n).astype(np.int64),
        value=rng.integers(0, 2, n).astype(np.float32),
    )
    values, observed, _ = grid(
        np.zeros(n, np.int64), events, np.array([12.0]), timestep=1.0, fill=rule.fill, carry=rule.carry
    )
    np.testing.assert_array_equal(rule(values, observed), values)
    garbage = np.where(observed, values, 999)
    np.testing.assert_array_equal(rule(garbage, observed), values)


def test_legacy_imputes_its_own_normal_values():
    eye = INDEX["Glascow coma scale eye opening"]
    fills = [Imputation.of(impute="previous", protocol=p).fill[eye] for p in ("paper", "legacy")]
    names = VARIABLES[eye].categories
    assert [names[int(fill)] for fill in fills] == ["Spontaneously", "4 Spontaneously"]


@pytest.mark.parametrize("level", LEVELS)
def test_a_share_of_the_variables_was_never_measured(level):
    values, observed = stay()
    less, masks = Variables(PREVIOUS, level=level, seed=0).series(values, observed, 7)
    away = ~masks.any(axis=0)
    assert away.sum() >= round(level * 17) == (less[0] == PREVIOUS.fill)[away].sum() or observed.all()
    np.testing.assert_array_equal(less[:, away], np.tile(PREVIOUS.fill[away], (24, 1)))
    np.testing.assert_array_equal(less[:, ~away], values[:, ~away])
    np.testing.assert_array_equal(masks[:, ~away], observed[:, ~away])


@pytest.mark.parametrize("kind", [Variables, Gap, Units])
def test_what_is_given_is_not_changed(kind):
    values, observed = stay()
    before = values.copy(), observed.copy()
    for level in LEVELS:
        kind(PREVIOUS, level=level, seed=0).series(values, observed, 7)
    np.testing.assert_array_equal(values, before[0])
    np.testing.assert_array_equal(observed, before[1])


@pytest.mark.parametrize("kind", [Variables, Gap])
@pytest.mark.parametrize("stay_id", range(8))
def test_what_is_away_stays_away_at_a_greater_level(kind, stay_id):
    values, observed = np.zeros((24, 17), np.float32), np.ones((24, 17), bool)
    masks = [kind(PREVIOUS, level=level, seed=0).series(values, observed, stay_id)[1] for level in LEVELS]
    assert all((less <= more).all() for more, less in zip(masks, masks[1:], strict=False))


@given(rows=st.integers(1, 60), stay_id=st.integers(0, 10**8), levels=st.lists(st.floats(0, 1), min_size=2, max_size=6))
@settings(max_examples=60, deadline=None)
def test_gaps_of_any_length_lie_in_each_other(rows, stay_id, levels):
    values, observed = np.zeros((rows, 17), np.float32), np.ones((rows, 17), bool)
    gaps = [~Gap(PREVIOUS, level=level, seed=0).series(values, observed, stay_id)[1][:, 0] for level in sorted(levels)]
    for level, gap in zip(sorted(levels), gaps, strict=True):
        assert gap.sum() == round(level * rows)
        places = np.flatnonzero(gap)
        assert len(places) == 0 or places[-1] - places[0] + 1 == len(places)
    assert all((small <= large).all() for small, large in zip(gaps, gaps[1:], strict=False))


def test_a_gap_is_carried_forward_and_so_is_what_was_seen_in_it():
    values, observed = np.tile(PREVIOUS.fill, (6, 1)), np.zeros((6, 17), bool)
    for row, rate in ((0, 70), (2, 110), (5, 90)):
        values[row:, RATE], observed[row, RATE] = rate, True
    gaps = {}
    for stay_id in range(40):
        less, masks = Gap(PREVIOUS, level=0.5, seed=0).series(values, observed, stay_id)
        first = next(k for k in range(4) if not masks[k : k + 3].any() and (masks[:k] == observed[:k]).all())
        gaps[first, tuple(masks[:, RATE])] = less[:, RATE].tolist()
    assert gaps[1, (True, False, False, False, False, True)] == [70, 70, 70, 70, 70, 90]  # 110 was never seen
    normal = float(PREVIOUS.fill[RATE])
    assert gaps[0, (False,) * 5 + (True,)] == [normal] * 5 + [90]
    assert len(gaps) >= 3


def test_units_are_mistaken_where_something_was_measured():
    values, observed = stay(seed=3)
    values[observed[:, WEIGHT].argmax() :, WEIGHT] = 80
    wrong, masks = Units(PREVIOUS, level=1.0, seed=0).series(values, observed, 7)
    assert masks is observed
    before = np.maximum.accumulate(observed, axis=0)
    for variable in VARIABLES:
        column = INDEX[variable.name]
        scale, offset = MISTAKES.get(variable.name, (1.0, 0.0))
        expected = np.where(before[:, column], values[:, column] * scale + offset, PREVIOUS.fill[column])
        np.testing.assert_allclose(wrong[:, column], expected, rtol=1e-6)
    assert wrong[-1, WEIGHT] == pytest.approx(176.37, abs=0.01)


def test_the_mistakes():
    def mistaken(name, value):
        scale, offset = MISTAKES[name]
        return value * scale + offset

    assert mistaken("Temperature", 37.0) == pytest.approx(98.6)
    assert mistaken("Weight", 70.0) == pytest.approx(154.32, abs=0.01)
    assert mistaken("Height", 170.0) == pytest.approx(66.93, abs=0.01)
    assert mistaken("Glucose", 90.0) == pytest.approx(5.0, abs=0.01)
    assert mistaken("Fraction inspired oxygen", 0.5) == pytest.approx(0.005)


def test_a_share_of_the_stays_has_mistaken_units():
    values, observed = np.tile(PREVIOUS.fill, (2, 1)), np.ones((2, 17), bool)
    units = Units(PREVIOUS, level=0.3, seed=0)
    wrong = np.mean([(units.series(values, observed, s)[0] != values).any() for s in range(1000)])
    assert wrong == pytest.approx(0.3, abs=0.05)
