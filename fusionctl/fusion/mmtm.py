"""MMTM: channels of both modalities gated by what both hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fusionctl import distributed, losses
from fusionctl.data.batch import Batch
from fusionctl.fusion.films import by_stay
from fusionctl.fusion.heads import check_outputs, rest
from fusionctl.fusion.output import Output
from fusionctl.models.cxr import CxrEncoder
from fusionctl.models.ehr import EhrEncoder

# Stages of the film network whose maps are gated. Joze et al.'s released code gates after the last three of four;
# MedFuse after the last only, where to gate the maps and to gate the film's features is one and the same.
STAGES = (3, 4)
# Joint vector: int(2 (film channels + EHR width) / RATIO) units. The default of MedFuse and the value of Joze et al.
RATIO = 4


class Mmtm(nn.Module):
    """Multimodal transfer modules (Joze et al., CVPR 2020), as in the comparison of MedFuse (Hayat et al., 2022).

    A module squeezes the maps of a stay's film to their means, joins them with the series' features in one vector, and
    from it draws a gate for each of the film's channels and each of the series' features. There is one after the third
    and one after the fourth stage of the film network. With ResNet-34, 256 EHR features and 14 radiology labels the
    model has 23,147,473 parameters for one label and 23,190,553 for 25.

    Prediction: a linear head on [projected EHR, film], MedFuse's "joint" one. MedFuse trains the heads of both branches
    beside it, each with the weight of the joint one; here their loss on the stays with films is `aux_loss`.

    Departures from MedFuse's code: the series is gated after its last layer, not between two LSTMs, so that any EHR
    encoder serves; a gate is twice a sigmoid, so that it starts near one and pretrained encoders near what they were.

    Several films of a stay make one joint vector, of the mean of their squeezed maps, and their features' mean.

    A stay without a film is predicted by the EHR encoder and its own head, without gates. MedFuse has no prediction for
    it, so there is no zero film to imitate: the option `absent` changes nothing.

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
        widths = cxr.stage_widths
        self.ehr, self.cxr = ehr, cxr
        rest(cxr)
        self.transfer = nn.ModuleDict({str(stage): Transfer(widths[stage - 1], ehr.dim) for stage in STAGES})
        self.film_head = nn.Linear(cxr.dim, n_outputs)
        self.projection = nn.Linear(ehr.dim, cxr.dim)
        self.classifier = nn.Linear(2 * cxr.dim, n_outputs)

    def forward(self, batch: Batch) -> Output:
        """Logits (B, K) of a batch, with or without films; in training also the loss of the branches."""
        alone = self.ehr.features(batch.series, batch.lengths)
        stays, stay_of_film = torch.unique(batch.film_rows, return_inverse=True)
        series = alone[stays]  # (Q, dim) of the stays with films; each module gates it further

        def gate(stage: int, maps: Tensor) -> Tensor:
            nonlocal series
            if stage not in STAGES:
                return maps
            squeezed, _ = by_stay(maps.mean(dim=(2, 3)), batch.film_rows)
            film_gates, series_gates = self.transfer[str(stage)](squeezed, series)
            series = series * series_gates
            return torch.as_tensor(maps * film_gates[stay_of_film][..., None, None])

        film, _ = by_stay(self.cxr.embed(batch.films, change=gate), batch.film_rows)
        joint = self.classifier(torch.cat([self.projection(series), film], dim=1))
        logits = self.ehr.head(alone).index_copy(0, stays, joint)
        return Output(logits, aux_loss=self._branches(series, film, batch.labels, stays) if self.training else None)

    def _branches(self, series: Tensor, film: Tensor, labels: Tensor, stays: Tensor) -> Tensor:
        """Loss of both branches alone; a stay's counts as much as its joint prediction's in the loss of the batch."""
        paired, known, share_of = labels[stays], ~labels.isnan(), distributed.current().share_of
        n = share_of(known[stays].sum())
        both = losses.bce(self.ehr.head(series), paired, n) + losses.bce(self.film_head(film), paired, n)
        return n / share_of(known.sum()) * both


class Transfer(nn.Module):
    """One multimodal transfer module: squeezed channels of two modalities in, gates for both out.

    Args:
        film_width: channels C of the film's maps.
        series_width: features D of the series.
    """

    def __init__(self, film_width: int, series_width: int) -> None:
        super().__init__()
        both = film_width + series_width
        units = int(2 * both / RATIO)
        self.joint = nn.Linear(both, units)
        self.film = nn.Linear(units, film_width)
        self.series = nn.Linear(units, series_width)

    def forward(self, film: Tensor, series: Tensor) -> tuple[Tensor, Tensor]:
        """Gates (Q, C) and (Q, D), each in (0, 2), from film (Q, C) and series (Q, D)."""
        joint = torch.relu(self.joint(torch.cat([film, series], dim=1)))
        return 2 * self.film(joint).sigmoid(), 2 * self.series(joint).sigmoid()
