"""Late fusion: a weighted mean of the two modalities' probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from fusionctl import distributed, losses, metrics
from fusionctl.data.batch import Batch
from fusionctl.fusion.films import features_of
from fusionctl.fusion.heads import check_outputs, rest
from fusionctl.fusion.output import Output
from fusionctl.models.cxr import CxrEncoder
from fusionctl.models.ehr import EhrEncoder

EQUAL = 0.5
# Weights of the series to choose from: those of MedFuse's code (0.1 to 0.9), and one modality alone. In order of their
# distance from the plain mean, so that of equally good ones the most even is taken.
WEIGHTS = sorted((step / 10 for step in range(11)), key=lambda weight: (abs(weight - EQUAL), weight))


class Late(nn.Module):
    """Probabilities (1 - w) p_cxr + w p_ehr, with one w a label; p_ehr for a stay without a film.

    The two modalities are trained side by side and know nothing of each other: the loss of the returned logits teaches
    the series' encoder and its head, `aux_loss`, binary cross-entropy over the stays with a film, teaches the film's.
    So in training mode the logits are those of the series. In evaluation mode they are the logits of the mixture.

    w is 1/2 until `settle` chooses it, label by label as in MedFuse's code (Hayat, Geras and Shamout, MLHC 2022). (Its
    `p * 1 - w` subtracts the weight instead of taking a share.) It is saved with the weights.

    Args:
        ehr: encoder of the series, with a head for the same labels.
        cxr: encoder of the films. Its own head, of radiology labels, is replaced.
        n_outputs: labels K.
        options: none; an absent film is no part of anything, whatever `absent` says.
    """

    modalities = ("ehr", "cxr")
    needs_film = False
    weight: Tensor  # (K,) w

    def __init__(self, ehr: EhrEncoder, cxr: CxrEncoder, n_outputs: int, *, options: Mapping[str, Any]) -> None:
        super().__init__()
        check_outputs(ehr, n_outputs)
        self.ehr, self.cxr = ehr, cxr
        rest(cxr)
        self.classifier = nn.Linear(cxr.dim, n_outputs)
        self.register_buffer("weight", torch.full((n_outputs,), EQUAL))

    def parts(self, batch: Batch) -> dict[str, Tensor]:
        """Logits (B, K) of each modality, `ehr` and `cxr`; those of `cxr` are NaN in the rows without a film."""
        ehr = self.ehr(batch.series, batch.lengths)
        features, stays = features_of(self.cxr, batch)
        present = self.classifier(features)
        absent = present.new_full(ehr.shape, float("nan"))
        return {"ehr": ehr, "cxr": absent.index_copy(0, stays, present)}

    def forward(self, batch: Batch) -> Output:
        """Logits (B, K): of the series in training mode, else of the mixture."""
        parts = self.parts(batch)
        if self.training:
            paired, film = batch.labels[batch.has_film], parts["cxr"][batch.has_film].float()
            known = distributed.current().share_of((~paired.isnan()).sum())
            return Output(parts["ehr"], aux_loss=losses.bce(film, paired, known))
        ehr, present = parts["ehr"].float(), batch.has_film[:, None]
        cxr = torch.where(present, parts["cxr"].float(), ehr)
        return Output(torch.where(present, mixture(ehr, cxr, self.weight), ehr))

    def settle(self, parts: Mapping[str, Tensor], labels: Tensor) -> None:
        """Choose w of each label: the one with the highest AUROC over the stays that have a film.

        Where these know one class only, or none, w stays as it is.

        Args:
            parts: (N, K) logits by modality of the validation stays, as from `parts` in evaluation mode; empty where
                there are no such stays.
            labels: (N, K) 0, 1 or NaN (unknown).
        """
        if not parts:
            return
        ehr, cxr, known = (x.double().cpu() for x in (parts["ehr"], parts["cxr"], labels))
        usable = (~known.isnan() & ~cxr.isnan()).numpy()
        series, films, truth = ehr.sigmoid().numpy(), cxr.sigmoid().numpy(), known.numpy()
        for k in range(truth.shape[1]):
            rows = usable[:, k]
            weight = _best_weight(series[rows, k], films[rows, k], truth[rows, k])
            if weight is not None:
                self.weight[k] = weight


def mixture(ehr: Tensor, cxr: Tensor, weight: Tensor) -> Tensor:
    """Logit of (1 - w) p_cxr + w p_ehr, from the logits of both and w (any shapes that fit together).

    Computed from logarithms: a sure prediction keeps its logit, where its probability would be rounded to 1.
    """
    of_ehr, of_cxr = weight.log(), (1 - weight).log()
    positive = torch.logaddexp(of_ehr + functional.logsigmoid(ehr), of_cxr + functional.logsigmoid(cxr))
    negative = torch.logaddexp(of_ehr + functional.logsigmoid(-ehr), of_cxr + functional.logsigmoid(-cxr))
    return positive - negative


def _best_weight(
    ehr: npt.NDArray[np.float64], cxr: npt.NDArray[np.float64], truth: npt.NDArray[np.float64]
) -> float | None:
    """The best w of one label from the stays' probabilities (N,); None where the truth has not both classes."""
    if len(np.unique(truth)) < 2:
        return None
    areas = [metrics.auroc(truth, (1 - weight) * cxr + weight * ehr) for weight in WEIGHTS]
    return WEIGHTS[int(np.argmax(areas))]
