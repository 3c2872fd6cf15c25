"""The pretrained film encoder's own outputs, one row a stay: what a model that reads tables can use of a film."""

from __future__ import annotations

import torch
from torch import nn

from fusionctl.data.batch import Batch
from fusionctl.fusion.films import features_of
from fusionctl.fusion.output import Output
from fusionctl.models.cxr import CxrEncoder


class FilmScores(nn.Module):
    """The logits of a film encoder's head for a stay's film; of several films, their mean.

    Nothing here learns. Of an encoder that was trained on the outcome itself, the scores of the training stays are
    better than those of any others, and a model that learns from them trusts them too much.

    Args:
        cxr: encoder of the films, with C outputs.
    """

    def __init__(self, cxr: CxrEncoder) -> None:
        super().__init__()
        self.cxr = cxr.requires_grad_(False)

    def forward(self, batch: Batch) -> Output:
        """Logits (B, C), NaN in the rows without a film."""
        features, stays = features_of(self.cxr, batch)
        present = self.cxr.head(features)
        absent = present.new_full((len(batch.rows), present.shape[1]), float("nan"))
        return Output(torch.as_tensor(absent.index_copy(0, stays, present)))
