"""The paper's contrastive baseline: the encoders first learn to agree, then, fine-tuned together, to predict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fusionctl.data.batch import N_VALUE_COLUMNS, Batch
from fusionctl.fusion.films import by_row, features_of
from fusionctl.fusion.heads import rest
from fusionctl.fusion.nt_xent import nt_xent_of_all
from fusionctl.fusion.output import Output
from fusionctl.models.cxr import CxrEncoder
from fusionctl.models.ehr import EhrEncoder

# Both heads of both encoders: width -> 512 -> 512 (the paper's code); a ReLU between, as in SimCLR.
HEAD = 512
# The temperature that served best in SimCLR (Chen et al., ICML 2020, their table on normalisation and temperature), and
# that of Yèche et al. (below).
TEMPERATURE = 0.1
# How long the first phase takes is not told; ours.
EPOCHS = 10
# A random view of a series, as Yèche et al. (Neighborhood Contrastive Learning Applied to Online Patient Monitoring,
# ICML 2021) have it on MIMIC-III: their code's settings.
HIDDEN_COLUMNS = 0.2  # share of columns hidden at all steps
BIAS = 0.1  # standard deviation of what is added to a standardised column, the same at all steps
CUT, CUT_CHANCE = 8 / 48, 0.8  # a gap of this share of the steps is hidden; in this share of the views
CROP, CROP_CHANCE = 0.5, 0.5  # up to this share of the first steps is hidden; in this share of the views


class Contrastive(nn.Module):
    """Two encoders, pretrained to agree within and across the modalities; then a linear head on both features.

    In the first phase only `aux_loss` teaches. It is the sum of three NT-Xent terms, as in Yuan et al. (CVPR 2021):
    two random views of each stay's films, two random views of each stay's series, and the films with the series of the
    stays that have both. Each encoder has one head for agreement within its modality and one for agreement across. In
    the second phase the heads rest, and the encoders and a linear classifier of both features, side by side, learn the
    task. In evaluation mode the logits are the classifier's in either phase.

    Films differ by the encoder's own augmentation, drawn twice. Several films of a stay are the mean of their features.
    A stay without a film has zeros in place of the film's feature, whatever `absent` says; nothing is put through the
    film encoder. The others of a batch are what an embedding is told apart from: with few rows a step (or few films
    among them) the first phase teaches little.

    With ViT-B/16 at 224 pixels, 256 features of the series and one label these are 88,780,304 parameters, without the
    encoders' own heads 88,769,281; the paper has 87,877,496. Its text names no parts that add up to that.

    Args:
        ehr: encoder of the series.
        cxr: encoder of the films; the paper's is vit_b_16.
        n_outputs: labels K.
        options: `contrast_epochs`, length of the first phase (default 10, at most half of all epochs; 0: none);
            `temperature` (default 0.1).
    """

    modalities = ("ehr", "cxr")
    needs_film = False

    def __init__(self, ehr: EhrEncoder, cxr: CxrEncoder, n_outputs: int, *, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.first_epochs = int(options.get("contrast_epochs", EPOCHS))
        self.temperature = float(options.get("temperature", TEMPERATURE))
        self.ehr, self.cxr = ehr, cxr
        rest(ehr, cxr)
        self.within = nn.ModuleDict({"ehr": _head(ehr.dim), "cxr": _head(cxr.dim)})
        self.across = nn.ModuleDict({"ehr": _head(ehr.dim), "cxr": _head(cxr.dim)})
        self.classifier = nn.Linear(ehr.dim + cxr.dim, n_outputs)
        self.contrasts = False

    def task_begins(self, epochs: int) -> int:
        """The first epoch, from 1, that learns the task. Scores of earlier ones are those of an untrained classifier.

        Args:
            epochs: most epochs of the training.
        """
        return 1 + min(self.first_epochs, epochs // 2)

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Set the phase; before the first call it is the second one.

        Args:
            epoch: from 1.
            epochs: most epochs of the training.
        """
        self.contrasts = epoch < self.task_begins(epochs)

    def forward(self, batch: Batch) -> Output:
        """Logits (B, K) of a batch, with or without films; in training in the first phase, the contrastive loss."""
        if self.training and self.contrasts:
            return self._contrast(batch)
        return Output(self._classify(self.ehr.features(batch.series, batch.lengths), *self._films(batch)))

    def _contrast(self, batch: Batch) -> Output:
        views = [series_view(batch.series, batch.lengths) for _ in range(2)]
        series = [self.ehr.features(view, batch.lengths) for view in views]
        (film, stays), (other_film, _) = self._films(batch), self._films(batch)
        pairs = [
            [self.within["ehr"](feature)[batch.own] for feature in series],
            [self.within["cxr"](feature) for feature in (film, other_film)],
            [self.across["ehr"](series[0][stays]), self.across["cxr"](film)],
        ]
        loss = torch.stack([nt_xent_of_all(a, b, self.temperature) for a, b in pairs]).sum()
        with torch.no_grad():  # what the task would teach is not wanted yet
            logits = self._classify(series[0], film, stays)
        return Output(logits, aux_loss=loss, task_weight=0.0)

    def _films(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(Q, D) features and (Q,) positions of the stays with a film; in training each call draws another view."""
        return features_of(self.cxr, batch)

    def _classify(self, series: Tensor, film: Tensor, stays: Tensor) -> Tensor:
        """(B, K) logits of features (B, E) and (Q, D)."""
        logits = self.classifier(torch.cat([series, by_row(film, stays, len(series))], dim=1))
        return torch.as_tensor(logits)


def _head(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, HEAD), nn.ReLU(), nn.Linear(HEAD, HEAD))


def series_view(series: Tensor, lengths: Tensor) -> Tensor:
    """Hide columns, a gap and the beginning of each series at random, and shift its values; the last step stays.

    What is hidden becomes 0: the mean, no category, not measured. Random numbers come from PyTorch's generator.

    Args:
        series: (B, T, D) standardised series, the columns of values first.
        lengths: (B,) valid steps of each.

    Returns:
        (B, T, D), a new tensor.
    """
    n, n_steps, n_columns = series.shape
    step = torch.arange(n_steps, device=series.device)
    passed = step / lengths[:, None]  # share of the stay's steps before each one
    begin, gap, crops, cuts = torch.rand(4, n, 1, device=series.device)
    seen = (passed >= CROP * begin) | (crops >= CROP_CHANCE)
    gap = gap * (1 - CUT)
    seen &= (passed < gap) | (passed >= gap + CUT) | (cuts >= CUT_CHANCE)
    seen |= step == lengths[:, None] - 1
    columns = torch.rand(n, 1, n_columns, device=series.device) >= HIDDEN_COLUMNS
    shift = BIAS * torch.randn(n, 1, N_VALUE_COLUMNS, device=series.device)
    shifted = series + functional.pad(shift, (0, n_columns - N_VALUE_COLUMNS))
    return torch.as_tensor(shifted * (seen[..., None] & columns))
