"""MedFuse: an LSTM over one token per modality."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from fusionctl.data.batch import Batch
from fusionctl.fusion.films import token_of
from fusionctl.fusion.heads import rest
from fusionctl.fusion.output import Output
from fusionctl.models.cxr import CxrEncoder
from fusionctl.models.ehr import EhrEncoder

# Width of the fusion LSTM: that of ResNet-34's features (Hayat, Geras and Shamout, MLHC 2022, and their code).
HIDDEN = 512


class MedFuse(nn.Module):
    """Tokens [EHR, projected CXR] through a one-layer LSTM; its last state to a linear head.

    A stay without a film is a sequence of one token: its last state is the one after the EHR token. That is the
    authors' way in paper and code, so `absent` makes no difference. Several films of a stay are one token, of the mean
    of their features.

    The encoders' own heads are part of the model (23,869,264 parameters for one label with ResNet-34 and 14 radiology
    labels) but not of the prediction: they are not trained further.

    Args:
        ehr: encoder of the series; its width is the tokens' width.
        cxr: encoder of the films.
        n_outputs: labels K.
        options: none; the authors' code has no dropout in the fusion.
    """

    modalities = ("ehr", "cxr")
    needs_film = False

    def __init__(self, ehr: EhrEncoder, cxr: CxrEncoder, n_outputs: int, *, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.ehr, self.cxr = ehr, cxr
        rest(ehr, cxr)
        self.projection = nn.Linear(cxr.dim, ehr.dim)
        self.lstm = nn.LSTM(ehr.dim, HIDDEN, batch_first=True)
        self.classifier = nn.Linear(HIDDEN, n_outputs)

    def forward(self, batch: Batch) -> Output:
        """Logits (B, K) of a batch, with or without films."""
        film = token_of(self.cxr, self.projection, batch)
        states, _ = self.lstm(torch.stack([self.ehr.features(batch.series, batch.lengths), film], dim=1))
        last = torch.where(batch.has_film[:, None], states[:, 1], states[:, 0])
        return Output(self.classifier(last))
