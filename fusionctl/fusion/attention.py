"""The paper's fusion: a transformer encoder over one token per modality."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fusionctl.data.batch import Batch
from fusionctl.errors import UsageError
from fusionctl.fusion.films import by_stay
from fusionctl.fusion.output import Output
from fusionctl.models.cxr import CxrEncoder
from fusionctl.models.ehr import EhrEncoder

# Paper, section IV-B: two encoder layers, eight heads, feed-forward width 1024, no positions.
LAYERS = 2
HEADS = 8
FEEDFORWARD = 1024


class Attention(nn.Module):
    """Tokens [EHR, projected CXR] through a transformer encoder; both output tokens, side by side, to a linear head.

    Several films of a stay are one token, of the mean of their features.

    A stay without a film: its film token is masked, so the EHR token does not attend to it, and its output token is
    zero. Nothing is put through the film encoder in its place.

    The encoders' own heads are part of the model, as in the paper's parameter count (23,871,824 for one label with
    ResNet-34 and 14 radiology labels), but not of the prediction: they are not trained further.

    Args:
        ehr: encoder of the series; its width is the tokens' width.
        cxr: encoder of the films.
        n_outputs: labels K.
        options: `dropout`, the share dropped inside the transformer layers.
    """

    modalities = ("ehr", "cxr")
    needs_film = False

    def __init__(self, ehr: EhrEncoder, cxr: CxrEncoder, n_outputs: int, *, options: Mapping[str, Any]) -> None:
        super().__init__()
        if ehr.dim % HEADS:
            raise UsageError(
                f"the attention fusion needs an EHR encoder whose width is a multiple of {HEADS}; got {ehr.dim}",
                hint="run again: fusionctl pretrain-ehr --hidden 256",
            )
        self.ehr, self.cxr = ehr, cxr
        self.ehr.head.requires_grad_(False)
        self.cxr.head.requires_grad_(False)
        self.projection = nn.Linear(cxr.dim, ehr.dim)
        layer = nn.TransformerEncoderLayer(
            ehr.dim, HEADS, dim_feedforward=FEEDFORWARD, dropout=options["dropout"], batch_first=True
        )
        self.transformer = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.classifier = nn.Linear(2 * ehr.dim, n_outputs)

    def forward(self, batch: Batch) -> Output:
        """Logits (B, K) of a batch, with or without films."""
        tokens = torch.stack([self.ehr.features(batch.series, batch.lengths), self._film_tokens(batch)], dim=1)
        absent = torch.stack([torch.zeros_like(batch.has_film), ~batch.has_film], dim=1)
        fused = self.transformer(tokens, src_key_padding_mask=absent)
        fused = fused.masked_fill(absent[..., None], 0.0)
        return Output(self.classifier(fused.flatten(start_dim=1)))

    def _film_tokens(self, batch: Batch) -> Tensor:
        """(B, dim); zeros where there is no film."""
        features, stays = by_stay(self.cxr.embed(batch.films), batch.film_rows)
        present: Tensor = self.projection(features)
        return present.new_zeros(len(batch.rows), self.ehr.dim).index_copy(0, stays, present)
