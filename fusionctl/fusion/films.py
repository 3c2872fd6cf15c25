"""From the films of a batch to one feature a stay."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fusionctl.data.batch import Batch
from fusionctl.models.cxr import CxrEncoder


def features_of(cxr: CxrEncoder, batch: Batch) -> tuple[Tensor, Tensor]:
    """One feature for each stay with a film; see `by_stay`."""
    return by_stay(cxr.embed(batch.films), batch.film_rows)


def token_of(cxr: CxrEncoder, projection: nn.Module, batch: Batch) -> Tensor:
    """(B, D) projected film feature of every stay; zeros, behind the projection, where there is no film."""
    features, stays = features_of(cxr, batch)
    return by_row(projection(features), stays, len(batch.rows))


def by_stay(features: Tensor, film_rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of the features of each stay's films; of one film it is that film's feature, bit for bit.

    Args:
        features: (P, D) of the films of a batch; P may be 0.
        film_rows: (P,) int64 position in the batch of each film's stay, in any order.

    Returns:
        (Q, D) features and (Q,) int64 positions in the batch of the stays that have a film, ascending.
    """
    stays, stay, n_films = torch.unique(film_rows, return_inverse=True, return_counts=True)
    total = features.new_zeros(len(stays), features.shape[1]).index_add(0, stay, features)
    return total / n_films[:, None], stays


def by_row(features: Tensor, stays: Tensor, n_stays: int) -> Tensor:
    """What `by_stay` gives, at each stay's place in the batch; zeros where there is no film.

    Args:
        features: (Q, D) of the stays that have a film.
        stays: (Q,) their positions in the batch.
        n_stays: stays in the batch B.

    Returns:
        (B, D).
    """
    return features.new_zeros(n_stays, features.shape[1]).index_copy(0, stays, features)
