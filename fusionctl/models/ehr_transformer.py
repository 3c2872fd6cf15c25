"""A transformer over the rows of the grid."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from fusionctl.errors import UsageError

# Width of the feed-forward part over that of the tokens, and the longest period of the positions over the shortest:
# both Vaswani et al., NeurIPS 2017.
FEEDFORWARD = 4
LONGEST_PERIOD = 10_000.0


class Transformer(nn.Module):
    """One token a row, with sinusoids of its hour, through pre-norm encoder layers; every row sees all valid rows.

    Nothing looks ahead in time: all rows are before the time of prediction.

    With the paper's width of 256 a layer has 8 heads and a feed-forward part of 1,024, the sizes of its fusion layers.

    Args:
        n_inputs: columns that are read.
        hidden: width of the tokens.
        layers: number of layers.
        heads: attention heads of each; must divide `hidden`.
        dropout: share dropped from what each half of a layer adds.
        step_hours: hours from one row to the next.

    Raises:
        UsageError: `heads` does not divide `hidden`.
    """

    def __init__(
        self, n_inputs: int, hidden: int, *, layers: int, heads: int, dropout: float, step_hours: float
    ) -> None:
        super().__init__()
        if hidden % heads:
            raise UsageError(
                f"--hidden must be a multiple of --heads ({heads}) with --arch transformer; got {hidden}",
                hint=f"the nearest is --hidden {max(1, round(hidden / heads)) * heads}",
            )
        self.step_hours = step_hours
        self.embed = nn.Linear(n_inputs, hidden)
        self.layers = nn.ModuleList(Layer(hidden, heads, dropout=dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden)

    def forward(self, inputs: Tensor, series: Tensor, lengths: Tensor) -> Tensor:
        """Tokens after the last layer.

        Args:
            inputs: (B, T, n_inputs) what is read.
            series: not used.
            lengths: (B,) valid rows, each at least 1.

        Returns:
            (B, T, hidden), arbitrary in the padding.
        """
        step = torch.arange(inputs.shape[1], device=inputs.device)
        valid = (step < lengths[:, None])[:, None, None]
        tokens = self.embed(inputs)
        tokens = tokens + sinusoids(step * self.step_hours, tokens.shape[2])
        for layer in self.layers:
            tokens = layer(tokens, valid)
        return torch.as_tensor(self.norm(tokens))


class Layer(nn.Module):
    """Self-attention, then a feed-forward part, each added to what came in, which is normalised before.

    Not PyTorch's own layer, whose attention weights take B x heads x T x T numbers where it drops some of them in
    training, and again in its fast path for inference: at 1,000 rows and batch 16 half a gigabyte a layer. Here no
    weight is dropped, so the fused attention, which never holds them all, applies.
    """

    def __init__(self, hidden: int, heads: int, *, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(hidden)
        self.queries_keys_values = nn.Linear(hidden, 3 * hidden)
        self.out = nn.Linear(hidden, hidden)
        self.feedforward = nn.Sequential(
            nn.LayerNorm(hidden),
            nn.Linear(hidden, FEEDFORWARD * hidden),
            nn.GELU(),
            nn.Linear(FEEDFORWARD * hidden, hidden),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, valid: Tensor) -> Tensor:
        """(B, T, hidden) to the same; `valid` (B, 1, 1, T) tells which tokens may be attended to."""
        parts = self.queries_keys_values(self.norm(tokens)).unflatten(2, (3, self.heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # each (B, heads, T, hidden / heads)
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=valid)
        tokens = tokens + self.dropout(self.out(seen.transpose(1, 2).flatten(2)))
        return torch.as_tensor(tokens + self.dropout(self.feedforward(tokens)))


def sinusoids(hours: Tensor, width: int) -> Tensor:
    """(T,) -> (T, width): sines, then cosines, of periods from 2 pi hours to 10,000 times that, in geometric steps."""
    half = (width + 1) // 2
    number = torch.arange(half, device=hours.device, dtype=torch.float32)
    angles = hours[:, None] * torch.exp(number * (-math.log(LONGEST_PERIOD) / half))
    return torch.cat([angles.sin(), angles.cos()], dim=1)[:, :width]
