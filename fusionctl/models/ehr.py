"""The time-series encoder: the paper's two LSTM layers or another network over the rows, pooling, a linear head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from fusionctl.data.batch import N_COLUMNS, N_VALUE_COLUMNS
from fusionctl.models.ehr_decay import Decay, time_since_seen
from fusionctl.models.ehr_summary import Summary
from fusionctl.models.ehr_transformer import Transformer

Arch = Literal["lstm", "transformer", "decay"]
Pool = Literal["last", "mean", "attention"]


class EhrEncoder(nn.Module):
    """A network over the rows of the grid, one feature vector a stay from its states, and a linear head.

    The paper's, two one-layer LSTMs 76 -> 256 -> 256 with dropout between and after, and a head to 1 label, has 868,609
    parameters (each LSTM has its two bias vectors).

    Args:
        n_inputs: columns of the series.
        n_outputs: labels K of the head.
        arch: `lstm` (paper), `transformer` (see `Transformer`) or `decay` (GRU-D, see `Decay`).
        hidden: width of every layer and of the features.
        layers: layers of the transformer; the others have theirs, two LSTMs or one GRU-D.
        heads: attention heads of the transformer.
        dropout: share of features dropped between or in the layers and before the head.
        pool: what of the last layer's states is the stay's feature: `last`, the one at the last valid step (paper);
            `mean`, their mean over the valid steps; `attention`, their mean with weights that are learnt.
        n_running: so many of the first columns also come in as their mean, minimum and maximum up to each step. 0 is
            the paper's input. An LSTM can learn these summaries, but not from a few thousand stays.
        since_seen: the time since each variable was last seen comes in too (paper: no).
        summary: a linear map of summaries of the whole stay is added to the features (see `Summary`; paper: no).
        input_dropout: share of the input columns (and of the summaries) that is hidden from a stay in training, at all
            its steps. The times since a variable was seen, by which `decay` decays, are those of all its measurements.
        step_hours: hours from one row to the next (paper: 2). The LSTM does not ask.

    Attributes:
        dim: width of the features.
        config: the arguments, from which the same encoder can be built again.

    Raises:
        UsageError: the transformer's heads do not divide its width.
    """

    def __init__(
        self,
        n_inputs: int = 76,
        n_outputs: int = 1,
        *,
        arch: Arch = "lstm",
        hidden: int = 256,
        layers: int = 2,
        heads: int = 8,
        dropout: float = 0.3,
        pool: Pool = "last",
        n_running: int = 0,
        since_seen: bool = False,
        summary: bool = False,
        input_dropout: float = 0.0,
        step_hours: float = 2.0,
    ) -> None:
        super().__init__()
        for name, value, choices in (("arch", arch, get_args(Arch)), ("pool", pool, get_args(Pool))):
            if value not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}; got {value!r}")
        if n_inputs != N_COLUMNS and (since_seen or summary or arch == "decay"):
            raise ValueError(
                f"since_seen, summary and arch decay need the {N_COLUMNS} columns of a batch; got {n_inputs}"
            )
        self.config: dict[str, Any] = {
            "n_inputs": n_inputs,
            "n_outputs": n_outputs,
            "arch": arch,
            "hidden": hidden,
            "layers": layers,
            "heads": heads,
            "dropout": dropout,
            "pool": pool,
            "n_running": n_running,
            "since_seen": since_seen,
            "summary": summary,
            "input_dropout": input_dropout,
            "step_hours": step_hours,
        }
        self.dim = hidden
        self.pool, self.n_running, self.since_seen, self.step_hours = pool, n_running, since_seen, step_hours
        self.input_dropout = nn.Dropout(input_dropout)
        n_columns = n_inputs + 3 * n_running + (N_COLUMNS - N_VALUE_COLUMNS) * since_seen
        self.trunk = TRUNKS[arch](n_columns, self.config)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, n_outputs)
        self.summary = Summary(hidden, input_dropout=input_dropout) if summary else None
        if pool == "attention":
            self.score = nn.Linear(hidden, 1, bias=False)  # a constant would change no weight
        self.register_load_state_dict_pre_hook(_name_as_now)  # type: ignore[no-untyped-call]

    def steps(self, series: Tensor, lengths: Tensor) -> Tensor:
        """States after the last layer.

        Args:
            series: (B, T, n_inputs) standardised series, padded at the end.
            lengths: (B,) valid steps, each from 1 to T.

        Returns:
            (B, T, dim); the valid ones do not depend on the padding, the others are arbitrary and not to be read.
        """
        inputs = [series]
        if self.n_running:
            inputs.append(_running(series[..., : self.n_running]))
        if self.since_seen:
            inputs.append(time_since_seen(series, step_hours=self.step_hours))
        columns = torch.cat(inputs, dim=2)
        kept = self.input_dropout(columns.new_ones(len(columns), 1, columns.shape[2]))
        return torch.as_tensor(self.trunk(columns * kept, series, lengths))

    def features(self, series: Tensor, lengths: Tensor) -> Tensor:
        """Encode stays: (B, dim); arguments as for `steps`."""
        pooled = self._pooled(self.steps(series, lengths), lengths)
        if self.summary is not None:
            pooled = pooled + self.summary(series, lengths)
        return torch.as_tensor(self.dropout(pooled))

    def forward(self, series: Tensor, lengths: Tensor) -> Tensor:
        """Logits (B, n_outputs); arguments as for `steps`."""
        return torch.as_tensor(self.head(self.features(series, lengths)))

    def _pooled(self, steps: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, dim) -> (B, dim)."""
        if self.pool == "last":
            return steps[torch.arange(len(steps), device=steps.device), lengths - 1]
        valid = torch.arange(steps.shape[1], device=steps.device) < lengths[:, None]
        if self.pool == "mean":
            return (steps * valid[..., None]).sum(dim=1) / lengths[:, None]
        weights = self.score(steps)[..., 0].masked_fill(~valid, -torch.inf).softmax(dim=1)
        return torch.as_tensor((steps * weights[..., None]).sum(dim=1))


