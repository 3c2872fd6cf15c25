"""One modality alone: what each encoder reaches without the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from fusionctl.data.batch import Batch
from fusionctl.fusion.films import features_of
from fusionctl.fusion.heads import check_outputs, rest
from fusionctl.fusion.output import Output
from fusionctl.models.cxr import CxrEncoder
from fusionctl.models.ehr import EhrEncoder


class EhrOnly(nn.Module):
    """The series alone: the pretrained encoder with its head, trained further.

    Args:
        ehr: encoder of the series, with a head for the same labels.
        cxr: not used; None.
        n_outputs: labels K.
        options: none.
    """

    modalities = ("ehr",)
    needs_film = False

    def __init__(self, ehr: EhrEncoder, cxr: CxrEncoder | None, n_outputs: int, *, options: Mapping[str, Any]) -> None:
        super().__init__()
        check_outputs(ehr, n_outputs)
        self.ehr = ehr

    def forward(self, batch: Batch) -> Output:
        """Logits (B, K)."""
        return Output(self.ehr(batch.series, batch.lengths))


class CxrOnly(nn.Module):
    """The film alone; of several films, the mean of their features.

    A stay without a film has no prediction: its logits are NaN.

    Args:
        ehr: not used; None.
        cxr: encoder of the films. Its own head, of radiology labels, is replaced.
        n_outputs: labels K.
        options: none.
    """

    modalities = ("cxr",)
    needs_film = True

    def __init__(self, ehr: EhrEncoder | None, cxr: CxrEncoder, n_outputs: int, *, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.cxr = cxr
        rest(cxr)
        self.classifier = nn.Linear(cxr.dim, n_outputs)

    def forward(self, batch: Batch) -> Output:
        """Logits (B, K), NaN in the rows without a film."""
        features, stays = features_of(self.cxr, batch)
        present = self.classifier(features)
        logits = torch.full_like(batch.labels, float("nan"), dtype=present.dtype)
        return Output(logits.index_copy(0, stays, present))
