"""A recurrent encoder that knows how old its input is: GRU-D."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fusionctl.data.batch import N_COLUMNS, N_VALUE_COLUMNS, variable_of_columns

# Times are read in units of the paper's window, and what is older counts as this old: a variable that is hardly ever
# measured would else erase the state of a stay of weeks. Che et al. scale the times to at most 1 too.
LONGEST_HOURS = 48.0
# Largest first decay, summed over all variables, of the state from one step to the next: e^-0.2. Che et al. begin at
# random, half of it where the maximum with 0 gives no decay and no gradient.
FIRST_STATE_DECAY = 0.2


class Decay(nn.Module):
    """GRU-D (Che et al., Scientific Reports 8:6085, 2018), one layer.

    With d the time since a variable was last seen before a step, and exp(-max(0, W d + b)) what remains after it:

    - input: a value that was not measured in this step, but is the last one seen, decays to the mean of the training
      set, which is 0 after standardisation (and no category, for a category). W is diagonal: each variable has a rate
      of its own. Before the first measurement the input is that mean: what was imputed there says nothing.
    - state: it decays before each step, by the times of all variables.
    - the 17 masks, and whatever else comes in, are input too.

    The grid must carry the last value forward (`preprocess --impute previous`, the default) to be the paper's input.

    Args:
        n_inputs: columns that are read, the first 76 as in `data.batch.column_names`.
        hidden: width of the state.
        step_hours: hours from one row to the next.
    """

    def __init__(self, n_inputs: int, hidden: int, *, step_hours: float) -> None:
        super().__init__()
        n_variables = N_COLUMNS - N_VALUE_COLUMNS
        self.step_hours = step_hours
        self.input_rate = nn.Parameter(torch.rand(n_variables) * 2)  # e^-1 is left after LONGEST_HOURS, on average
        self.input_shift = nn.Parameter(torch.zeros(n_variables))
        self.state_decay = nn.Linear(n_variables, hidden)
        nn.init.uniform_(self.state_decay.weight, 0, FIRST_STATE_DECAY / n_variables)
        nn.init.zeros_(self.state_decay.bias)
        self.cell = nn.GRUCell(n_inputs, hidden)
        self.register_buffer("owner", torch.tensor(variable_of_columns()), persistent=False)

    def forward(self, inputs: Tensor, series: Tensor, lengths: Tensor) -> Tensor:
        """States.

        Args:
            inputs: (B, T, n_inputs) what is read.
            series: (B, T, 76) as in the batch, for its masks.
            lengths: not used: a state depends on the steps before only.

        Returns:
            (B, T, hidden).
        """
        since = time_since_seen(series, step_hours=self.step_hours)
        values, others = inputs[..., :N_VALUE_COLUMNS], inputs[..., N_VALUE_COLUMNS:]
        decayed = values * self.input_factors(series, since)
        kept = torch.exp(-self.state_decay(since).relu())
        # All that does not depend on the state is done for all steps at once; unbind, because the gradient of
        # indexing would fill a tensor of all steps at each step.
        state, states = inputs.new_zeros(len(inputs), self.cell.hidden_size), []
        for row, share in zip(torch.cat([decayed, others], dim=2).unbind(1), kept.unbind(1), strict=True):
            state = self.cell(row, state * share)
            states.append(state)
        return torch.stack(states, dim=1)

    def input_factors(self, series: Tensor, since: Tensor) -> Tensor:
        """What is left of each value column: 1 where measured, falling with the time since, 0 before the first time.

        Args:
            series: (B, T, 76).
            since: (B, T, 17), from `time_since_seen`.

        Returns:
            (B, T, 59).
        """
        observed = _observed(series)
        left = torch.exp(-(since * self.input_rate + self.input_shift).relu()) * observed.cummax(dim=1).values
        owner: Tensor = self.owner  # type: ignore[assignment]
        return left.masked_fill(observed > 0, 1.0)[..., owner]


def time_since_seen(series: Tensor, *, step_hours: float) -> Tensor:
    """Time since each variable was last seen before a step; before the first time, since the first step.

    So at a step at which a variable is measured it is the time to the measurement before, as in Che et al.

    Args:
        series: (B, T, 76); only the masks, its last 17 columns, are read.
        step_hours: hours from one row to the next.

    Returns:
        (B, T, 17) in units of `LONGEST_HOURS`, at most 1.
    """
    observed = _observed(series)
    step = torch.arange(series.shape[1], device=series.device, dtype=torch.float32)[:, None]
    seen = (observed * step).cummax(dim=1).values  # last step with a measurement, this one included; 0 if none
    before = torch.cat([torch.zeros_like(seen[:, :1]), seen[:, :-1]], dim=1)
    return ((step - before) * (step_hours / LONGEST_HOURS)).clamp(max=1.0)


def _observed(series: Tensor) -> Tensor:
    """(B, T, 76) -> (B, T, 17), 1 where measured, else 0, even where a method changed its input a little."""
    return (series[..., N_VALUE_COLUMNS:] > 0.5).to(torch.float32)