class Lstm(nn.Module):
    """Two one-layer LSTMs with dropout between: the paper's.

    An LSTM reads forward, so what stands after a stay's last valid step cannot change the steps before: the padding
    needs no packing.
    """

    def __init__(self, n_inputs: int, hidden: int, *, dropout: float) -> None:
        super().__init__()
        self.first = nn.LSTM(n_inputs, hidden, batch_first=True)
        self.second = nn.LSTM(hidden, hidden, batch_first=True)
        self.dropout = nn.Dropout(dropout)

    def forward(self, inputs: Tensor, series: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, n_inputs) -> (B, T, hidden); the other arguments are not used."""
        steps, _ = self.first(inputs)
        steps, _ = self.second(self.dropout(steps))
        return torch.as_tensor(steps)


# How to build each network, from the columns it reads and an encoder's config.
TRUNKS: dict[str, Callable[[int, dict[str, Any]], nn.Module]] = {
    "lstm": lambda n, config: Lstm(n, config["hidden"], dropout=config["dropout"]),
    "transformer": lambda n, config: Transformer(
        n, **{name: config[name] for name in ("hidden", "layers", "heads", "dropout", "step_hours")}
    ),
    "decay": lambda n, config: Decay(n, config["hidden"], step_hours=config["step_hours"]),
}


def _running(values: Tensor) -> Tensor:
    """(B, T, D) -> (B, T, 3 D): mean, minimum and maximum over the steps up to and including each one."""
    n = torch.arange(1, values.shape[1] + 1, device=values.device)[:, None]
    mean = values.cumsum(dim=1) / n
    return torch.cat([mean, values.cummin(dim=1).values, values.cummax(dim=1).values], dim=2)


def _name_as_now(module: nn.Module, tensors: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Give the LSTMs of a weights file from before there were other networks the names that they have now."""
    old = (f"{prefix}first.", f"{prefix}second.")
    for name in [name for name in tensors if name.startswith(old)]:
        tensors[f"{prefix}trunk.{name[len(prefix) :]}"] = tensors.pop(name)
