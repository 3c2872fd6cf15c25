"""The time-series encoder of the paper: two LSTM layers and a linear head."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

Pool = Literal["last", "mean"]


class EhrEncoder(nn.Module):
    """Two one-layer LSTMs with dropout between and after, then a linear head.

    The paper's sizes, 76 -> 256 -> 256 -> 1, give 868,609 parameters (each LSTM has its two bias vectors).

    Args:
        n_inputs: columns of the series.
        n_outputs: labels K of the head.
        hidden: width of both layers.
        dropout: share of features dropped between the layers and before the head.
        pool: what of the second layer's outputs is the stay's feature: `last`, the one at the last valid time step
            (paper), or `mean`, their mean over the valid steps.
        n_running: so many of the first columns also come in as their mean, minimum and maximum up to each step. 0 is
            the paper's input. An LSTM can learn these summaries, but not from a few thousand stays.
        input_dropout: share of the input columns that is hidden from a stay in training, at all its steps.

    Attributes:
        dim: width of the features.
        config: the arguments, from which the same encoder can be built again.
    """

    def __init__(
        self,
        n_inputs: int = 76,
        n_outputs: int = 1,
        *,
        hidden: int = 256,
        dropout: float = 0.3,
        pool: Pool = "last",
        n_running: int = 0,
        input_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "n_inputs": n_inputs,
            "n_outputs": n_outputs,
            "hidden": hidden,
            "dropout": dropout,
            "pool": pool,
            "n_running": n_running,
            "input_dropout": input_dropout,
        }
        self.dim = hidden
        self.pool = pool
        self.n_running = n_running
        self.input_dropout = nn.Dropout(input_dropout)
        self.first = nn.LSTM(n_inputs + 3 * n_running, hidden, batch_first=True)
        self.second = nn.LSTM(hidden, hidden, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, n_outputs)

    def features(self, series: Tensor, lengths: Tensor) -> Tensor:
        """Encode stays.

        An LSTM reads forward, so what stands after a stay's last valid step cannot change the steps before: the
        padding needs no packing.

        Args:
            series: (B, T, n_inputs) standardised series, padded at the end.
            lengths: (B,) valid steps, each from 1 to T.

        Returns:
            (B, dim).
        """
        if self.n_running:
            series = torch.cat([series, _running(series[..., : self.n_running])], dim=2)
        kept = self.input_dropout(series.new_ones(len(series), 1, series.shape[2]))
        steps, _ = self.first(series * kept)
        steps, _ = self.second(self.dropout(steps))
        pooled = _last(steps, lengths) if self.pool == "last" else _mean(steps, lengths)
        return torch.as_tensor(self.dropout(pooled))

    def forward(self, series: Tensor, lengths: Tensor) -> Tensor:
        """Logits (B, n_outputs); arguments as for `features`."""
        return torch.as_tensor(self.head(self.features(series, lengths)))


def _running(values: Tensor) -> Tensor:
    """(B, T, D) -> (B, T, 3 D): mean, minimum and maximum over the steps up to and including each one."""
    n = torch.arange(1, values.shape[1] + 1, device=values.device)[:, None]
    mean = values.cumsum(dim=1) / n
    return torch.cat([mean, values.cummin(dim=1).values, values.cummax(dim=1).values], dim=2)


def _last(steps: Tensor, lengths: Tensor) -> Tensor:
    """(B, T, D) -> (B, D) at each row's last valid step."""
    return steps[torch.arange(len(steps), device=steps.device), lengths - 1]


def _mean(steps: Tensor, lengths: Tensor) -> Tensor:
    """(B, T, D) -> (B, D) mean over each row's valid steps."""
    valid = torch.arange(steps.shape[1], device=steps.device) < lengths[:, None]
    return (steps * valid[..., None]).sum(dim=1) / lengths[:, None]
