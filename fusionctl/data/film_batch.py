"""From a preprocess artifact to batches of films with their radiology labels. Letters as in `data/batch.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from fusionctl.data.batch import unreadable
from fusionctl.data.variables import CHEXPERT_LABELS

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class FilmBatch:
    """What CXR pretraining reads.

    Attributes:
        films: (B, 1, S, S) uint8.
        labels: (B, K) float32, NaN where unknown.
    """

    films: Tensor
    labels: Tensor

    def to(self, device: str | torch.device) -> FilmBatch:
        """The same batch on a device."""
        return FilmBatch(self.films.to(device, non_blocking=True), self.labels.to(device, non_blocking=True))


@dataclass(frozen=True)
class FilmData:
    """The films of a preprocess artifact with their radiology labels.

    Attributes:
        subject_id: (F,) int64.
        split: (F,) split of each film's patient.
        labels: (F, 14) float32: 1; 0, also where a labelled report does not mention the finding (as in the reference
            code); NaN where it is uncertain, and in every column of a film without labels.
        films: (F, S, S) uint8, memory-mapped.
    """

    subject_id: Array
    split: Array
    labels: npt.NDArray[np.float32]
    films: Array

    label_names = CHEXPERT_LABELS

    @classmethod
    def open(cls, path: Path) -> FilmData:
        """Open the films of a preprocess artifact.

        Raises:
            InputError: a file is missing or unreadable, or has not the columns of a preprocess artifact.
        """
        try:
            table = pl.read_parquet(path / "films.parquet").sort("film")
            labels = _taught(table.select(CHEXPERT_LABELS).to_numpy())
            split = table["split"].to_numpy().astype(str)
            films = np.load(path / "films.npy", mmap_mode="r")
            return cls(table["subject_id"].to_numpy(), split, labels, films)
        except (OSError, ValueError, pl.exceptions.PolarsError) as error:
            raise unreadable(path, error) from error


def _taught(labels: Array) -> npt.NDArray[np.float32]:
    """Labels as in mimic-cxr-2.0.0-chexpert.csv (1, 0, -1, NaN) to what is taught: 1, 0 or NaN (nothing)."""
    missing = np.isnan(labels)
    not_mentioned = missing & ~missing.all(axis=1, keepdims=True)
    return np.where(not_mentioned, 0.0, np.where(labels < 0, np.nan, labels)).astype(np.float32)


def collate_films(data: FilmData, rows: Sequence[int] | Array) -> FilmBatch:
    """Read the batch of some films; `rows` (B,) are rows of films.parquet."""
    rows = np.asarray(rows, dtype=np.int64)
    return FilmBatch(torch.from_numpy(np.asarray(data.films[rows]))[:, None], torch.from_numpy(data.labels[rows]))
