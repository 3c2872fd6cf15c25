"""From a preprocess artifact to batches of tensors.

The artifact holds 17 columns a row; they become the model's 76 only here, for the rows of one batch. Arrays stay on
disk as memory maps: a data set larger than memory costs no more than its batches.

Letters, here and wherever tensors are described: B stays in a batch, T time steps, P films present in a batch,
F films, K labels, M pairs of a stay and a film, N stays, R rows of the grid, V = 17 variables, S side of a cached film
in pixels.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from fusionctl import parquet
from fusionctl.data.variables import VARIABLES
from fusionctl.errors import InputError

if TYPE_CHECKING:
    from fusionctl.corruption import Corruption

Array = npt.NDArray[Any]

_CONTINUOUS = np.array([i for i, v in enumerate(VARIABLES) if not v.is_categorical])
_CATEGORICAL = np.array([i for i, v in enumerate(VARIABLES) if v.is_categorical])
_WIDTHS = np.array([len(v.categories) or 1 for v in VARIABLES])
_FIRST_COLUMN = np.cumsum(_WIDTHS) - _WIDTHS
N_VALUE_COLUMNS = int(_WIDTHS.sum())
N_COLUMNS = N_VALUE_COLUMNS + len(VARIABLES)  # 59 + 17 = 76
# The columns of samples.parquet that are float32 and no label.
_NOT_LABELS = ("film_hours", "last_event_hours", "window_hours", "age")


def column_names() -> list[str]:
    """Names of the 76 columns: values with `=category` where they are one, then `observed:` masks."""
    values = [f"{v.name}={c}" if c is not None else v.name for v in VARIABLES for c in (v.categories or (None,))]
    return values + [f"observed:{v.name}" for v in VARIABLES]


def variable_of_columns() -> list[int]:
    """Which of the 17 variables each of the 59 value columns belongs to."""
    return np.repeat(np.arange(len(VARIABLES)), _WIDTHS).tolist()


def expand(values: Array, observed: Array, normaliser: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    """Standardise the continuous variables, write categories as one-hot columns, and append the masks.

    Args:
        values: (n, 17) physical units; a category is its index, or -1: none, which no column of its group tells.
        observed: (n, 17) bool, measured in this row or not.
        normaliser: `mean` and `sd`, 17 numbers each, as in normaliser.json.

    Returns:
        (n, 76), columns as in `column_names`.
    """
    mean, sd = np.asarray(normaliser["mean"]), np.asarray(normaliser["sd"])
    columns = np.zeros((len(values), N_COLUMNS), dtype=np.float32)
    scaled = (values[:, _CONTINUOUS].astype(np.float64) - mean[_CONTINUOUS]) / sd[_CONTINUOUS]
    columns[:, _FIRST_COLUMN[_CONTINUOUS]] = scaled
    category = values[:, _CATEGORICAL].astype(np.int64)
    # no category is a zero in the first column of its group, which holds a zero already
    np.put_along_axis(columns, np.maximum(category, 0) + _FIRST_COLUMN[_CATEGORICAL], category >= 0, axis=1)
    columns[:, N_VALUE_COLUMNS:] = observed
    return columns


@dataclass(frozen=True)
class Batch:
    """What a fusion method reads.

    Attributes:
        series: (B, T, 76) float32, standardised, zeros after a stay's last row; T is the longest of the batch.
        lengths: (B,) int64 rows of each stay.
        films: (P, 1, S, S) uint8, only those that are there.
        film_rows: (P,) int64 position in the batch of each film's stay, ascending; repeated where a stay has several.
        has_film: (B,) bool.
        labels: (B, K) float32, NaN where unknown.
        rows: (B,) int64 row of each stay in samples.parquet; -1 in the batch of a process that has none in a step.
    """

    series: Tensor
    lengths: Tensor
    films: Tensor
    film_rows: Tensor
    has_film: Tensor
    labels: Tensor
    rows: Tensor

    @property
    def own(self) -> Tensor:
        """(B,) bool, whether a row counts: all but the stand-in of a process without a row of its own."""
        return self.rows >= 0

    def to(self, device: str | torch.device) -> Batch:
        """The same batch on a device."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return Batch(**{name: tensor.to(device, non_blocking=True) for name, tensor in fields.items()})


