"""DAFT: the series scales and shifts the film's feature maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fusionctl.data.batch import Batch
from fusionctl.fusion.films import by_stay
from fusionctl.fusion.heads import check_outputs, rest
from fusionctl.fusion.output import Output
from fusionctl.models.cxr import CxrEncoder
from fusionctl.models.ehr import EhrEncoder

# The maps of this stage, which enter the last one, are transformed. In the authors' network a stage is one residual
# block, so this is their "location 0", before the last block, and the default of their program.
STAGE = 3
# Units of the auxiliary network: int((channels + EHR width) / 7), the default of the authors' program and of MedFuse.
BOTTLENECK = 7


class Daft(nn.Module):
    """Dynamic affine feature map transform (Poelsterl et al., MICCAI 2021; Wolf et al., NeuroImage 2022).

    A small network reads the means of the film's maps and the series' features, and gives each channel of the maps that
    enter the last stage a scale and a shift. As in the authors' code its two layers have no bias, between them is a
    ReLU, and the scale goes through no activation; a linear head on the film's features predicts. With ResNet-34, 256
    EHR features and 14 radiology labels the model has 22,235,728 parameters for one label and 22,254,208 for 25.

    Departures: the scale is 1 + what the network gives, so that a pretrained film encoder starts near what it was.
    MedFuse's code has the roles the other way round, the film scales and shifts the series between two LSTMs; this is
    the method of the papers.

    Several films of a stay are transformed each by itself, and their features' mean is read.

    A stay without a film, for which the method has no prediction, is predicted by the EHR encoder and its own head. It
    gets no zero film in any protocol: the option `absent` changes nothing.

    Args:
        ehr: encoder of the series, with a head for the same labels.
        cxr: encoder of the films; a network with feature maps. Its own head, of radiology labels, is not trained.
        n_outputs: labels K.
        options: none is used.

    Raises:
        UsageError: the film encoder has no feature maps.
    """

    modalities = ("ehr", "cxr")
    needs_film = False

    def __init__(self, ehr: EhrEncoder, cxr: CxrEncoder, n_outputs: int, *, options: Mapping[str, Any]) -> None:
        super().__init__()
        check_outputs(ehr, n_outputs)
        channels = cxr.stage_widths[STAGE - 1]
        self.ehr, self.cxr = ehr, cxr
        rest(cxr)
        units = int((channels + ehr.dim) / BOTTLENECK)
        self.affine = nn.Sequential(
            nn.Linear(channels + ehr.dim, units, bias=False), nn.ReLU(), nn.Linear(units, 2 * channels, bias=False)
        )
        self.classifier = nn.Linear(cxr.dim, n_outputs)

    def forward(self, batch: Batch) -> Output:
        """Logits (B, K) of a batch, with or without films."""
        series = self.ehr.features(batch.series, batch.lengths)

        def transform(stage: int, maps: Tensor) -> Tensor:
            if stage != STAGE:
                return maps
            both = torch.cat([maps.mean(dim=(2, 3)), series[batch.film_rows]], dim=1)
            scale, shift = self.affine(both)[..., None, None].chunk(2, dim=1)
            return torch.as_tensor((1 + scale) * maps + shift)

        film, stays = by_stay(self.cxr.embed(batch.films, change=transform), batch.film_rows)
        return Output(self.ehr.head(series).index_copy(0, stays, self.classifier(film)))
