"""DrFuse: what both modalities share and what each has alone, weighed for each label."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fusionctl import distributed, losses
from fusionctl.data.batch import Batch
from fusionctl.errors import UsageError
from fusionctl.fusion.films import by_row, by_stay
from fusionctl.fusion.heads import rest
from fusionctl.fusion.output import Output
from fusionctl.models.cxr import CxrEncoder
from fusionctl.models.ehr import EhrEncoder

# Sizes and weights are the defaults of the authors' program.
HEADS = 4
FEEDFORWARD = 2048
ALIGNMENT = 1.0  # of the Jensen-Shannon divergence of the shared representations
ORTHOGONALITY = 1.0  # of a modality's shared and distinct representations
REPRESENTATION = 1.0  # of the prediction from each representation alone
RANKING = 1.0  # of the order of the attention weights


class DrFuse(nn.Module):
    """DrFuse (Yao et al., AAAI 2024): disentangled representations and disease-wise attention.

    Each modality gives a shared and a distinct representation. The two shared ones are drawn together (Jensen-Shannon
    divergence) and pooled to the logits of their mean probabilities; a modality's own two are kept apart (cosine). For
    each label an attention weighs {EHR distinct, shared, film distinct}; a ranking loss asks of it to prefer the one
    that predicts that label better alone.

    The EHR encoder's states (each with the summary of the whole stay, where the encoder has one) go through one
    transformer layer for each representation, and are averaged over time. The films go through two networks, both
    of which start as the film encoder given, each with a linear layer. With ResNet-34, width 256 and 14 radiology
    labels the model has 46,864,787 parameters for one label and 48,468,491 for 25.

    Departures from the authors' code: any encoder instead of one transformer layer and ResNet-50; the film networks do
    not have their first convolution in common; both outcomes of a representation's probabilities enter the divergence,
    of paired stays only; classifiers that nothing uses are left out.

    Several films of a stay are the mean of their features.

    A stay without a film: what is shared comes from the EHR, and the film's distinct representation is masked. The
    method was made for this, so no zero film is fed in any protocol: the option `absent` changes nothing.

    Args:
        ehr: encoder of the series; its pooling and head are not used.
        cxr: encoder of the films; its own head, of radiology labels, is not used.
        n_outputs: labels K.
        options: `dropout`, the share dropped inside the two transformer layers.

    Raises:
        UsageError: the attention heads do not divide the EHR encoder's width.
    """

    modalities = ("ehr", "cxr")
    needs_film = False

    def __init__(self, ehr: EhrEncoder, cxr: CxrEncoder, n_outputs: int, *, options: Mapping[str, Any]) -> None:
        super().__init__()
        dim, dropout = ehr.dim, options["dropout"]
        if dim % HEADS:
            raise UsageError(
                f"the drfuse fusion needs an EHR encoder whose width is a multiple of {HEADS}; got {dim}",
                hint="run again: fusionctl pretrain-ehr --hidden 256",
            )
        self.ehr, self.cxr = ehr, cxr
        self.ehr.requires_grad_(False)
        for part in (ehr.trunk, ehr.summary):
            if part is not None:
                part.requires_grad_(True)
        self.cxr_shared = copy.deepcopy(cxr)
        del self.cxr_shared.head
        rest(cxr)
        self.series_shared = _layer(dim, dropout)
        self.series_distinct = _layer(dim, dropout)
        self.film_shared = nn.Linear(cxr.dim, dim)
        self.film_distinct = nn.Linear(cxr.dim, dim)
        self.align = nn.Sequential(  # the same for both modalities
            nn.Linear(dim, 2 * dim), nn.ReLU(), nn.Linear(2 * dim, dim), nn.ReLU(), nn.Linear(dim, dim)
        )
        self.alone = nn.ModuleList(nn.Linear(dim, n_outputs) for _ in range(3))
        self.query, self.value = nn.Linear(dim, dim), nn.Linear(dim, dim)
        # A bias of the keys would add the same to all three logits of a softmax.
        self.keys = nn.Linear(dim, n_outputs * dim, bias=False)
        self.classifier = nn.Linear(dim, n_outputs)

    def forward(self, batch: Batch) -> Output:
        """Logits (B, K) of a batch, with or without films; in training also the weighted sum of the other losses."""
        series_shared, series_distinct = self._series(batch)
        film_shared, film_distinct = self._films(batch)
        # Logarithms of probabilities, and differences of them, want more digits than bfloat16 has.
        series_shared, film_shared = self.align(series_shared).float(), self.align(film_shared).float()
        pooled = logit_of_mean(series_shared, film_shared)
        shared = torch.where(batch.has_film[:, None], pooled, series_shared)
        tokens = torch.stack([series_distinct, shared, film_distinct], dim=1)
        logits, weights = self._attend(tokens, batch.has_film)
        if not self.training:
            return Output(logits)
        alignment = _mean(jensen_shannon(series_shared, film_shared), batch.has_film)
        orthogonality = _mean(functional.cosine_similarity(series_shared, series_distinct).abs(), batch.own) + _mean(
            functional.cosine_similarity(film_shared, film_distinct).abs(), batch.has_film
        )
        alone, ranking = self._alone(tokens, weights, batch)
        aux_loss = ALIGNMENT * alignment + ORTHOGONALITY * orthogonality + REPRESENTATION * alone + RANKING * ranking
        return Output(logits, aux_loss=aux_loss)

    def _series(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Shared and distinct representation (B, dim) of the series: means over the valid steps."""
        steps = self.ehr.steps(batch.series, batch.lengths)
        if self.ehr.summary is not None:
            steps = steps + self.ehr.summary(batch.series, batch.lengths)[:, None]
        padding = torch.arange(steps.shape[1], device=steps.device) >= batch.lengths[:, None]
        steps = steps.masked_fill(padding[..., None], 0.0)
        shared, distinct = (
            layer(steps, src_key_padding_mask=padding).masked_fill(padding[..., None], 0.0).sum(dim=1)
            / batch.lengths[:, None]
            for layer in (self.series_shared, self.series_distinct)
        )
        return shared, distinct

    def _films(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Shared and distinct representation (B, dim) of the films; zeros where there is none."""
        films = self.cxr.prepared(batch.films)
        of_stays = []
        for encoder, layer in ((self.cxr_shared, self.film_shared), (self.cxr, self.film_distinct)):
            features, stays = by_stay(encoder.features(films), batch.film_rows)
            of_stays.append(by_row(layer(features), stays, len(batch.rows)))
        return of_stays[0], of_stays[1]

    def _attend(self, tokens: Tensor, has_film: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, K) and the weights (B, K, 3) of tokens (B, 3, dim), whose last is masked where no film is."""
        b, n, d = tokens.shape
        present = torch.ones(b, n, dtype=torch.bool, device=tokens.device)
        present[:, -1] = has_film
        query = (self.query(tokens) * present[..., None]).sum(dim=1) / present.sum(dim=1, keepdim=True)
        keys = self.keys(tokens).reshape(b, n, -1, d)
        match = torch.einsum("bd,bnkd->bkn", query, keys) / math.sqrt(d)
        weights = match.masked_fill(~present[:, None], -torch.inf).softmax(dim=2)
        fused = weights @ self.value(tokens)  # (B, K, dim): each label has its own
        return (fused * self.classifier.weight).sum(dim=2) + self.classifier.bias, weights

    def _alone(self, tokens: Tensor, weights: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss of the predictions from each representation alone, and of attention in another order than theirs."""
        logits = torch.stack([head(tokens[:, i]) for i, head in enumerate(self.alone)], dim=2)  # (B, K, 3)
        paired, share_of = batch.labels.masked_fill(~batch.has_film[:, None], torch.nan), distributed.current().share_of
        alone = losses.bce(logits[..., 2], paired, share_of((~paired.isnan()).sum()))
        known = share_of((~batch.labels.isnan()).sum())
        for i in (0, 1):
            alone = alone + losses.bce(logits[..., i], batch.labels, known)
        return alone, ranking_loss(weights, logits, paired)


def _layer(dim: int, dropout: float) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(dim, HEADS, dim_feedforward=FEEDFORWARD, dropout=dropout, batch_first=True)


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of the chosen of (B,) values, this process's part of it; 0, with zero gradients, of none."""
    return torch.where(chosen, values, 0.0).sum() / distributed.current().share_of(chosen.sum())


def logit_of_mean(a: Tensor, b: Tensor) -> Tensor:
    """Logit of the mean of two probabilities that are given as logits, the paper's logit pooling; any shape."""
    log = functional.logsigmoid
    return torch.logaddexp(log(a), log(b)) - torch.logaddexp(log(-a), log(-b))


def jensen_shannon(a: Tensor, b: Tensor) -> Tensor:
    """Jensen-Shannon divergence in nats of Bernoulli variables, summed over a row.

    Args:
        a: (Q, D) logits.
        b: (Q, D) logits.

    Returns:
        (Q,), each from 0 to D ln 2.
    """
    mean, log = logit_of_mean(a, b), functional.logsigmoid
    divergence = sum(x.sigmoid() * (log(x) - log(mean)) + (-x).sigmoid() * (log(-x) - log(-mean)) for x in (a, b))
    return torch.as_tensor(0.5 * divergence).sum(dim=1)


def ranking_loss(weights: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """How far the attention prefers, of two representations, the one that predicts a label worse.

    Args:
        weights: (Q, K, 3) attention.
        logits: (Q, K, 3) predictions from each representation alone; no gradient goes to them.
        labels: (Q, K) 0, 1 or NaN (unknown: nothing is asked).

    Returns:
        Scalar: mean over the three comparisons, of each the mean of the gaps between weights in the wrong order.
    """
    known = ~labels.isnan()
    target = labels.nan_to_num()[..., None].expand_as(logits)
    error = functional.binary_cross_entropy_with_logits(logits.detach(), target, reduction="none")
    total = weights.new_zeros(())
    for i, j in ((2, 0), (1, 0), (1, 2)):
        gap = weights[..., j] - weights[..., i]
        wrong = torch.where(error[..., i] < error[..., j], gap, -gap).clamp(min=0) * known
        total = total + wrong.sum() / distributed.current().share_of((wrong > 0).sum())
    return total / 3
