"""The paper's fusion: a transformer encoder over one token per modality."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from fusionctl.data.batch import Batch
from fusionctl.errors import UsageError
from fusionctl.fusion.films import token_of
from fusionctl.fusion.heads import rest
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

    A stay without a film has a zero token in its place; nothing is put through the film encoder. By default the token
    is masked, so the EHR token does not attend to it, and its output token is zero: the film branch has no part in the
    prediction. With `absent` = "zero", as the paper's text says and the code of its time does, the zero token is a
    token like any other: it is attended to, and its output is read.

    The encoders' own heads are part of the model, as in the paper's parameter count (23,871,824 for one label with
    ResNet-34 and 14 radiology labels), but not of the prediction: they are not trained further.

    Args:
        ehr: encoder of the series; its width is the tokens' width.
        cxr: encoder of the films.
        n_outputs: labels K.
        options: `dropout`, the share dropped inside the transformer layers; `absent`, "mask" (default) or "zero".
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
        self.masks_absent = options.get("absent", "mask") == "mask"
        self.ehr, self.cxr = ehr, cxr
        rest(ehr, cxr)
        self.projection = nn.Linear(cxr.dim, ehr.dim)
        layer = nn.TransformerEncoderLayer(
            ehr.dim, HEADS, dim_feedforward=FEEDFORWARD, dropout=options["dropout"], batch_first=True
        )
        self.transformer = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.classifier = nn.Linear(2 * ehr.dim, n_outputs)

    def forward(self, batch: Batch) -> Output:
        """Logits (B, K) of a batch, with or without films."""
        film = token_of(self.cxr, self.projection, batch)
        tokens = torch.stack([self.ehr.features(batch.series, batch.lengths), film], dim=1)
        if self.masks_absent:
            absent = torch.stack([torch.zeros_like(batch.has_film), ~batch.has_film], dim=1)
            fused = self.transformer(tokens, src_key_padding_mask=absent).masked_fill(absent[..., None], 0.0)
        else:
            fused = self.transformer(tokens)
        return Output(self.classifier(fused.flatten(start_dim=1)))
