"""From a preprocess artifact to batches of films with their labels. Letters as in `data/batch.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from fusionctl import parquet
from fusionctl.data.batch import unreadable
from fusionctl.data.variables import CHEXPERT_LABELS
from fusionctl.errors import InputError
from fusionctl.tasks import TASKS

Array = npt.NDArray[Any]
Uncertain = Literal["ignore", "zero", "one"]
RADIOLOGY = "radiology"
# What a label -1 becomes. CheXpert's authors call these choices U-Ignore, U-Zeros and U-Ones (Irvin et al. 2019).
_UNCERTAIN = {"ignore": np.nan, "zero": 0.0, "one": 1.0}


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
    """Films of a preprocess artifact with the labels that a task gives them; N rows, of patients of every split.

    Attributes:
        film: (N,) int32 row of each in `films`.
        subject_id: (N,) int64 patient of the film.
        split: (N,) split of that patient.
        labels: (N, K) float32, 1, 0 or NaN (unknown).
        label_names: K names.
        films: (F, S, S) uint8, memory-mapped; it holds films that are no row here.
    """

    film: npt.NDArray[np.int32]
    subject_id: Array
    split: Array
    labels: npt.NDArray[np.float32]
    label_names: tuple[str, ...]
    films: Array

    @classmethod
    def open(cls, path: Path, *, uncertain: Uncertain = "ignore", task: str = RADIOLOGY) -> FilmData:
        """Open the films of a preprocess artifact.

        Args:
            path: folder of the artifact.
            uncertain: what a radiology label -1 becomes: NaN, 0 or 1.
            task: "radiology": a row is a readable film with the 14 labels of its study, where a finding that a
                labelled report does not mention is 0 (as in the reference code). Else a task's name: a row is a stay's
                film with the stay's labels.

        Raises:
            InputError: a file is missing or unreadable, or the artifact was made for another task.
        """
        try:
            table = parquet.read(path / "films.parquet").sort("film")
            if task == RADIOLOGY:
                names = CHEXPERT_LABELS
                labels = _taught(table.select(names).to_numpy(), _UNCERTAIN[uncertain])
            else:
                names = TASKS[task].labels
                table = _pairs(path, table, names)
                labels = table.select(names).to_numpy().astype(np.float32)
            return cls(
                film=table["film"].to_numpy().astype(np.int32),
                subject_id=table["subject_id"].to_numpy(),
                split=table["split"].to_numpy().astype(str),
                labels=np.ascontiguousarray(labels),
                label_names=names,
                films=np.load(path / "films.npy", mmap_mode="r"),
            )
        except (OSError, ValueError, pl.exceptions.PolarsError) as error:
            raise unreadable(path, error) from error


def _taught(labels: Array, uncertain: float) -> npt.NDArray[np.float32]:
    """Labels as a labeller gives them (1, 0, -1, NaN) to what is taught: 1, 0 or NaN (nothing)."""
    missing = np.isnan(labels)
    not_mentioned = missing & ~missing.all(axis=1, keepdims=True)
    return np.where(not_mentioned, 0.0, np.where(labels < 0, uncertain, labels)).astype(np.float32)


def _pairs(path: Path, films: pl.DataFrame, names: tuple[str, ...]) -> pl.DataFrame:
    """One row per stay and chosen film: the film's own patient and split, and the stay's labels."""
    samples = parquet.read(path / "samples.parquet")
    absent = [name for name in names if name not in samples.columns]
    if absent:
        raise InputError(
            f"{path} was made for another task: it has no label {absent[0]!r}",
            hint="choose the artifact of this task with --preprocess ID (fusionctl status lists them)",
        )
    pairs = parquet.read(path / "pairs.parquet").select("stay_id", "film", "film_hours")
    joined = pairs.join(samples.select("stay_id", *names), on="stay_id")
    return joined.join(films.select("film", "subject_id", "split"), on="film").sort("stay_id", "film_hours", "film")


def collate_films(data: FilmData, rows: Sequence[int] | Array) -> FilmBatch:
    """Read the batch of some films; `rows` (B,) are rows of `data`."""
    rows = np.asarray(rows, dtype=np.int64)
    films = np.asarray(data.films[data.film[rows]])
    return FilmBatch(torch.from_numpy(films)[:, None], torch.from_numpy(data.labels[rows]))
