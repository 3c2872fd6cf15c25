"""Summaries of a whole stay's measured values beside the recurrent state: what simple models read, for the network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fusionctl.data.batch import N_COLUMNS, N_VALUE_COLUMNS, variable_of_columns

# Columns of `Summary.summaries`: mean, min, max, first, last and sd of each value column, and each variable's count.
N_SUMMARIES = 6 * N_VALUE_COLUMNS + (N_COLUMNS - N_VALUE_COLUMNS)
LARGEST = 3.0  # in standard deviations, as in `tabular.CLIP`: one implausible value must not decide


class Summary(nn.Module):
    """A linear map of the summaries to the encoder's features.

    An LSTM has to learn from few stays that the greatest creatinine of a week matters; a regression on the greatest
    creatinine has not. Labels that follow from extremes (diagnoses of phenotyping) gain most. An imputed value is no
    measurement, and a variable that was never measured gives 0, which is the mean of the training rows.

    Args:
        hidden: width of the features.
        input_dropout: share of the summaries that is hidden from a stay in training.
    """

    def __init__(self, hidden: int, *, input_dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(input_dropout)
        self.linear = nn.Linear(N_SUMMARIES, hidden)
        self.register_buffer("owner", torch.tensor(variable_of_columns()), persistent=False)

    def forward(self, series: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, 76) series and (B,) valid steps -> (B, hidden)."""
        return torch.as_tensor(self.linear(self.dropout(self.summaries(series, lengths))))

    def summaries(self, series: Tensor, lengths: Tensor) -> Tensor:
        """The summaries of the measured cells (B, N_SUMMARIES); what stands after the valid steps is not read."""
        values, masks = series[..., :N_VALUE_COLUMNS], series[..., N_VALUE_COLUMNS:] > 0.5
        steps = torch.arange(series.shape[1], device=series.device)[:, None]
        masks = masks & (steps < lengths[:, None, None])
        owner: Tensor = self.owner  # type: ignore[assignment]
        seen = masks[..., owner]
        count = seen.sum(dim=1)
        measured = values.masked_fill(~seen, 0.0)
        mean = measured.sum(dim=1) / count.clamp(min=1)
        spread = ((measured - mean[:, None]) * seen).square().sum(dim=1) / count.clamp(min=1)
        low = values.masked_fill(~seen, torch.inf).amin(dim=1)
        high = values.masked_fill(~seen, -torch.inf).amax(dim=1)
        at = {"first": torch.where(seen, steps, series.shape[1]).amin(dim=1), "last": (seen * steps).amax(dim=1)}
        ends = [measured.gather(1, step.clamp(max=series.shape[1] - 1)[:, None])[:, 0] for step in at.values()]
        columns = torch.stack([mean, low, high, *ends, spread.clamp(min=1e-12).sqrt()], dim=1).masked_fill(
            count[:, None] == 0, 0.0
        )
        often = torch.log1p(masks.sum(dim=1).to(series.dtype))
        return torch.cat([columns.clamp(-LARGEST, LARGEST).flatten(1), often], dim=1)