@dataclass(frozen=True)
class StayData:
    """The samples of a preprocess artifact, in the order of samples.parquet.

    Attributes:
        stay_id: (N,) int64.
        subject_id: (N,) int64.
        split: (N,) "train", "val" or "test".
        first_row: (N,) first row of each stay in `values`.
        n_rows: (N,) rows of each stay.
        film: (N,) row in `films` of the last film chosen, -1 = none.
        pair_film: (M,) rows in `films` of all films chosen, those of one stay side by side, by study time.
        pair_first: (N,) where in `pair_film` each stay's films begin.
        n_films: (N,) how many they are.
        labels: (N, K) float32, NaN = unknown.
        label_names: K names.
        values: (R, 17) float32, memory-mapped.
        observed: (R, 17) bool, memory-mapped.
        films: (F, S, S) uint8, memory-mapped; films of no stay are among them, and zeros where one was unreadable.
        normaliser: content of normaliser.json.
        last_event_hours, film_hours, window_hours: (N,) times that the leak guards compare, hours since intime.
    """

    stay_id: Array
    subject_id: Array
    split: Array
    first_row: Array
    n_rows: Array
    film: Array
    pair_film: Array
    pair_first: Array
    n_films: Array
    labels: npt.NDArray[np.float32]
    label_names: tuple[str, ...]
    values: Array
    observed: Array
    films: Array
    normaliser: Mapping[str, Any]
    last_event_hours: Array
    film_hours: Array
    window_hours: Array

    @classmethod
    def open(cls, path: Path) -> StayData:
        """Open a preprocess artifact.

        Raises:
            InputError: a file is missing or unreadable, or has not the content of a preprocess artifact.
        """
        try:
            samples = parquet.read(path / "samples.parquet")
            names = tuple(n for n, t in samples.schema.items() if t == pl.Float32 and n not in _NOT_LABELS)
            return cls(
                **{n: samples[n].to_numpy() for n in ("stay_id", "subject_id", "first_row", "n_rows", "film")},
                **{n: samples[n].to_numpy() for n in ("last_event_hours", "film_hours", "window_hours")},
                split=samples["split"].to_numpy().astype(str),
                labels=samples.select(names).to_numpy().astype(np.float32, order="C"),
                label_names=names,
                **_pairs(samples, parquet.read(path / "pairs.parquet")),
                **{n: np.load(path / f"{n}.npy", mmap_mode="r") for n in ("values", "observed", "films")},
                normaliser=json.loads((path / "normaliser.json").read_text(encoding="utf-8")),
            )
        except (OSError, ValueError, pl.exceptions.PolarsError) as error:
            raise unreadable(path, error) from error

    def __len__(self) -> int:
        """Number of stays N."""
        return len(self.stay_id)

    def rows_of(self, split: str, *, with_film: bool = False) -> npt.NDArray[np.int64]:
        """Rows of a split, ascending; with `with_film` only those that have a film."""
        return np.flatnonzero((self.split == split) & ((self.film >= 0) | (not with_film)))


def _pairs(samples: pl.DataFrame, pairs: pl.DataFrame) -> dict[str, Array]:
    """The fields of `StayData` about several films a stay.

    Raises:
        ValueError: the two tables do not tell the same.
    """
    stay_id, owner = samples["stay_id"].to_numpy(), pairs["stay_id"].to_numpy()
    first, end = (np.searchsorted(owner, stay_id, side=side) for side in ("left", "right"))
    n_films, film = end - first, pairs["film"].to_numpy()
    last = np.full(len(samples), -1)
    last[n_films > 0] = film[end[n_films > 0] - 1]
    told = np.array_equal(n_films, samples["n_films"]) and np.array_equal(last, samples["film"])
    if not told or n_films.sum() != len(pairs):
        raise ValueError("pairs.parquet and samples.parquet disagree about the films of the stays")
    return {"pair_film": film, "pair_first": first, "n_films": n_films}


def collate(
    data: StayData, rows: Sequence[int] | Array, *, films: bool = True, corruption: Corruption | None = None
) -> Batch:
    """Read the batch of some stays.

    Args:
        data: the samples.
        rows: (B,) rows in samples.parquet.
        films: read the films, all that were chosen for a stay; without, the batch is that of stays that have none.
        corruption: of the inputs.
    """
    rows = np.asarray(rows, dtype=np.int64)
    lengths, first = data.n_rows[rows].astype(np.int64), data.first_row[rows]
    series = np.zeros((len(rows), int(lengths.max(initial=1)), N_COLUMNS), dtype=np.float32)
    step = np.arange(series.shape[1])
    valid = step < lengths[:, None]
    cells = (first[:, None] + step)[valid]
    values, observed = np.asarray(data.values[cells]), np.asarray(data.observed[cells])
    if corruption is not None and corruption.modality != "cxr":
        values, observed = corruption.all_series(values, observed, lengths, data.stay_id[rows])
    series[valid] = expand(values, observed, data.normaliser)
    film_rows, pixels = _read_films(data, rows if films else rows[:0], corruption)
    return Batch(
        series=torch.from_numpy(series),
        lengths=torch.from_numpy(lengths),
        films=torch.from_numpy(pixels)[:, None],
        film_rows=torch.from_numpy(film_rows),
        has_film=torch.from_numpy(np.isin(np.arange(len(rows)), film_rows)),
        labels=torch.from_numpy(data.labels[rows]),
        rows=torch.from_numpy(rows),
    )


def _read_films(data: StayData, rows: Array, corruption: Corruption | None) -> tuple[Array, Array]:
    """Positions (P,) in `rows` of the stays whose films they are, and the films (P, S, S)."""
    n_films = data.n_films[rows]
    film_rows = np.repeat(np.arange(len(rows)), n_films)
    number = np.arange(len(film_rows)) - (np.cumsum(n_films) - n_films)[film_rows]  # of the film within its stay
    chosen = data.pair_film[data.pair_first[rows][film_rows] + number]
    if corruption is None or corruption.modality == "ehr" or not len(chosen):
        return film_rows, np.asarray(data.films[chosen])
    chosen = corruption.films(chosen, data.stay_id[rows[film_rows]])
    kept = chosen >= 0
    film_rows, number = film_rows[kept], number[kept]
    pixels = np.asarray(data.films[chosen[kept]])
    return film_rows, corruption.all_films(pixels, data.stay_id[rows[film_rows]], number)


def unreadable(path: Path, error: Exception) -> InputError:
    """The error for a preprocess artifact that cannot be read."""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InputError(
        f"{path} is not a readable preprocess artifact: {reason}", hint="rebuild it: fusionctl preprocess --force"
    )
