"""Early and joint fusion: both features side by side, to a linear head."""

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


class Joint(nn.Module):
    """EHR feature and projected CXR feature, side by side, to a linear head; all of it is trained.

    A stay without a film has zeros in place of the projected feature, whatever `absent` says; nothing is put through
    the film encoder. Of several films, the mean of their features. As in MedFuse's code (Hayat, Geras and Shamout,
    MLHC 2022), the film's feature is projected to the width of the series'.

    The encoders' own heads are part of the model, not of the prediction: they are not trained further.

    Args:
        ehr: encoder of the series.
        cxr: encoder of the films.
        n_outputs: labels K.
        options: none.
    """

    modalities = ("ehr", "cxr")
    needs_film = False

    def __init__(self, ehr: EhrEncoder, cxr: CxrEncoder, n_outputs: int, *, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.ehr, self.cxr = ehr, cxr
        rest(ehr, cxr)
        self.projection = nn.Linear(cxr.dim, ehr.dim)
        self.classifier = nn.Linear(2 * ehr.dim, n_outputs)

    def forward(self, batch: Batch) -> Output:
        """Logits (B, K) of a batch, with or without films."""
        film = token_of(self.cxr, self.projection, batch)
        return Output(self.classifier(torch.cat([self.ehr.features(batch.series, batch.lengths), film], dim=1)))


class Early(Joint):
    """As `Joint`, but of the encoders as they were pretrained: only projection and head learn.

    The encoders are always in evaluation mode: no dropout, no augmentation of films, and batch normalisation keeps its
    statistics. (MedFuse's code freezes the weights alone, so that its statistics go on moving.)
    """

    def __init__(self, ehr: EhrEncoder, cxr: CxrEncoder, n_outputs: int, *, options: Mapping[str, Any]) -> None:
        super().__init__(ehr, cxr, n_outputs, options=options)
        self.ehr.requires_grad_(False)
        self.cxr.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Early:
        """Set the mode of projection and head alone."""
        super().train(mode)
        self.ehr.eval()
        self.cxr.eval()
        return self
