"""GRU-D: times since last seen, decays by hand, the recurrence step by step."""

import math

import pytest
import torch

from fusionctl.data.batch import N_COLUMNS, N_VALUE_COLUMNS, column_names, variable_of_columns
from fusionctl.data.variables import INDEX, VARIABLES
from fusionctl.models.ehr import EhrEncoder
from fusionctl.models.ehr_decay import FIRST_STATE_DECAY, Decay, time_since_seen

RATE = INDEX["Heart Rate"]


def series_of(masks):
    """(B, T, 17) masks -> (B, T, 76) series, random in the value columns."""
    return torch.cat([torch.randn(*masks.shape[:2], N_VALUE_COLUMNS), masks.float()], dim=2)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_times_since_seen_against_a_slow_loop(share):
    torch.manual_seed(0)
    masks = torch.rand(3, 40, 17) < share
    got = time_since_seen(series_of(masks), step_hours=2.0)
    for stay in range(3):
        for variable in range(17):
            since = 0.0
            for step in range(40):
                if step:  # Che et al. 2018, equation 2
                    since = 2.0 if masks[stay, step - 1, variable] else since + 2.0
                assert float(got[stay, step, variable]) == pytest.approx(min(since, 48.0) / 48.0)


def test_the_value_columns_of_a_variable():
    owner, names = variable_of_columns(), column_names()
    assert len(owner) == N_VALUE_COLUMNS
    assert all(names[column].split("=")[0] == VARIABLES[variable].name for column, variable in enumerate(owner))


def test_the_decay_of_an_input_by_hand():
    """Seen at rows 1 and 3 of 6, two hours apart, with a rate of 12 in 48 hours, a quarter an hour."""
    decay = Decay(N_COLUMNS, 8, step_hours=2.0)
    decay.input_rate.data.fill_(12.0)
    decay.input_shift.data[RATE] = -0.5  # nothing is lost in the first two hours
    masks = torch.zeros(1, 6, 17)
    masks[0, [1, 3], RATE] = 1
    series = series_of(masks)
    factors = decay.input_factors(series, time_since_seen(series, step_hours=2.0))
    own = torch.tensor(variable_of_columns()) == RATE
    expected = [0.0, 1.0, 1.0, 1.0, 1.0, math.exp(-0.5)]
    torch.testing.assert_close(factors[0, :, own], torch.tensor(expected)[:, None])
    assert (factors[0, :, ~own] == 0).all()  # never seen: the mean


def test_the_recurrence_step_by_step():
    torch.manual_seed(0)
    decay = Decay(N_COLUMNS + 2, 8, step_hours=1.0)
    series, others = series_of(torch.rand(2, 5, 17) < 0.4), torch.randn(2, 5, 2)
    since = time_since_seen(series, step_hours=1.0)
    factors, state = decay.input_factors(series, since), torch.zeros(2, 8)
    got = decay(torch.cat([series, others], dim=2), series, torch.tensor([5, 5]))
    for step in range(5):
        exponent = since[:, step] @ decay.state_decay.weight.T + decay.state_decay.bias
        state = state * torch.exp(-exponent.clamp(min=0))
        values = series[:, step, :N_VALUE_COLUMNS] * factors[:, step]
        state = decay.cell(torch.cat([values, series[:, step, N_VALUE_COLUMNS:], others[:, step]], dim=1), state)
        torch.testing.assert_close(got[:, step], state)


def test_at_first_the_state_of_a_long_gap_is_kept():
    torch.manual_seed(0)
    decay = Decay(N_COLUMNS, 64, step_hours=2.0)
    share = torch.exp(-decay.state_decay(torch.ones(17)).relu())  # nothing was seen for 48 hours
    assert (share < 1).all() and (share > math.exp(-FIRST_STATE_DECAY)).all()


def test_hidden_columns_do_not_change_the_times():
    """Input dropout hides a mask column from the cell, not from the decay of what it tells about."""
    encoder, seen = EhrEncoder(arch="decay", hidden=8, input_dropout=0.9).train(), []
    encoder.trunk.state_decay.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    series = series_of(torch.rand(2, 6, 17) < 0.5)
    encoder(series, torch.tensor([6, 6]))
    torch.testing.assert_close(seen[0], time_since_seen(series, step_hours=2.0))


def test_size_at_the_papers_width():
    cell = 3 * 256 * (76 + 256) + 6 * 256
    expected = cell + 17 * 2 + 17 * 256 + 256 + 257
    assert sum(p.numel() for p in EhrEncoder(arch="decay").parameters()) == expected == 261_411
